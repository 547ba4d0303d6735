"""A profile's matches on a user's labelled images, held against the masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from esam_perception.images.masks import mask_iou
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.training.data.labelled_images import LabelledImage, false_phrases, read_image, read_mask
from esam_perception.training.measure.judging import Judged


def judge_images(
    pipeline: Pipeline, held_out: Sequence[LabelledImage], images: Sequence[LabelledImage], folder: Path
) -> list[Judged]:
    """Every phrase of the held-out images, true and false (at most as many false as true ones), held against the masks."""
    judged: list[Judged] = []
    for image in tqdm(held_out, unit="image", desc="checking"):
        pixels = read_image(image)
        masks = [read_mask(thing, folder, *pixels.shape[:2]) for thing in image.things]
        true, false = image.phrases, list(dict.fromkeys(false_phrases(image, images)))
        matches = pipeline.locate(pixels, [*true, *false[: len(true)]], segment_always=True)
        for match in matches[: len(true)]:
            truths = [mask for thing, mask in zip(image.things, masks) if match.query.text in thing.phrases]
            found = match.segments[0].mask if match.segments else np.zeros(pixels.shape[:2], bool)
            column, row = (int(value) for value in match.peak)
            judged.append(
                Judged(
                    "phrase",
                    True,
                    match.itm_score,
                    match.verdict,
                    bool(any(mask[row, column] for mask in truths)),
                    max(mask_iou(found, mask) for mask in truths),
                    max(int(mask.sum()) for mask in truths),
                    match.query.text,
                    confidence=match.confidence,
                )  # fmt: skip
            )
        judged += [
            Judged(
                "negative",
                False,
                match.itm_score,
                match.verdict,
                False,
                0.0,
                0,
                match.query.text,
                confidence=match.confidence,
            )
            for match in matches[len(true) :]
        ]
    return judged
