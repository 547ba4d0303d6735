"""`esam evaluate tabletop --targets`: how far 3D targets lie from the truth, and whether their covariance is honest.

The truth of an object is the mean of the points of its own visible pixels in the perfect depth. Masks are made once;
they are then measured under every condition of the depth image, and so are the true masks: what is wrong with these is
the geometry's fault, the rest is the mask's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from esam_perception.images.masks import mask_iou
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.tabletop import Tabletop
from esam_perception.targets.measure import NoTarget, measure_target, organized_points
from esam_perception.types import Intrinsics, Verdict

MATCHED_IOU = 0.5
# 95 % of a chi-squared variable of three degrees of freedom
ELLIPSOID_95 = 7.8147
# Pixels beside which the depth jumps by more than this share of it see both sides.
EDGE_JUMP = 0.02
KINDS = ("colour_category",)
TRUE_MASK = "true masks, perfect depth"
PERFECT = "perfect depth"
ACCEPTED = "perfect depth, verdict MATCH alone"


def noisy(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a structured-light camera measures (Nguyen, Izadi, Lovell 2012): axial noise that grows with the square of the
    distance, steps of a millimetre; half of the pixels at edges are lost, a quarter lie between the two sides."""
    sigma = 0.0012 + 0.0019 * (depth - 0.4) ** 2
    measured = depth + sigma * rng.standard_normal(depth.shape)
    # of every pixel and the four beside it; beyond the border the image goes on as it is there
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    far = cv2.dilate(depth, cross, borderType=cv2.BORDER_REPLICATE)
    near = cv2.erode(depth, cross, borderType=cv2.BORDER_REPLICATE)
    edge = far - near > EDGE_JUMP * depth
    fate = rng.random(depth.shape)
    between = edge & (fate >= 0.5) & (fate < 0.75)
    measured = np.where(between, near + rng.random(depth.shape) * (far - near), measured)
    measured[edge & (fate < 0.5)] = 0
    return np.where(depth > 0, np.round(measured, 3), 0).astype(np.float32)


def holed(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`noisy`, with a third of the image lost in patches (shiny and dark things)."""
    lost = rng.random((depth.shape[0] // 16 + 1, depth.shape[1] // 16 + 1)) < 1 / 3
    lost = lost.repeat(16, 0).repeat(16, 1)[: depth.shape[0], : depth.shape[1]]
    measured = noisy(depth, rng)
    measured[lost] = np.nan
    return measured


def halved(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`noisy`, at half the width and height."""
    return noisy(depth, rng)[::2, ::2]


def shifted(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`noisy`, badly registered: two pixels to the right and one down."""
    return np.roll(noisy(depth, rng), (1, 2), (0, 1))


CONDITIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    PERFECT: lambda depth, rng: depth,
    "noise and lost edges": noisy,
    "the same, a third lost": holed,
    "the same, half size": halved,
    "the same, 2 px off": shifted,
}


@dataclass
class Measured:
    """What was measured under one condition. errors: metres; squared: their squared Mahalanobis distances."""

    errors: list[float] = field(default_factory=list)
    squared: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict:
        """Its figures; NaN where nothing was measured."""
        errors = np.array(self.errors) if self.errors else np.array([np.nan])
        inside = np.array(self.squared) <= ELLIPSOID_95
        return {
            "targets": len(self.errors),
            "none": sum(self.reasons.values()),
            "median_m": float(np.median(errors)),
            "p95_m": float(np.percentile(errors, 95)),
            "worst_m": float(errors.max()),
            "inside_95": float(inside.mean()) if len(inside) else float("nan"),
        }


def evaluate_targets(pipeline: Pipeline, seeds: Iterable[int], size: tuple[int, int]) -> dict:
    """Figures over the scenes of these seeds, at `size` (width, height) pixels. Raises OffscreenGLError.

    Asked is for every visible object that a phrase of colour and category names alone; the best segment is taken,
    whatever the verdict. An object is matched if its IoU with that segment is at least MATCHED_IOU.
    """
    found: dict[str, Measured] = defaultdict(Measured)
    named = matched = accepted = 0
    world = Tabletop(*size)
    try:
        for seed in tqdm(seeds, unit="scene", desc="measuring"):
            seen = world.render(world.sample(seed))
            phrases = [p for p in seen.phrases if p.true and p.kind in KINDS and len(p.labels) == 1]
            if not phrases:
                continue
            intrinsics = intrinsics_of(seen.camera_matrix, *size)
            # every condition its own noise, the same for every run
            depths = {
                name: change(seen.depth, np.random.default_rng([3, seed, i]))
                for i, (name, change) in enumerate(CONDITIONS.items())
            }
            matches = pipeline.locate(seen.image, [p.text for p in phrases], segment_always=True)
            for phrase, match in zip(phrases, matches):
                (label,) = phrase.labels
                named += 1
                truth = seen.instances == label
                segment = match.segments[0] if match.segments else None
                if segment is None or mask_iou(segment.mask, truth) < MATCHED_IOU:
                    continue
                matched += 1
                accepted += match.verdict is Verdict.MATCH
                centroid = visible_centroid(truth, seen.depth, intrinsics)
                about = (segment.probability, segment.predicted_iou)
                for name, depth in depths.items():
                    _measure(found[name], centroid, segment.mask, depth, intrinsics, *about)
                if match.verdict is Verdict.MATCH:
                    _measure(found[ACCEPTED], centroid, segment.mask, seen.depth, intrinsics, *about)
                _measure(found[TRUE_MASK], centroid, truth, seen.depth, intrinsics)
    finally:
        world.close()
    rows = {name: found[name].row() for name in (TRUE_MASK, ACCEPTED, *CONDITIONS) if name in found}
    return {"named": named, "matched": matched, "accepted": accepted, "matched_iou": MATCHED_IOU, "targets": rows}


def intrinsics_of(matrix: np.ndarray, width: int, height: int) -> Intrinsics:
    """Of a camera matrix float [3, 3] in pixels."""
    return Intrinsics(float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]), width, height)


def visible_centroid(truth: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """The mean of the points of the pixels of a bool [H, W] mask, float64 [3] metres."""
    points = organized_points(truth, depth, intrinsics)
    return points[np.isfinite(points[..., 2])].mean(0, dtype=np.float64)


def _measure(measured: Measured, centroid: np.ndarray, *told: Any) -> None:
    try:
        target = measure_target(*told)
    except NoTarget as error:
        measured.reasons[error.reason] += 1
        return
    off = target.position - centroid
    measured.errors.append(float(np.linalg.norm(off)))
    measured.squared.append(float(off @ np.linalg.solve(target.covariance[:3, :3], off)))


def targets_table(figures: dict) -> str:
    """The figures as a Markdown table, with a line that says what was counted."""
    lines = [
        f"{figures['named']} objects named by colour and category; {figures['matched']} matched (their best segment has "
        f"an IoU of at least {figures['matched_iou']} with the object), {figures['accepted']} of these with verdict MATCH.",
        "",
        "| depth | targets | none | median error | 95th percentile | worst | inside the 95 % ellipsoid |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in figures["targets"].items():
        lines.append(
            f"| {name} | {row['targets']} | {row['none']} | {1000 * row['median_m']:.1f} mm | {1000 * row['p95_m']:.1f} mm "
            f"| {1000 * row['worst_m']:.0f} mm | {row['inside_95']:.3f} |"
        )
    return "\n".join(lines)
