"""Batches of whole scenes with phrases: which phrases are true of a (cropped, mirrored) image, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from esam_perception.tabletop.language import (
    FALSE_KINDS,
    Phrase,
    TabletopObject,
    contradiction,
    draw_false,
    draw_true,
)
from esam_perception.training.data.scenes import SIDE, SceneCache
from esam_perception.training.stages.image_tower import patch_coverage, patch_names

PHRASES = 8
TRUE_KINDS = {"colour_category": 0.5, "category": 0.2, "colour": 0.1, "relation": 0.2}
# In a crop, an object cut to less than this share of its visible pixels can no longer be named with certainty.
KEPT_SHARE = 0.4


@dataclass(frozen=True)
class PhraseMixture:
    """Shares of the kinds of true and false phrases. contradicted: how often a true relation is followed by its own
    opposite, in place of any other false phrase."""

    true: Mapping[str, float] = field(default_factory=lambda: TRUE_KINDS)
    false: Mapping[str, float] = field(default_factory=lambda: FALSE_KINDS)
    contradicted: float = 0.0


@dataclass(frozen=True, eq=False)
class PhraseBatch:
    """images uint8 [B, h, w, 3]; texts: N = B * P of them, P in a row an image; match int64 [N]; masks float32
    [N, 4 g, 4 g] (share of each quarter patch that is covered by what the phrase names; 0 for false ones); category,
    colour int64 [B, g, g] (see patch_names), None where patches have no names; corner: of the crop, in patches."""

    images: np.ndarray
    texts: list[str]
    match: np.ndarray
    masks: np.ndarray
    category: np.ndarray | None = None
    colour: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)


def mirrored(objects: tuple[TabletopObject, ...]) -> tuple[TabletopObject, ...]:
    """The objects of the mirrored image: left and right change places."""
    return tuple(replace(o, position=(-o.position[0], o.position[1], o.position[2])) for o in objects)


def cropped(objects: tuple[TabletopObject, ...], whole: np.ndarray, crop: np.ndarray) -> tuple[TabletopObject, ...]:
    """The objects that the crop still shows; those cut too far are marked as not visible. Labels are kept."""
    before = np.bincount(whole.ravel(), minlength=256)
    after = np.bincount(crop.ravel(), minlength=256)
    kept = []
    for o in objects:
        if after[o.label]:
            kept.append(replace(o, visible=o.visible and bool(after[o.label] >= KEPT_SHARE * before[o.label])))
    return tuple(kept)


def draw_phrases(
    objects: tuple[TabletopObject, ...], rng: np.random.Generator, mixture: PhraseMixture
) -> list[Phrase] | None:
    """Half true, half false phrases about these objects; None where there is nothing to be said."""
    phrases: list[Phrase] = []
    for _ in range(PHRASES // 2):
        true = draw_true(objects, rng, mixture.true)
        if true is None:
            return None
        contradicted = mixture.contradicted and rng.random() < mixture.contradicted
        opposite = contradiction(objects, true) if contradicted else None
        phrases += [true, opposite or draw_false(objects, rng, mixture.false)]
    return phrases


def draw_batch(
    cache: SceneCache,
    rng: np.random.Generator,
    count: int,
    side: int,
    patch: int,
    mixture: PhraseMixture = PhraseMixture(),
) -> PhraseBatch:
    """A batch of `count` images of `side` x `side` px: whole, or one window for the batch on the patch grid."""
    free = (SIDE - side) // patch + 1
    corner = (int(rng.integers(free)), int(rng.integers(free)))
    top, left = corner[0] * patch, corner[1] * patch
    images: list[np.ndarray] = []
    texts, match, masks, categories, colours = [], [], [], [], []
    while len(images) < count:
        image, whole, objects = cache[int(rng.integers(len(cache)))]
        if rng.random() < 0.5:
            image, whole, objects = image[:, ::-1], whole[:, ::-1], mirrored(objects)
        instances = np.ascontiguousarray(whole[top : top + side, left : left + side])
        shown = cropped(objects, whole, instances)
        phrases = draw_phrases(shown, rng, mixture) if any(o.visible for o in shown) else None
        if phrases is None:
            continue
        highest = max(o.label for o in objects)
        coverage = patch_coverage(instances, patch // 4, highest)
        category, colour = patch_names(instances, objects, patch)
        images.append(image[top : top + side, left : left + side])
        texts += [p.text for p in phrases]
        match += [p.true for p in phrases]
        masks += [coverage[list(p.labels)].sum(0) if p.true else np.zeros_like(coverage[0]) for p in phrases]
        categories.append(category)
        colours.append(colour)
    return PhraseBatch(np.stack(images), texts, np.array(match, np.int64), np.array(masks, np.float32),
                       np.stack(categories), np.stack(colours), corner)  # fmt: skip
