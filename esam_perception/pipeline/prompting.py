"""Heatmap -> prompts for EfficientSAM: points in, and boxes around, the salient regions of the map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from esam_perception.errors import InvalidOptions
from esam_perception.pipeline.fusion import min_max, resize_map
from esam_perception.types import PROMPT_SLOTS, PromptLabel

KINDS = ("points", "box", "box_and_points")
SOURCES = ("gradcam", "mask_head", "both")


@dataclass(frozen=True)
class PromptingOptions:
    """How prompts are drawn from a heatmap.

    source: the heat that prompts are drawn from: `gradcam`; `mask_head`, the probability that the profile's
    text-prompted mask head gives; `both`, their product. kind: `points`, `box`, or `box_and_points`. max_points: of one region, at most 6 (4 beside a box: EfficientSAM has
    six slots, a box takes two). sigma: of the Gaussian smoothing, in patches, 0 for none. suppression: after each
    point, patches closer than this (Chebyshev distance, in patches) are out. min_share: a region is what hangs together
    around a peak of the smoothed map from this share of that peak's value up. max_regions: how many regions are asked
    about, the one with the highest peak first; each may give a segment. further_share: from which share of the highest
    peak on another one counts. A peak whose region would run into a higher one's is a shoulder of that, not a region.
    """

    kind: str = "points"
    max_points: int = 3
    sigma: float = 1.0
    suppression: int = 1
    min_share: float = 0.5
    max_regions: int = 1
    source: str = "gradcam"
    further_share: float = 0.5

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise InvalidOptions(f"source must be one of {SOURCES}, got {self.source!r}")
        if self.kind not in KINDS:
            raise InvalidOptions(f"kind must be one of {KINDS}, got {self.kind!r}")
        most = PROMPT_SLOTS - 2 if self.kind == "box_and_points" else PROMPT_SLOTS
        if not 1 <= self.max_points <= most:
            raise InvalidOptions(
                f"max_points must be in 1..{most} for prompts of kind {self.kind}, got {self.max_points}"
            )
        shares_fit = 0 < self.min_share <= 1 and 0 < self.further_share <= 1
        if self.sigma < 0 or self.suppression < 0 or not shares_fit or self.max_regions < 1:
            raise InvalidOptions(f"prompting options out of range: {self}")


@dataclass(frozen=True, eq=False)
class Prompt:
    """One question to EfficientSAM. points: float32 [N, 2], (x, y) in pixels; labels: float32 [N], of PromptLabel; N <= 6.
    salience: the highest value of its region against the whole map's, 0..1."""

    points: np.ndarray
    labels: np.ndarray
    salience: float = 1.0


def smooth(heatmap: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing of a float32 [G, G] map; the border is replicated, so that edges lose nothing."""
    if sigma == 0:
        return heatmap
    return cv2.GaussianBlur(heatmap, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def choose_heat(gradcam: np.ndarray, mask_head: np.ndarray | None, source: str) -> np.ndarray:
    """The heat of a `source` of PromptingOptions, float32 in 0..1 (min-max).

    gradcam: float32 [G, G] in 0..1. mask_head: float32 [m, m] in 0..1. Returns [G, G] or, with a mask head, [m, m].
    """
    if source == "gradcam" or mask_head is None:
        return gradcam
    if source == "mask_head":
        return min_max(mask_head)
    return min_max(mask_head * resize_map(gradcam, *mask_head.shape))


def make_prompts(heatmap: np.ndarray, size: tuple[int, int], options: PromptingOptions, cells: int = 1) -> list[Prompt]:
    """A prompt for each salient region of a heatmap, the region with the peak first.

    heatmap: float32 [G, G'], finite; the grid covers the whole image of `size` (height, width); `cells`: how many of its
    cells a patch is wide, by which sigma and suppression are scaled. Points are centres of distinct cells, most salient
    first; a box holds all cells of its region. A flat heatmap, which points nowhere, gives one point in the centre.
    """
    height, width = size
    rows, columns = heatmap.shape
    value = smooth(np.ascontiguousarray(heatmap, np.float32), options.sigma * cells)
    highest, lowest = float(value.max()), float(value.min())
    if highest - lowest < 1e-12:
        return [Prompt(np.array([[width / 2, height / 2]], np.float32), np.array([PromptLabel.POINT], np.float32))]
    value = (value - lowest) / (highest - lowest)
    patch = np.array([width / columns, height / rows], np.float32)
    prompts = []
    for region in _regions(value, options):
        points, labels = np.empty((0, 2), np.float32), []
        if options.kind != "points":
            below, right = np.nonzero(region)
            points = np.array([[right.min(), below.min()], [right.max() + 1, below.max() + 1]], np.float32) * patch
            labels = [PromptLabel.BOX_TOP_LEFT, PromptLabel.BOX_BOTTOM_RIGHT]
        if options.kind != "box":
            peaks = _peaks(np.where(region, value, -1.0), options.max_points, options.suppression * cells)
            points = np.concatenate([points, (peaks + np.float32(0.5)) * patch])
            labels += [PromptLabel.POINT] * len(peaks)
        prompts.append(Prompt(points.astype(np.float32), np.array(labels, np.float32), float(value[region].max())))
    return prompts


def _regions(value: np.ndarray, options: PromptingOptions) -> list[np.ndarray]:
    """The salient regions of a map in 0..1, bool [G, G'] each, by their peaks."""
    regions: list[np.ndarray] = []
    free = value.copy()  # -1 where a region or the shoulder of one is
    while len(regions) < options.max_regions:
        row, column = np.unravel_index(int(free.argmax()), free.shape)
        if regions and free[row, column] < options.further_share:
            break
        _, labels = cv2.connectedComponents(
            (value >= options.min_share * value[row, column]).astype(np.uint8), connectivity=8
        )
        around = labels == labels[row, column]
        if not any((around & region).any() for region in regions):
            regions.append(around)
        free[around] = -1
    return regions


def _peaks(value: np.ndarray, max_points: int, reach: int) -> np.ndarray:
    """Greedy maxima of a region: float32 [N, 2] as (column, row). Cells outside hold -1."""
    value = value.copy()
    peaks = []
    for _ in range(max_points):
        row, column = np.unravel_index(int(value.argmax()), value.shape)
        if value[row, column] < 0:
            break
        peaks.append((column, row))
        value[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = -1
    return np.array(peaks, np.float32)
