"""All matches of a frame as one image: labels, how sure they are, heat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esam_perception.pipeline.fusion import native_heatmap
from esam_perception.types import Match


def label_image(matches: Sequence[Match], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels, confidence), both uint8 [H, W]: the label of the segment that is surest of each pixel, and how sure
    (0..255); 0 where there is none."""
    labels = np.zeros((height, width), np.uint8)
    best = np.zeros((height, width), np.float32)
    for segment in (segment for match in matches for segment in match.segments):
        wins = segment.mask & (segment.probability > best)
        labels[wins] = segment.label
        best[wins] = segment.probability[wins]
    return labels, np.rint(best * 255).astype(np.uint8)


def joint_heatmap(matches: Sequence[Match], alpha: float, height: int, width: int) -> np.ndarray:
    """float32 [H, W] in 0..1: the maximum over the queries of their fused heatmaps at native resolution.

    A match without segments has no mask at native resolution; its map is the one of the patch grid.
    """
    joint = np.zeros((height, width), np.float32)
    for match in matches:
        if match.segments:
            mask = np.max([segment.salience * segment.probability for segment in match.segments], axis=0)
            heat = match.gradcam if match.heat is None else match.heat
            own = native_heatmap(heat, mask, alpha, height, width)
        else:
            own = native_heatmap(match.heatmap, None, alpha, height, width)
        np.maximum(joint, own, out=joint)
    return joint
