"""EfficientSAM learns masks: from clicks and boxes on whole scenes, then from prompts of real heatmaps too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.blip_esam_itm import FOCAL_WEIGHT
from esam_perception.losses import dice_loss, focal_loss, logits_iou
from esam_perception.segmentation import EfficientSam
from esam_perception.training.stages.heat_prompts import HeatPrompts
from esam_perception.training.stages.image_tower import change_light

PROMPTS = 5
POINTS = 6


class OutlinedScenes(Protocol):
    """What it learns from: the tabletop's SceneCache, a user's OwnScenes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, Sequence[Any]]:
        """(image uint8 [side, side, 3], instances [side, side], things with `label` and `visible`)."""


def draw_prompt(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A prompt for the object of `mask` (bool [h, w], not empty): points [6, 2] (x, y) and labels [6].

    Mostly what the pipeline will ask: one to six points of a coarse grid that lie on the object or beside it; a
    fourth are boxes, their corners moved by up to a tenth.
    """
    points, labels = np.full((POINTS, 2), -1.0, np.float32), np.full(POINTS, -1.0, np.float32)
    rows, columns = np.nonzero(mask)
    kind = rng.random()
    if kind < 0.25:
        low = np.array([columns.min(), rows.min()], np.float32)
        high = np.array([columns.max() + 1, rows.max() + 1], np.float32)
        points[0] = low + rng.uniform(-0.1, 0.1, 2) * (high - low)
        points[1] = high + rng.uniform(-0.1, 0.1, 2) * (high - low)
        labels[:2] = (2, 3)
        return points, labels
    count = 1 if kind < 0.65 else int(rng.integers(2, POINTS + 1))
    chosen = rng.integers(len(rows), size=count)
    points[:count] = np.stack([columns[chosen], rows[chosen]], 1) + 0.5
    if kind > 0.5:
        # patch centres of BLIP's 16 px grid: they may miss a small object by half a patch
        points[:count] = (points[:count] // 16 + 0.5) * 16
        points[:count] += rng.uniform(-2, 2, (count, 2))
    labels[:count] = 1
    return points, labels


class SegmentationStage(nn.Module):
    """EfficientSAM with its losses. heat: where half of the images have their prompts from, as far as it gives some."""

    def __init__(self, model: EfficientSam, heat: HeatPrompts | None = None) -> None:
        super().__init__()
        self.model, self._heat = model, heat

    def loss_of_clicks(self, cache: OutlinedScenes, step: int, batch: int, stream: int = 30) -> dict[str, Tensor]:
        """Losses of the batch of this step (see loop.train_stage) of a stream of random numbers."""
        rng = np.random.default_rng([stream, step])
        images: list[np.ndarray] = []
        masks, points, labels = [], [], []
        while len(images) < batch:
            image, instances, objects = cache[int(rng.integers(len(cache)))]
            seen = [o for o in objects if o.visible and (instances == o.label).any()]
            if not seen:
                continue
            if rng.random() < 0.5:
                image, instances = image[:, ::-1], instances[:, ::-1]
            images.append(image)
            prompts = []
            if self._heat is not None and rng.random() < 0.5:
                prompts = self._heat.draw(image, instances, seen, rng)[:PROMPTS]
            while len(prompts) < PROMPTS:
                label = seen[rng.integers(len(seen))].label
                prompts.append((*draw_prompt(instances == label, rng), label))
            for own_points, own_labels, label in prompts:
                masks.append(instances == label)
                points.append(own_points)
                labels.append(own_labels)
        device = next(self.parameters()).device
        pixels = torch.from_numpy(change_light(np.stack(images), rng)).to(device).permute(0, 3, 1, 2).float() / 255
        side, shape = pixels.shape[-1], (batch, PROMPTS, POINTS)
        embeddings = self.model.encode_image(pixels)
        logits, predicted = self.model.decode(
            embeddings, torch.from_numpy(np.stack(points)).to(device).view(*shape, 2),
            torch.from_numpy(np.stack(labels)).to(device).view(shape), size=(side, side),
        )  # fmt: skip
        # losses are sums over many pixels: in float32 whatever the network computes in
        logits, predicted = logits.flatten(0, 1).float(), predicted.flatten(0, 1).float()
        target = torch.from_numpy(np.stack(masks)).to(device).float()[:, None]
        target = F.interpolate(target, logits.shape[-2:], mode="area" if logits.shape[-1] < side else "bilinear")[:, 0]
        target = target[:, None].expand_as(logits)
        each, iou = FOCAL_WEIGHT * focal_loss(logits, target) + dice_loss(logits, target), logits_iou(logits, target)
        best = each.min(1).values.mean()
        iou_error = F.mse_loss(predicted, iou)
        loss = best + 0.05 * each.mean() + iou_error
        with torch.no_grad():
            chosen = iou.gather(1, predicted.argmax(1, keepdim=True)).mean()
        return {"loss": loss, "best": best, "iou_error": iou_error, "iou": chosen, "best_iou": iou.max(1).values.mean()}
