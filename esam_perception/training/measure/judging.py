"""Matches against the truth of rendered scenes, and the figures made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from esam_perception.images.masks import mask_iou
from esam_perception.types import Match, Verdict

# A wrong "yes" costs a robot more than a "not sure".
FALSE_ACCEPTED, TRUE_REJECTED = 0.03, 0.02

LARGE_ENOUGH = 400  # pixels at 640x480
SIZE_BINS = (0, 400, 1600, 6400, 25600)
OCCLUSION_BINS = (0.0, 0.05, 0.3)
SCORE_BINS = 10
# Of the false phrases: nothing of the scene in it, or one word of it that is wrong; relations are reported apart.
RANDOM_NEGATIVES = ("absent_category", "absent_colour", "unknown_word")
HARD_NEGATIVES = ("wrong_colour", "wrong_category")
RELATIONS = ("relation", "false_relation")  # kinds of phrases
WITHOUT_RELATIONS = "all without relations"


@dataclass(frozen=True)
class Judged:
    """One phrase, judged. seed: of its scene. hit: the peak lies in an object that the phrase names. iou: of the best
    segment with the best of these objects. category, pixels (visible) and occlusion (hidden share, 0..1): of the largest
    of them. For false phrases these are empty and 0. confidence: calibrated, NaN without a calibration."""

    kind: str
    true: bool
    score: float
    verdict: Verdict
    hit: bool
    iou: float
    pixels: int
    text: str = ""
    seed: int = 0
    category: str = ""
    occlusion: float = 0.0
    confidence: float = float("nan")


def judge(phrase, match: Match, scene, whole: dict[int, int] | None = None) -> Judged:
    """Hold one match against the truth of its phrase. scene: RenderedScene; whole: pixels of each object by label if
    nothing hid it (Tabletop.unhidden_pixels), None where occlusion is not asked for."""
    told = {"text": phrase.text, "seed": scene.seed, "confidence": match.confidence}
    if not phrase.true:
        return Judged(phrase.kind, False, match.itm_score, match.verdict, False, 0.0, 0, **told)
    instances = scene.instances
    column, row = (int(value) for value in match.peak)
    iou = 0.0
    for segment in match.segments[:1]:
        for label in phrase.labels:
            iou = max(iou, mask_iou(instances == label, segment.mask))
    pixels, largest = max((int((instances == label).sum()), label) for label in phrase.labels)
    category = next(o.category for o in scene.objects if o.label == largest)
    occlusion = max(0.0, 1 - pixels / whole[largest]) if whole else 0.0
    hit = int(instances[row, column]) in phrase.labels
    return Judged(phrase.kind, True, match.itm_score, match.verdict, hit, iou, pixels, **told, category=category,
                  occlusion=occlusion)  # fmt: skip


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """ROC AUC: the share of pairs in which the positive scores higher (ties count half); NaN where there are none."""
    if not len(positive) or not len(negative):
        return float("nan")
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / 2 / len(order))


def _bin_name(bins: tuple, value: float) -> str:
    index = int(np.searchsorted(bins, value, "right")) - 1
    return f"{bins[index]:g} to {bins[index + 1]:g}" if index + 1 < len(bins) else f"from {bins[index]:g}"


def _of_true(items: list[Judged]) -> dict:
    large = [item for item in items if item.pixels >= LARGE_ENOUGH]
    return {
        "phrases": len(items),
        "pointing": float(np.mean([item.hit for item in items])),
        "mean_iou": float(np.mean([item.iou for item in items])),
        "mean_iou_large": float(np.mean([item.iou for item in large])) if large else float("nan"),
        "precision_at_0.5": float(np.mean([item.iou >= 0.5 for item in items])),
        "accepted": float(np.mean([item.verdict is Verdict.MATCH for item in items])),
        "rejected": float(np.mean([item.verdict is Verdict.NO_MATCH for item in items])),
    }


def _grouped(items: Iterable[Judged], key: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def summarise(judged: list[Judged]) -> dict:
    """All figures: of true phrases per kind, size, occlusion and category; of false ones per kind and per difficulty,
    with the AUC against all true ones and, relations apart, against those of its sort (a false relation against true
    relations, any other against the true phrases that name none); calibration of the ITM score."""
    true, false = [j for j in judged if j.true], [j for j in judged if not j.true]

    def of_false(items: list[Judged]) -> dict:
        scores = np.array([item.score for item in items])
        related = {item.kind in RELATIONS for item in items}
        alike = [item.score for item in true if (item.kind in RELATIONS) in related]
        return {
            "phrases": len(items),
            "accepted": float(np.mean([item.verdict is Verdict.MATCH for item in items])),
            "rejected": float(np.mean([item.verdict is Verdict.NO_MATCH for item in items])),
            "auc": area_under_curve(np.array([item.score for item in true]), scores),
            "auc_relations_apart": area_under_curve(np.array(alike), scores),
        }

    def rows_of_true(groups: dict[str, list[Judged]], order: Callable = lambda pair: pair[0]) -> dict:
        return {name: _of_true(items) for name, items in sorted(groups.items(), key=order)}

    kinds, absent = _grouped(true, lambda j: j.kind), _grouped(false, lambda j: j.kind)
    for groups, items in ((kinds, true), (absent, false)):
        if items:
            groups["all"] = items
        unrelated = [j for j in items if j.kind not in RELATIONS]
        if 0 < len(unrelated) < len(items):
            groups[WITHOUT_RELATIONS] = unrelated
    for name, members in (("random negatives", RANDOM_NEGATIVES), ("hard negatives", HARD_NEGATIVES)):
        if found := [j for j in false if j.kind in members]:
            absent[name] = found
    # of the confidence, where the profile has a calibration
    known = [j for j in judged if not np.isnan(j.confidence)]
    calibrated = (
        {"calibration_of_confidence": calibration([j.confidence for j in known], [j.true for j in known])}
        if known
        else {}
    )
    named = [j for j in true if j.kind in ("category", "colour_category")]
    return {
        "true": rows_of_true(kinds),
        "false": {name: of_false(items) for name, items in sorted(absent.items())},
        "size": rows_of_true(
            _grouped(true, lambda j: _bin_name(SIZE_BINS, j.pixels)), lambda pair: min(j.pixels for j in pair[1])
        ),
        "occlusion": rows_of_true(
            _grouped(true, lambda j: _bin_name(OCCLUSION_BINS, j.occlusion)), lambda pair: min(j.occlusion for j in pair[1])
        ),
        "category": rows_of_true(_grouped(named, lambda j: j.category)),
        "calibration": calibration([j.score for j in judged], [j.true for j in judged]),
        **calibrated,
    }  # fmt: skip


def calibration(scores: Sequence[float], truths: Sequence[bool]) -> dict:
    """How often phrases of a score (or a confidence) in 0..1 are true. bins: per tenth of the score its phrases, mean
    score and share of true ones; expected_calibration_error: mean distance of the two, weighed by the phrases (Guo et al.
    2017)."""
    values = np.array(scores)
    true = np.array(truths, float)
    place = np.minimum((values * SCORE_BINS).astype(int), SCORE_BINS - 1)
    bins, error = [], 0.0
    for index in range(SCORE_BINS):
        inside = place == index
        if inside.any():
            mean, share = float(values[inside].mean()), float(true[inside].mean())
            bins.append({"from": index / SCORE_BINS, "phrases": int(inside.sum()), "score": mean, "true": share})
            error += inside.mean() * abs(mean - share)
    return {"expected_calibration_error": float(error), "bins": bins}


def _table_of_true(title: str, rows: dict) -> list[str]:
    lines = [
        f"| {title} | n | peak in the object | mean IoU | mean IoU, >= {LARGE_ENOUGH} px | IoU >= 0.5 | MATCH | NO_MATCH |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['phrases']} | {row['pointing']:.3f} | {row['mean_iou']:.3f} | {row['mean_iou_large']:.3f} "
            f"| {row['precision_at_0.5']:.3f} | {row['accepted']:.3f} | {row['rejected']:.3f} |"
        )
    return [*lines, ""]


def table(figures: dict) -> str:
    """The figures as Markdown tables."""
    lines = _table_of_true("true phrases", figures["true"])
    lines += [
        "| false phrases | n | MATCH | NO_MATCH | AUC, relations apart | AUC against all true ones |",
        "|---|---|---|---|---|---|",
    ]
    for kind, row in figures["false"].items():
        lines.append(
            f"| {kind} | {row['phrases']} | {row['accepted']:.3f} | {row['rejected']:.3f} "
            f"| {row['auc_relations_apart']:.3f} | {row['auc']:.3f} |"
        )
    lines.append("")
    lines += _table_of_true("visible pixels at 640x480", figures["size"])
    lines += _table_of_true("hidden share", figures["occlusion"])
    lines += _table_of_true("category (named, with or without a colour)", figures["category"])
    for key, name in (("calibration", "ITM score"), ("calibration_of_confidence", "confidence")):
        if key not in figures:
            continue
        error = figures[key]["expected_calibration_error"]
        lines += [f"Calibration of the {name} (expected calibration error {error:.3f}):", ""]
        lines += [f"| {name} | n | mean | share of true phrases |", "|---|---|---|---|"]
        for row in figures[key]["bins"]:
            lines.append(f"| from {row['from']:.1f} | {row['phrases']} | {row['score']:.3f} | {row['true']:.3f} |")
        lines.append("")
    return "\n".join(lines).rstrip()
