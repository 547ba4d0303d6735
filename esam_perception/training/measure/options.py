"""`esam evaluate PROFILE --options`: what each choice of prompting and fusion is worth, one change at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from esam_perception.images.masks import mask_iou
from esam_perception.pipeline.fusion import CHOICES, resize_map
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.pipeline.prompting import KINDS, SOURCES
from esam_perception.tabletop import Tabletop

MIN_SHARES, FURTHER_SHARES = (0.2, 0.3, 0.5, 0.7), (0.1, 0.15, 0.2, 0.3, 0.5)
ALPHAS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
KINDS_OF_PHRASES = ("colour_category", "category")
ALONE = {"gradcam": "Grad-CAM alone", "mask_head": "mask head alone"}
SOURCE_NAMES = {"gradcam": "Grad-CAM", "mask_head": "mask head", "both": "Grad-CAM times mask head"}
# (name, changes of prompting, changes of fusion), on top of the profile's own options
Variant = tuple[str, dict, dict]


def variants(most_points: int, with_mask_head: bool) -> list[Variant]:
    """The variants that are compared; `most_points`: the profile's max_points, which a box leaves at most four of."""
    found: list[Variant] = [("the profile's own", {}, {})]
    for source in SOURCES if with_mask_head else ():
        for kind in KINDS:
            prompting = {"source": source, "kind": kind, "max_points": min(most_points, 4)}
            found.append((f"{SOURCE_NAMES[source]} to EfficientSAM, {kind}", prompting, {}))
    for kind in KINDS:
        for choice in CHOICES:
            points = min(most_points, 4)
            found.append(
                (f"{kind}, candidate by {choice}", {"kind": kind, "max_points": points}, {"candidate_choice": choice})
            )
    found += [(f"at most {n} points", {"kind": "points", "max_points": n}, {}) for n in (1, 2, 3, 6)]
    found += [(f"sigma {sigma:g}", {"sigma": sigma}, {}) for sigma in (0.0, 0.5, 0.7, 1.0, 1.5)]
    found += [(f"min_share {share:g}", {"min_share": share}, {}) for share in MIN_SHARES]
    found += [(f"further_share {share:g}", {"further_share": share}, {}) for share in FURTHER_SHARES]
    found += [(f"at most {n} regions", {"max_regions": n}, {}) for n in (1, 2, 3)]
    found += [(f"alpha {alpha:g}", {}, {"alpha": alpha}) for alpha in ALPHAS]
    return found


def compare_options(pipeline: Pipeline, seeds: Sequence[int], size: tuple[int, int]) -> list[dict]:
    """Figures of every variant over the true phrases of the scenes of `seeds`, rendered at `size` (width, height).

    A row: options, phrases, pointing (the peak lies in an object that the phrase names), mean_iou and precision (share
    with IoU >= 0.5) of the first segment, mean_iou_any (of the best of all segments), segments (mean number),
    wrong_segments (mean number of those with IoU < 0.5), all_found (of the phrases that name several objects, share of
    those with a segment of IoU >= 0.5 for each). Every image is encoded once. Grad-CAM alone and the mask head alone,
    thresholded at a half, are rows too: what EfficientSAM adds. Raises OffscreenGLError.
    """
    own = pipeline.profile
    compared = [
        (
            name,
            pipeline.with_options(
                dataclasses.replace(own.prompting, **prompting), dataclasses.replace(own.fusion, **fusion)
            ),
        )
        for name, prompting, fusion in variants(own.prompting.max_points, own.mask_head is not None)
    ]
    names = [ALONE["gradcam"], ALONE["mask_head"], *(name for name, _ in compared)]
    results: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    world = Tabletop(*size)
    try:
        for seed in tqdm(seeds, unit="scene", desc="comparing options"):
            seen = world.render(world.sample(seed))
            phrases = [p for p in seen.phrases if p.true and p.kind in KINDS_OF_PHRASES]
            if not phrases:
                continue
            encoded = pipeline.encode(seen.image)
            for phrase, match in zip(phrases, pipeline.ask(encoded, [p.text for p in phrases])):
                results[ALONE["gradcam"]].append(_judge_map(phrase, match.gradcam, seen.instances))
                if match.mask_head is not None:
                    results[ALONE["mask_head"]].append(_judge_map(phrase, match.mask_head, seen.instances))
            for name, variant in compared:
                matches = variant.ask(encoded, [p.text for p in phrases], segment_always=True)
                results[name] += [_judge(phrase, match, seen.instances) for phrase, match in zip(phrases, matches)]
    finally:
        world.close()
    return [_row(name, np.array(found, float)) for name, found in results.items() if found]


def _judge(phrase, match, instances: np.ndarray) -> tuple[float, ...]:
    column, row = (int(value) for value in match.peak)
    masks = [segment.mask for segment in match.segments]
    return (instances[row, column] in phrase.labels, *_overlaps(phrase, masks, instances))


def _judge_map(phrase, heat: np.ndarray, instances: np.ndarray) -> tuple[float, ...]:
    """A map in 0..1 by itself: its peak, and what lies above a half as the only segment."""
    height, width = instances.shape
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    hit = instances[int((row + 0.5) * height / heat.shape[0]), int((column + 0.5) * width / heat.shape[1])]
    return (hit in phrase.labels, *_overlaps(phrase, [resize_map(heat, height, width) > 0.5], instances))


def _overlaps(phrase, masks: Sequence[np.ndarray], instances: np.ndarray) -> tuple[float, ...]:
    """IoU of the first mask, and of the best; how many there are, and how many are wrong; whether each of several objects
    has one (NaN where the phrase names one object)."""
    if not masks:
        return 0.0, 0.0, 0, 0, 0.0 if len(phrase.labels) > 1 else np.nan
    truths = [instances == label for label in phrase.labels]
    ious = np.array([[mask_iou(t, mask) for t in truths] for mask in masks])
    best = ious.max(1)
    several = float((ious.max(0) >= 0.5).all()) if len(truths) > 1 else np.nan
    return best[0], best.max(), len(masks), int((best < 0.5).sum()), several


def _row(name: str, found: np.ndarray) -> dict:
    hit, first, best, count, wrong, several = found.T
    several = several[~np.isnan(several)]
    return {
        "options": name, "phrases": len(found), "pointing": hit.mean(), "mean_iou": first.mean(),
        "precision": (first >= 0.5).mean(), "mean_iou_any": best.mean(), "segments": count.mean(),
        "wrong_segments": wrong.mean(), "all_found": several.mean() if len(several) else np.nan,
    }  # fmt: skip


def options_table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| options | peak in the object | mean IoU, first segment | IoU >= 0.5 | mean IoU, any segment | segments | wrong ones "
        "| several things: all found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['options']} | {row['pointing']:.3f} | {row['mean_iou']:.3f} | {row['precision']:.3f} "
            f"| {row['mean_iou_any']:.3f} | {row['segments']:.2f} | {row['wrong_segments']:.2f} | {row['all_found']:.2f} |"
        )
    return "\n".join(lines)
