"""Masks as arrays: overlap and bounding box."""

from __future__ import annotations

import numpy as np


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool masks of one shape, 0..1; 0 where both are empty. Raises ValueError for two shapes."""
    if a.shape != b.shape:
        raise ValueError(f"the masks differ in shape: {list(a.shape)} and {list(b.shape)}")
    return int(np.count_nonzero(a & b)) / max(1, int(np.count_nonzero(a | b)))


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the set pixels of a bool [H, W] mask; all 0 where none is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
