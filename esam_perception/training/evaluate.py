"""`esam evaluate tabletop`: what a profile gets right on held-out scenes, per kind of phrase."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esam_perception.tabletop import OffscreenGLError, Tabletop
from esam_perception.types import Match, Verdict

LARGE_ENOUGH = 400  # pixels at 640x480
SIZE = (640, 480)


@dataclass(frozen=True)
class Judged:
    """One phrase, judged. hit: the peak lies in an object that the phrase names. iou: of the best segment with the
    best of these objects. pixels: of the largest of them. Both are False and 0 for false phrases."""

    kind: str
    true: bool
    score: float
    verdict: Verdict
    hit: bool
    iou: float
    pixels: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "profile", nargs="?", default="tabletop", help="profile name or directory (default: %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=900_000,
        help="first seed; training never uses seeds from 800000 on (default: %(default)s)",
    )
    parser.add_argument("--options", action="store_true",
                        help="compare prompting and fusion options instead; choose them on other seeds than you report "
                        "(validation scenes start at 800000)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON too")


def run(args: argparse.Namespace) -> int:
    import torch

    from esam_perception.pipeline import Pipeline
    from esam_perception.profiles import ProfileError

    torch.set_num_threads(args.threads)
    try:
        pipeline = Pipeline.from_profile(args.profile, args.device)
        seeds = range(args.seed, args.seed + args.scenes)
        if args.options:
            return _compare(args, pipeline, seeds)
        judged = evaluate(pipeline, seeds)
    except (ProfileError, OffscreenGLError, ValueError) as error:
        print(f"esam evaluate: {error}", file=sys.stderr)
        return 1
    figures = summarise(judged)
    _report(args, pipeline, table(figures), figures)
    return 0


def _compare(args: argparse.Namespace, pipeline, seeds: range) -> int:
    from esam_perception.training.options import compare_options, options_table

    rows = compare_options(pipeline, seeds, SIZE)
    _report(args, pipeline, options_table(rows), {"options": rows})
    return 0


def _report(args: argparse.Namespace, pipeline, text: str, figures: dict) -> None:
    """Print the table under a line that says what was measured; write the figures where the user wants them."""
    print(f"profile '{pipeline.profile.name}' ({pipeline.weights_sha256[:12]}), {args.scenes} scenes from seed {args.seed}, "
          f"{SIZE[0]}x{SIZE[1]}, {pipeline.device}\n")  # fmt: skip
    print(text)
    if args.output:
        about = {
            "profile": pipeline.profile.name,
            "weights_sha256": pipeline.weights_sha256,
            "scenes": args.scenes,
            "seed": args.seed,
        }
        args.output.write_text(json.dumps({**about, **figures}, indent=1), encoding="utf-8")


def evaluate(pipeline, seeds) -> list[Judged]:
    """Judge every phrase of the scenes of these seeds. Raises OffscreenGLError."""
    from tqdm import tqdm

    judged: list[Judged] = []
    world = Tabletop(*SIZE)
    try:
        for seed in tqdm(seeds, unit="scene", desc="evaluating"):
            seen = world.render(world.sample(seed))
            phrases = seen.phrases
            if not phrases:
                continue
            matches = pipeline.locate(seen.image, [phrase.text for phrase in phrases], segment_always=True)
            judged += [judge(phrase, match, seen.instances) for phrase, match in zip(phrases, matches)]
    finally:
        world.close()
    return judged


def judge(phrase, match: Match, instances: np.ndarray) -> Judged:
    """Hold one match against the truth of its phrase."""
    if not phrase.true:
        return Judged(phrase.kind, False, match.itm_score, match.verdict, False, 0.0, 0)
    column, row = (int(value) for value in match.peak)
    iou = 0.0
    for segment in match.segments[:1]:
        for label in phrase.labels:
            truth = instances == label
            iou = max(iou, float((truth & segment.mask).sum() / (truth | segment.mask).sum()))
    pixels = max(int((instances == label).sum()) for label in phrase.labels)
    hit = int(instances[row, column]) in phrase.labels
    return Judged(phrase.kind, True, match.itm_score, match.verdict, hit, iou, pixels)


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """ROC AUC: the share of pairs in which the positive scores higher (ties count half); NaN where there are none."""
    if not len(positive) or not len(negative):
        return float("nan")
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / 2 / len(order))


def summarise(judged: list[Judged]) -> dict:
    """Figures of true phrases per kind, of false ones per kind (AUC against all true ones), and over all."""
    groups: dict[tuple[bool, str], list[Judged]] = defaultdict(list)
    for item in judged:
        groups[item.true, item.kind].append(item)
        groups[item.true, "all"].append(item)
    positive = np.array([item.score for item in judged if item.true])

    def of_true(items: list[Judged]) -> dict:
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

    def of_false(items: list[Judged]) -> dict:
        return {
            "phrases": len(items),
            "accepted": float(np.mean([item.verdict is Verdict.MATCH for item in items])),
            "rejected": float(np.mean([item.verdict is Verdict.NO_MATCH for item in items])),
            "auc": area_under_curve(positive, np.array([item.score for item in items])),
        }

    return {
        "true": {kind: of_true(items) for (true, kind), items in sorted(groups.items()) if true},
        "false": {kind: of_false(items) for (true, kind), items in sorted(groups.items()) if not true},
    }


def table(figures: dict) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| true phrases | n | peak in the object | mean IoU | mean IoU, >= 400 px | IoU >= 0.5 | MATCH | NO_MATCH |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, row in figures["true"].items():
        lines.append(
            f"| {kind} | {row['phrases']} | {row['pointing']:.3f} | {row['mean_iou']:.3f} | {row['mean_iou_large']:.3f} "
            f"| {row['precision_at_0.5']:.3f} | {row['accepted']:.3f} | {row['rejected']:.3f} |"
        )
    lines += ["", "| false phrases | n | MATCH | NO_MATCH | AUC against all true ones |", "|---|---|---|---|---|"]
    for kind, row in figures["false"].items():
        lines.append(
            f"| {kind} | {row['phrases']} | {row['accepted']:.3f} | {row['rejected']:.3f} | {row['auc']:.3f} |"
        )
    return "\n".join(lines)
