"""`esam evaluate tabletop`: what a profile gets right on held-out scenes, per kind of phrase."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from esam_perception.errors import EsamError
from esam_perception.tabletop import OffscreenGLError, Tabletop
from esam_perception.training.measure.judging import Judged, judge, summarise, table

SIZE = (640, 480)
CASES = 6


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
    parser.add_argument("--targets", action="store_true",
                        help="measure 3D targets instead: centroids against the simulator's truth")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="a picture of the best and the worst cases, as JPEG")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON too")


def run(args: argparse.Namespace) -> int:
    import torch

    from esam_perception.pipeline.pipeline import Pipeline

    torch.set_num_threads(args.threads)
    try:
        pipeline = Pipeline.from_profile(args.profile, args.device)
        seeds = range(args.seed, args.seed + args.scenes)
        if args.options:
            return _compare(args, pipeline, seeds)
        if args.targets:
            return _measure_targets(args, pipeline, seeds)
        judged = evaluate(pipeline, seeds)
    except (EsamError, OffscreenGLError) as error:
        print(f"esam evaluate: {error}", file=sys.stderr)
        return 1
    figures = summarise(judged)
    _report(args, pipeline, table(figures), figures)
    if args.sheet:
        draw_cases(pipeline, extremes(judged, CASES), args.sheet)
        print(f"\n{args.sheet}: the {CASES} best, the {CASES} worst, and the {CASES} false phrases that scored highest")
    return 0


def _compare(args: argparse.Namespace, pipeline, seeds: range) -> int:
    from esam_perception.training.measure.options import compare_options, options_table

    rows = compare_options(pipeline, seeds, SIZE)
    _report(args, pipeline, options_table(rows), {"options": rows})
    return 0


def _measure_targets(args: argparse.Namespace, pipeline, seeds: range) -> int:
    from esam_perception.training.measure.targets import evaluate_targets, targets_table

    figures = evaluate_targets(pipeline, seeds, SIZE)
    _report(args, pipeline, targets_table(figures), figures)
    return 0


def _report(args: argparse.Namespace, pipeline, text: str, figures: dict) -> None:
    """Print the table under a line that says what was measured; write the figures where the user wants them."""
    print(f"profile '{pipeline.profile.name}' ({pipeline.provenance.weights_sha256[:12]}), {args.scenes} scenes from seed {args.seed}, "
          f"{SIZE[0]}x{SIZE[1]}, {pipeline.device}\n")  # fmt: skip
    print(text)
    if args.output:
        about = {
            "profile": pipeline.profile.name,
            "weights_sha256": pipeline.provenance.weights_sha256,
            "scenes": args.scenes,
            "seed": args.seed,
        }
        args.output.write_text(json.dumps({**about, **figures}, indent=1), encoding="utf-8")


def evaluate(pipeline, seeds, occlusion: bool = True) -> list[Judged]:
    """Judge every phrase of the scenes of these seeds. occlusion: also how much of each object is hidden, which costs a
    render an object. Raises OffscreenGLError."""
    from tqdm import tqdm

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


def draw_cases(pipeline, cases: list[Judged], path: Path) -> None:
    """A picture with a row for each case: its scene, heatmap, segments and mask (drawing.contact_sheet's rows)."""
    import cv2
    import numpy as np

    from esam_perception.images.drawing import case_row

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
