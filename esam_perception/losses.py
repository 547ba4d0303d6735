"""Losses of predicted masks. Logits and targets float32 [..., h, w]; targets in 0..1; all return float32 [...]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """`1 - (2 |p t| + 1) / (|p| + |t| + 1)`, in 0..1 (Milletari et al. 2016; the 1 as in segment-anything: nothing
    found where nothing is costs nothing)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (probability.sum((-2, -1)) + target.sum((-2, -1)) + 1)


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the pixels."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((-2, -1))


def focal_loss(logits: Tensor, target: Tensor, alpha: float = FOCAL_ALPHA, gamma: float = FOCAL_GAMMA) -> Tensor:
    """Focal loss (Lin et al. 2017), mean over the pixels: cross-entropy times `(1 - p_t) ** gamma`, things weighed by
    `alpha` and background by `1 - alpha`."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (1 - right) ** gamma * entropy).mean((-2, -1))


@torch.no_grad()
def logits_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the masks at logit 0 and target 0.5; 0 where both are empty. (Of bool masks in numpy: images.masks.)"""
    found, wanted = logits > 0, target > 0.5
    return (found & wanted).sum((-2, -1)) / (found | wanted).sum((-2, -1)).clamp_min(1)
