"""Heatmap -> prompt points: where to click EfficientSAM."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MAX_POINTS = 6


@dataclass(frozen=True)
class PromptingOptions:
    """How points are drawn from a heatmap.

    max_points: 1..6 (EfficientSAM cuts more in silence). sigma: of the Gaussian smoothing, in patches, 0 for none.
    suppression: after each point, patches closer than this (Chebyshev distance, in patches) are out.
    min_share: points must reach this share of the highest (smoothed) value.
    """

    max_points: int = 3
    sigma: float = 1.0
    suppression: int = 1
    min_share: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.max_points <= MAX_POINTS:
            raise ValueError(f"max_points must be in 1..{MAX_POINTS}, got {self.max_points}")
        if self.sigma < 0 or self.suppression < 0 or not 0 <= self.min_share <= 1:
            raise ValueError(f"prompting options out of range: {self}")


def smooth(heatmap: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing of a float32 [G, G] map; the border is replicated, so that edges lose nothing."""
    if sigma == 0:
        return heatmap
    return cv2.GaussianBlur(heatmap, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def prompt_points(heatmap: np.ndarray, size: tuple[int, int], options: PromptingOptions) -> np.ndarray:
    """The salient points of a heatmap, most salient first.

    heatmap: float32 [G, G'], finite; the grid covers the whole image of `size` (height, width).
    Returns float32 [N, 2], (x, y) in pixels at the centres of N distinct patches, 1 <= N <= options.max_points.
    A flat heatmap, which points nowhere, gives its centre.
    """
    rows, columns = heatmap.shape
    height, width = size
    value = smooth(np.ascontiguousarray(heatmap, np.float32), options.sigma)
    highest, lowest = float(value.max()), float(value.min())
    if highest - lowest < 1e-12:
        return np.array([[width / 2, height / 2]], np.float32)
    value = (value - lowest) / (highest - lowest)
    points = []
    for _ in range(options.max_points):
        row, column = np.unravel_index(int(value.argmax()), value.shape)
        if points and value[row, column] < max(options.min_share, 1e-6):
            break
        points.append(((column + 0.5) * width / columns, (row + 0.5) * height / rows))
        reach = options.suppression
        value[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = -1
    return np.array(points, np.float32)
