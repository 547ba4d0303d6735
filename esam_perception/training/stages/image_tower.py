"""Stage 1: the image tower learns shapes and colours on small crops, by naming what lies under every patch.

Crops of 64 px hold one or two objects and cost a sixteenth of a whole image, which is what makes this affordable on a
CPU. Names of patches are also an auxiliary loss of stage 2 (the heads are thrown away in the end).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.matching.image_encoder import encode_image, normalise
from esam_perception.tabletop.words import CATEGORIES, COLOURS
from esam_perception.training.data.scenes import SIDE, SceneCache

CROP = 64
IGNORED = -100
COLOUR_INDEX = {name: i + 1 for i, name in enumerate(COLOURS)}
CATEGORY_INDEX = {name: i + 1 for i, name in enumerate(CATEGORIES)}


def width_of(vision_model: nn.Module) -> int:
    """Of the features of BLIP's image tower."""
    return int(cast(Any, vision_model).config.hidden_size)


def patch_of(vision_model: nn.Module) -> int:
    """The side of a patch of BLIP's image tower, in pixels."""
    return int(cast(Any, vision_model).embeddings.patch_size)


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 [B, h, w, 3] RGB -> float32 [B, 3, h, w], normalised as BLIP takes it."""
    return normalise(torch.from_numpy(images).permute(0, 3, 1, 2).float())


def change_light(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, white balance and sensor noise at random, small enough that colours keep their names."""
    count = len(images)
    gain = rng.uniform(0.8, 1.2, (count, 1, 1, 1)) * rng.uniform(0.95, 1.05, (count, 1, 1, 3))
    gamma = rng.uniform(0.85, 1.18, (count, 1, 1, 1)).astype(np.float32)
    light = (images / np.float32(255)) ** gamma * gain.astype(np.float32)
    light += rng.normal(0, 0.012, images.shape).astype(np.float32)
    return (np.clip(light, 0, 1) * 255).astype(np.uint8)


def patch_coverage(instances: np.ndarray, patch: int, labels: int) -> np.ndarray:
    """Share of each patch that each object covers: uint8 [h, w] -> float32 [labels + 1, h / patch, w / patch]."""
    h, w = instances.shape
    blocks = (
        instances.reshape(h // patch, patch, w // patch, patch)
        .transpose(0, 2, 1, 3)
        .reshape(h // patch, w // patch, -1)
    )
    return np.stack([(blocks == label).mean(-1, dtype=np.float32) for label in range(labels + 1)])


def patch_names(instances: np.ndarray, objects, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Category and colour of every patch, int64 [h / patch, w / patch]: 0 is background; patches that are neither
    plainly background nor plainly one object are IGNORED."""
    coverage = patch_coverage(instances, patch, len(objects))
    best = coverage[1:].argmax(0)
    share = coverage[1:].max(0)
    category = np.array([CATEGORY_INDEX[o.category] for o in objects])[best]
    colour = np.array([COLOUR_INDEX[o.colour] for o in objects])[best]
    empty, unclear = coverage[0] > 0.95, share < 0.35
    for names in (category, colour):
        names[unclear] = IGNORED
        names[empty] = 0
    return category, colour


class PatchNames(nn.Module):
    """Linear heads that name the category and the colour under each patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.category = nn.Linear(width, len(CATEGORIES) + 1)
        self.colour = nn.Linear(width, len(COLOURS) + 1)

    def forward(self, patches: Tensor, category: Tensor, colour: Tensor) -> Tensor:
        """Mean cross-entropy of both names. patches [..., D]; category, colour int64 [...]."""
        loss = torch.zeros((), device=patches.device)
        for head, names in ((self.category, category), (self.colour, colour)):
            # most patches are table: it would drown the objects at full weight
            weight = torch.ones(head.out_features, device=patches.device)
            weight[0] = 0.1
            loss = loss + F.cross_entropy(head(patches).flatten(0, -2), names.flatten(), weight, ignore_index=IGNORED)
        return loss


def draw_crops(
    cache: SceneCache, rng: np.random.Generator, count: int, patch: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops around random objects: images uint8 [B, 64, 64, 3], categories and colours int64 [B, 4, 4]."""
    images: list[np.ndarray] = []
    categories: list[np.ndarray] = []
    colours: list[np.ndarray] = []
    while len(images) < count:
        image, instances, objects = cache[int(rng.integers(len(cache)))]
        seen = [o for o in objects if o.visible]
        if not seen:
            continue
        target = seen[rng.integers(len(seen))]
        rows, columns = np.nonzero(instances == target.label)
        if not len(rows):
            continue
        corner = np.array([rows.mean(), columns.mean()]) - CROP / 2 + rng.uniform(-20, 20, 2)
        top, left = np.clip(corner, 0, SIDE - CROP).astype(int)
        image = image[top : top + CROP, left : left + CROP]
        instances = np.ascontiguousarray(instances[top : top + CROP, left : left + CROP])
        if rng.random() < 0.5:
            image, instances = image[:, ::-1], np.ascontiguousarray(instances[:, ::-1])
        category, colour = patch_names(instances, objects, patch)
        images.append(image)
        categories.append(category)
        colours.append(colour)
    return np.stack(images), np.stack(categories), np.stack(colours)


class ImageTowerStage(nn.Module):
    """The image tower and the heads that teach it."""

    def __init__(self, vision_model: nn.Module) -> None:
        super().__init__()
        self.vision_model = vision_model
        self.names = PatchNames(width_of(vision_model))

    def loss_of_crops(self, cache: SceneCache, step: int, batch: int) -> dict[str, Tensor]:
        """Losses of the batch of this step (see loop.train_stage)."""
        rng = np.random.default_rng([10, step])
        patch = patch_of(self.vision_model)
        images, *names = draw_crops(cache, rng, batch, patch)
        free = SIDE // patch - CROP // patch + 1
        corner = (int(rng.integers(free)), int(rng.integers(free)))
        device = self.names.category.weight.device
        hidden = encode_image(self.vision_model, to_pixels(change_light(images, rng)).to(device), corner)
        category, colour = (torch.from_numpy(one).to(device).flatten(1) for one in names)
        loss = self.names(hidden[:, 1:], category, colour)
        with torch.no_grad():
            known = category > 0
            guess = self.names.category(hidden[:, 1:][known]).argmax(-1)
            right = (guess == category[known]).float().mean()
        return {"loss": loss, "category_accuracy": right}
