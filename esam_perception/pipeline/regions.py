"""Heatmap + EfficientSAM -> a mask for every salient region: prompt, decode, choose among the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from esam_perception.images.masks import bounding_box, mask_iou
from esam_perception.pipeline.fusion import FusionOptions, choose_candidate
from esam_perception.pipeline.prompting import Prompt, PromptingOptions, make_prompts
from esam_perception.segmentation import EfficientSam, upsample_mask
from esam_perception.types import PromptLabel, Segment

# Masks that overlap more than this are one thing, found from two regions of the heatmap.
SAME_THING_IOU = 0.5
# BLIP's normalisation makes it 0
MEAN_COLOUR = (123, 117, 104)


@dataclass(frozen=True, eq=False)
class RegionMask:
    """The chosen candidate of one region. logits: [m, m] on the model's device; probability: float32 [m, m], their
    sigmoid; predicted_iou: EfficientSAM's own."""

    logits: Tensor
    probability: np.ndarray
    predicted_iou: float
    prompt: Prompt


def find_regions(
    segmenter: EfficientSam,
    embeddings: Tensor,
    heat: np.ndarray,
    size: tuple[int, int],
    prompting: PromptingOptions,
    fusion: FusionOptions,
    cells: int = 1,
) -> list[RegionMask]:
    """What `find_all_regions` says of one heatmap."""
    return find_all_regions(segmenter, embeddings, [heat], size, prompting, fusion, cells)[0]


@torch.inference_mode()
def find_all_regions(
    segmenter: EfficientSam,
    embeddings: Tensor,
    heats: Sequence[np.ndarray],
    size: tuple[int, int],
    prompting: PromptingOptions,
    fusion: FusionOptions,
    cells: int = 1,
) -> list[list[RegionMask]]:
    """For each heatmap, the masks of its salient regions at low resolution, the region with the peak first; at least one.
    The regions of all heatmaps are decoded together.

    embeddings: of `EfficientSam.encode_image`, [1, D, g, g]. heats: float32 [G, G] in 0..1; cells: of them to a patch
    (see make_prompts). size: (height, width) of the image. Regions whose masks are the same thing as an earlier one's
    of their heatmap, or empty, are left out.
    """
    prompts = [make_prompts(heat, size, prompting, cells) for heat in heats]
    together = [prompt for own in prompts for prompt in own]
    if not together:
        return []
    # prompts of fewer points are padded to the longest; the model pads all of them to its slots in any case
    slots = max(len(prompt.labels) for prompt in together)
    points = np.full((1, len(together), slots, 2), -1, np.float32)
    labels = np.full((1, len(together), slots), PromptLabel.PADDING, np.float32)
    for row, prompt in enumerate(together):
        points[0, row, : len(prompt.points)], labels[0, row, : len(prompt.labels)] = prompt.points, prompt.labels
    logits, predicted = segmenter.decode(embeddings, torch.from_numpy(points), torch.from_numpy(labels), size)
    logits = logits[0].float()
    probabilities = logits.sigmoid().cpu().numpy()
    predicted_iou = predicted[0].float().cpu().numpy()
    all_found, first = [], 0
    for heat, own in zip(heats, prompts):
        found: list[RegionMask] = []
        for row, prompt in enumerate(own, start=first):
            best = choose_candidate(predicted_iou[row], probabilities[row], heat, fusion.candidate_choice)
            probability = probabilities[row, best]
            mask = probability > 0.5
            if found and (
                not mask.any() or any(mask_iou(mask, one.probability > 0.5) > SAME_THING_IOU for one in found)
            ):
                continue
            found.append(RegionMask(logits[row, best], probability, float(predicted_iou[row, best]), prompt))
        first += len(own)
        all_found.append(found)
    return all_found


def mask_map(regions: Sequence[RegionMask]) -> np.ndarray:
    """The masks of a query as one map, float32 [m, m]: the highest probability of any, each weighed by its region's
    salience, so that the strongest region stays the strongest."""
    joint: np.ndarray = np.max([region.prompt.salience * region.probability for region in regions], axis=0)
    return joint


@torch.inference_mode()
def native_segment(region: RegionMask, size: tuple[int, int], label: int) -> Segment | None:
    """The region at native resolution; None where nothing of its mask is left there."""
    native = upsample_mask(region.logits, size)
    mask = (native > 0).cpu().numpy()
    if not mask.any():
        return None
    probability = native.sigmoid().float().cpu().numpy()
    return Segment(
        label, mask, probability, region.predicted_iou, bounding_box(mask), region.prompt.points,
        salience=region.prompt.salience,
    )  # fmt: skip


def masked_crop(image: np.ndarray, segment: Segment, window: float) -> np.ndarray:
    """What BLIP sees of a segment by itself: the square window around its box, everything outside the mask in the mean
    colour of BLIP's training images.

    image: uint8 [H, W, 3] RGB. window: the least side of the square, as a share of the image's longer side: 1 keeps the
    scale that things have in the whole image. Returns uint8 [side, side, 3].
    """
    x, y, width, height = segment.box
    side = max(round(1.2 * max(width, height)), round(window * max(image.shape[:2])), 1)
    left, top = x + (width - side) // 2, y + (height - side) // 2
    crop = np.empty((side, side, 3), np.uint8)
    crop[:] = MEAN_COLOUR
    rows = slice(max(top, 0), min(top + side, image.shape[0]))
    columns = slice(max(left, 0), min(left + side, image.shape[1]))
    part = crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    inside = segment.mask[rows, columns]
    part[inside] = image[rows, columns][inside]
    return crop
