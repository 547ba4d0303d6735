"""A recording of Rerun: into a file, to a viewer elsewhere, or in a window; and what is shown where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esam_perception.errors import EsamError

APPLICATION = "esam_perception"


class RerunError(EsamError):
    """Rerun is not installed, or cannot do what was asked for; one line that says what to do."""


def load_rerun() -> Any:
    """The rerun module. It is large, so that it is installed when wanted. Raises RerunError, which names the cure."""
    try:
        import rerun
        import rerun.blueprint
    except ModuleNotFoundError as error:
        raise RerunError("esam view needs Rerun, which is not installed: pip install rerun-sdk "
                         "(about 200 MB, Python 3.11 or newer; in a clone: ./esam shell -c 'pip install rerun-sdk')"
                         ) from error  # fmt: skip
    return rerun


def layout(rr: Any) -> Any:
    """What the window shows where: pictures to the left, 3D, scores and verdicts to the right."""
    views = rr.blueprint
    pictures = views.Vertical(
        views.Spatial2DView(origin="camera", name="Image, masks"), views.Spatial2DView(origin="heatmap", name="Heatmap")
    )
    numbers = views.Vertical(
        views.Spatial3DView(origin="/", contents=["targets/**", "points/**", "camera"], name="Targets in 3D"),
        views.TimeSeriesView(origin="scores", name="ITM score"),
        views.TextLogView(origin="verdicts", name="Verdicts"),
    )
    return views.Blueprint(views.Horizontal(pictures, numbers), collapse_panels=True)


def open_recording(rr: Any, file: Path | None = None, url: str | None = None) -> Any:
    """A RecordingStream into a file, to the viewer at a URL, or into a window that is opened. Raises RerunError.

    rr: the rerun module.
    """
    recording = rr.RecordingStream(APPLICATION)
    try:
        if file:
            recording.save(file, default_blueprint=layout(rr))
        elif url:
            recording.connect_grpc(url, default_blueprint=layout(rr))
        else:
            recording.spawn(default_blueprint=layout(rr))
    except (RuntimeError, OSError, ValueError) as error:
        raise RerunError(f"Rerun cannot do this: {_first_line(error)}; without a screen use --save FILE.rrd") from error
    return recording


def finish(recording: Any) -> None:
    """Hand over what is still on its way. Raises RerunError where nobody takes it."""
    try:
        recording.flush()
    except RuntimeError as error:
        raise RerunError(f"no Rerun viewer took it ({_first_line(error)}): use --save FILE.rrd") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
