"""What the demo's listener saw: a table, results.json and a contact sheet."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esam_perception.images.drawing import contact_sheet
from esam_perception.images.files import write_rgb
from esam_perception.types import Verdict

if TYPE_CHECKING:
    from esam_perception.ros.viewer.demo_listener import SeenFrame

# Names of a row's values in results.json -> titles in the table.
COLUMNS = {
    "query": "query",
    "truth": "truth",
    "verdict": "verdict",
    "score": "score",
    "predicted_iou": "predicted IoU",
    "true_iou": "true IoU",
    "target": "3D target x, y, z",
    "latency": "latency",
}
Row = tuple[str, ...]


def rows_of(frames: Sequence[SeenFrame], queries: Sequence[str], scene: dict[str, Any] | None) -> list[Row]:
    """A row a query, of COLUMNS: medians over the frames (at least one), the commonest verdict, the last 3D target.

    frames: results for exactly these queries. scene: the camera's truth, where it is known.
    """
    latency = f"{statistics.median(frame.latency_ms for frame in frames):.0f} ms"
    rows: list[Row] = []
    for i, text in enumerate(queries):
        truth = next((p for p in scene["phrases"] if p["text"] == text), None) if scene else None
        matches = [frame.array.matches[i] for frame in frames]
        best = [match.segments[0] for match in matches if match.segments]
        ious = [frame.true_iou(i, truth["labels"]) for frame in frames] if truth and truth["true"] else []
        targets = [segment for segment in best if segment.has_target]
        row = (
            text,
            "?" if truth is None else ("there" if truth["true"] else "absent"),
            statistics.mode(Verdict(match.verdict).name for match in matches),
            _median([match.itm_score for match in matches]),
            _median([segment.predicted_iou for segment in best]),
            _median(ious),
            _place(targets[-1]) if targets else "-",
            latency,
        )
        rows.append(row)
    return rows


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if values else "-"


def _place(segment: Any) -> str:
    """Where the target of an esam_perception/Segment is, in the camera's frame, and how sure that is."""
    at, covariance = segment.target.pose.position, segment.target.covariance
    sigma = sum(covariance[i * 7] for i in range(3)) ** 0.5
    return f"{at.x:.2f}, {at.y:.2f}, {at.z:.2f} m +- {100 * sigma:.1f} cm"


def table(rows: Sequence[Row]) -> str:
    """The rows under their titles, the columns as wide as their contents."""
    titles = tuple(COLUMNS.values())
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    shown = (titles, tuple("-" * width for width in widths), *rows)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in shown)


def about(frames: Sequence[SeenFrame]) -> str:
    """How fast it was, and what the node left out."""
    latency, last = [frame.latency_ms for frame in frames], frames[-1].array
    return (
        f"{len(frames)} frames; latency (of all queries together, from the image's stamp to the result here): median "
        f"{statistics.median(latency):.0f} ms, worst {max(latency):.0f} ms; model '{last.profile}'; the node dropped "
        f"{last.frames_dropped} frames for newer ones and refused {last.frames_refused}"
    )


def write(folder: Path, frames: Sequence[SeenFrame], rows: Sequence[Row]) -> Path:
    """Write results.json and contact_sheet.png, of the last frame, into a folder; returns the sheet's path.

    Raises ImageFileError."""
    results = {
        "rows": [dict(zip(COLUMNS, row)) for row in rows],
        "latency_ms": [frame.latency_ms for frame in frames],
        "profile": frames[-1].array.profile,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    sheet = folder / "contact_sheet.png"
    write_rgb(sheet, contact_sheet(frames[-1].image, frames[-1].core_matches()))
    return sheet
