"""Batches of a user's labelled images: squares, phrases that are true and false of them, masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from esam_perception.training.data.batches import PHRASES, PhraseBatch
from esam_perception.training.data.labelled_images import (
    DatasetError,
    LabelledImage,
    false_phrases,
    read_image,
    read_mask,
)

KEPT_IMAGES = 512


@dataclass(frozen=True)
class OutlinedThing:
    """What stage 3 asks of an object: its label in the instance image."""

    label: int
    visible: bool = True


class OwnScenes:
    """Labelled images stretched to squares of `side` px, as both networks take them. The last KEPT_IMAGES stay in memory.

    Raises DatasetError where nothing false can be said of an image: a matcher that only hears true phrases learns to
    say yes.
    """

    def __init__(self, images: Sequence[LabelledImage], folder: Path, side: int) -> None:
        self.images = [image for image in images if image.things]
        self._folder, self.side = folder, side
        self.false = [false_phrases(image, images) for image in self.images]
        for image, false in zip(self.images, self.false):
            if not false:
                raise DatasetError(
                    f"{image.path.name}: nothing is known to be false of it: every category is in it; add phrases to its negatives"
                )
        self._load = lru_cache(KEPT_IMAGES)(self._read)

    def __len__(self) -> int:
        return len(self.images)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = self.images[index]
        pixels = read_image(image)
        height, width = pixels.shape[:2]
        masks = [read_mask(thing, self._folder, height, width).astype(np.uint8) for thing in image.things]
        size = (self.side, self.side)
        smaller = self.side < min(height, width)
        resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        return resized, np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks]) > 0

    def masks(self, index: int) -> np.ndarray:
        """bool [things, side, side]."""
        return self._load(index)[1]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, list[OutlinedThing]]:
        """(image uint8 [side, side, 3], instances int32 [side, side], things), as SceneCache gives them."""
        pixels, masks = self._load(index)
        instances = np.zeros(masks.shape[1:], np.int32)
        for label, mask in enumerate(masks, start=1):
            instances[mask] = label
        return pixels, instances, [OutlinedThing(label + 1) for label in range(len(masks))]

    def draw_batch(self, rng: np.random.Generator, count: int, patch: int) -> PhraseBatch:
        """A batch of `count` images with PHRASES phrases each, half true, half false; masks in quarters of patches of
        `patch` px. Images are not mirrored: phrases may say left and right."""
        images, texts, match, masks = [], [], [], []
        cells = 4 * self.side // patch
        for index in rng.integers(len(self), size=count):
            pixels, things = self._load(int(index))
            image, false = self.images[index], self.false[index]
            images.append(pixels)
            for i in range(PHRASES):
                true = i % 2 == 0
                phrases = image.phrases if true else false
                phrase = phrases[rng.integers(len(phrases))]
                meant = [mask for thing, mask in zip(image.things, things) if phrase in thing.phrases] if true else []
                union = np.any(meant, axis=0).astype(np.float32) if meant else np.zeros(pixels.shape[:2], np.float32)
                texts.append(phrase)
                match.append(int(true))
                masks.append(cv2.resize(union, (cells, cells), interpolation=cv2.INTER_AREA))
        return PhraseBatch(np.stack(images), texts, np.array(match, np.int64), np.stack(masks))
