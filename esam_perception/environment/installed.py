"""Where what comes with the package and is no Python lies: msg/, config/ ..."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "esam_perception"
_HERE = Path(__file__).resolve().parents[1]


def candidates(name: str) -> list[Path]:
    """Where a file or folder `name` of the package may be: beside the sources, or below the share/ of what the package is
    installed in (pip, colcon, apt), nearest first."""
    return [_HERE.parent / name, *(up / "share" / PACKAGE / name for up in _HERE.parents)]


def installed(name: str) -> Path | None:
    """The first of them that exists."""
    return next((path for path in candidates(name) if path.exists()), None)
