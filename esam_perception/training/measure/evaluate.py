"""What a profile gets right on scenes of the simulated tabletop: every phrase judged, the best and worst as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from esam_perception.images.drawing import case_row
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.tabletop import Tabletop
from esam_perception.training.measure.judging import Judged, judge

SIZE = (640, 480)


def evaluate(pipeline: Pipeline, seeds: Iterable[int], occlusion: bool = True) -> list[Judged]:
    """Judge every phrase of the scenes of these seeds. occlusion: also how much of each object is hidden, which costs a
    render an object. Raises OffscreenGLError."""
    judged: list[Judged] = []
    world = Tabletop(*SIZE)
    try:
        for seed in tqdm(seeds, unit="scene", desc="evaluating"):
            sampled = world.sample(seed)
            seen = world.render(sampled)
            phrases = seen.phrases
            if not phrases:
                continue
            whole = world.unhidden_pixels(sampled) if occlusion else None
            matches = pipeline.locate(seen.image, [phrase.text for phrase in phrases], segment_always=True)
            judged += [judge(phrase, match, seen, whole) for phrase, match in zip(phrases, matches)]
    finally:
        world.close()
    return judged


def draw_cases(pipeline: Pipeline, cases: list[Judged], path: Path) -> None:
    """A picture with a row for each case: its scene, heatmap, segments and mask (drawing.contact_sheet's rows)."""
    world = Tabletop(*SIZE)
    try:
        rows = []
        for case in cases:
            seen = world.render(world.sample(case.seed))
            (match,) = pipeline.locate(seen.image, [case.text], segment_always=True)
            caption = f"{case.text} ({'true' if case.true else case.kind}, IoU {case.iou:.2f})"
            rows.append(case_row(seen.image, match, caption))
    finally:
        world.close()
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def extremes(judged: list[Judged], count: int) -> list[Judged]:
    """The best and the worst true phrases by IoU (of different scenes), and the false ones that scored highest."""

    def spread(items: list[Judged]) -> list[Judged]:
        first: dict[int, Judged] = {}
        for item in items:
            first.setdefault(item.seed, item)
        return list(first.values())[:count]

    true = sorted((j for j in judged if j.true), key=lambda j: -j.iou)
    false = sorted((j for j in judged if not j.true), key=lambda j: -j.score)
    return spread(true) + spread(true[::-1]) + spread(false)
