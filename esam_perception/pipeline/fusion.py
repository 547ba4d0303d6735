"""Heatmap + mask -> fused heatmap; choosing among EfficientSAM's candidate masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from esam_perception.errors import InvalidOptions

CHOICES = ("predicted_iou", "agreement")


@dataclass(frozen=True)
class FusionOptions:
    """alpha: weight of the Grad-CAM map against the mask, 0..1. candidate_choice: `predicted_iou`, the candidate that
    EfficientSAM trusts most; `agreement`, that estimate times the share of the heatmap's mass that the mask holds."""

    alpha: float = 0.5
    candidate_choice: str = "predicted_iou"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InvalidOptions(f"alpha must be in 0..1, got {self.alpha}")
        if self.candidate_choice not in CHOICES:
            raise InvalidOptions(f"candidate_choice must be one of {CHOICES}, got {self.candidate_choice!r}")


def min_max(heatmap: np.ndarray) -> np.ndarray:
    """Scale to 0..1 (float32). A flat map, which says nothing, becomes 0."""
    low, high = float(heatmap.min()), float(heatmap.max())
    if high - low <= 1e-12 * max(1.0, abs(high)) or high - low < 1e-30:
        return np.zeros_like(heatmap, np.float32)
    return ((heatmap - low) / (high - low)).astype(np.float32)


def resize_map(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a float32 map that covers the whole image: area average down, bilinear up."""
    shrinks = height <= values.shape[0] and width <= values.shape[1]
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def fuse(gradcam: np.ndarray, probability: np.ndarray, alpha: float) -> np.ndarray:
    """`alpha * gradcam + (1 - alpha) * mask` at the size of `gradcam`.

    gradcam: float32 [G, G'] in 0..1 (min-max). probability: float32 [h, w] in 0..1 (sigmoid of the mask's logits),
    brought to the grid by area average (up: bilinear). Returns float32 [G, G'] in 0..1.
    """
    mask = resize_map(probability, *gradcam.shape)
    return np.clip(alpha * gradcam + (1 - alpha) * mask, 0, 1).astype(np.float32)


def native_heatmap(
    gradcam: np.ndarray, probability: np.ndarray | None, alpha: float, height: int, width: int
) -> np.ndarray:
    """The fused map at any resolution, for display and for its peak: float32 [height, width] in 0..1.

    probability: float32 [h, w] of the chosen mask, or None where there is none: then the Grad-CAM map alone.
    """
    wide = resize_map(gradcam, height, width)
    if probability is None:
        return wide
    return fuse(wide, probability, alpha)


def choose_candidate(predicted_iou: np.ndarray, probabilities: np.ndarray, gradcam: np.ndarray, choice: str) -> int:
    """Index of the best candidate mask.

    predicted_iou: float32 [C]. probabilities: float32 [C, h, w]. gradcam: float32 [G, G'] in 0..1. choice: see
    FusionOptions. EfficientSAM's candidates come in no order.
    """
    if choice == "predicted_iou":
        return int(predicted_iou.argmax())
    heat = resize_map(gradcam, *probabilities.shape[1:])
    held = (probabilities * heat).sum((1, 2)) / max(float(heat.sum()), 1e-6)
    return int((predicted_iou * held).argmax())
