"""`esam evaluate PROFILE`: what a profile gets right on held-out scenes, per kind of phrase."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esam_perception.errors import EsamError
from esam_perception.training.data.seeds import TEST_SEED, VALIDATION_SEED

if TYPE_CHECKING:  # torch takes seconds to import: not before it is needed
    from esam_perception.pipeline.pipeline import Pipeline

CASES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "profile", nargs="?", default="tabletop", help="profile name or directory (default: %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=TEST_SEED,
        help=f"first seed; training never uses seeds from {VALIDATION_SEED} on (default: %(default)s)",
    )
    parser.add_argument("--options", action="store_true",
                        help="compare prompting and fusion options instead; choose them on other seeds than you report "
                        f"(validation scenes start at {VALIDATION_SEED})")  # fmt: skip
    parser.add_argument("--targets", action="store_true",
                        help="measure 3D targets instead: centroids against the simulator's truth")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="a picture of the best and the worst cases, as JPEG")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON too")


def run(args: argparse.Namespace) -> int:
    """Measure and report; the exit code."""
    import torch

    from esam_perception.pipeline.pipeline import Pipeline
    from esam_perception.tabletop import OffscreenGLError
    from esam_perception.training.measure.evaluate import draw_cases, evaluate, extremes
    from esam_perception.training.measure.judging import summarise, table

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


def _compare(args: argparse.Namespace, pipeline: Pipeline, seeds: range) -> int:
    from esam_perception.training.measure.evaluate import SIZE
    from esam_perception.training.measure.options import compare_options, options_table

    rows = compare_options(pipeline, seeds, SIZE)
    _report(args, pipeline, options_table(rows), {"options": rows})
    return 0


def _measure_targets(args: argparse.Namespace, pipeline: Pipeline, seeds: range) -> int:
    from esam_perception.training.measure.evaluate import SIZE
    from esam_perception.training.measure.targets import evaluate_targets, targets_table

    figures = evaluate_targets(pipeline, seeds, SIZE)
    _report(args, pipeline, targets_table(figures), figures)
    return 0


def _report(args: argparse.Namespace, pipeline: Pipeline, text: str, figures: dict[str, Any]) -> None:
    """Print the table under a line that says what was measured; write the figures where the user wants them."""
    from esam_perception.training.measure.evaluate import SIZE

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
