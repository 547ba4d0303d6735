"""`esam calibrate PROFILE`: thresholds and a calibrated confidence for a profile, fitted on labelled scenes."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from esam_perception.errors import EsamError, InvalidInput
from esam_perception.profiles.schema import copy_profile, write_profile
from esam_perception.training.data.seeds import TEST_SEED, VALIDATION_SEED
from esam_perception.training.measure.judging import FALSE_ACCEPTED, TRUE_REJECTED, Judged, calibration

if TYPE_CHECKING:  # torch takes seconds to import: not before it is needed
    from esam_perception.pipeline.pipeline import Pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("profile", nargs="?", default="tabletop", help="name or directory (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="your own labelled images (docs/own_data.md); without it, "
                        "scenes of the simulated tabletop")  # fmt: skip
    parser.add_argument("--scenes", type=int, default=200, help="simulated scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=VALIDATION_SEED, help="of the first one; figures are reported on others, from "
                        f"{TEST_SEED} (default: %(default)s)")  # fmt: skip
    parser.add_argument("--false-accepts", type=float, default=FALSE_ACCEPTED, metavar="SHARE",
                        help="of the false phrases that may be a MATCH (default: %(default)s)")  # fmt: skip
    parser.add_argument("--false-rejects", type=float, default=TRUE_REJECTED, metavar="SHARE",
                        help="of the true phrases that may be a NO_MATCH (default: %(default)s)")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="write the whole profile there; without it, its profile.yaml is changed in place")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Fit and write; the exit code."""
    import numpy as np
    import torch

    from esam_perception.pipeline.pipeline import Pipeline
    from esam_perception.pipeline.verdict import confidence
    from esam_perception.tabletop import OffscreenGLError
    from esam_perception.training.measure.calibrate import fit_verdict, log_odds

    torch.set_num_threads(args.threads)
    try:
        for name in ("false_accepts", "false_rejects"):
            if not 0 < getattr(args, name) < 1:
                raise InvalidInput(f"--{name.replace('_', '-')} must lie between 0 and 1")
        pipeline = Pipeline.from_profile(args.profile, args.device)
        judged, where = _judge(args, pipeline)
        verdict = fit_verdict(judged, where, args.false_accepts, args.false_rejects)
        verdict = dataclasses.replace(verdict, region_window=pipeline.profile.verdict.region_window)
        profile = dataclasses.replace(pipeline.profile, verdict=verdict)
        if args.output is None:
            write_profile(profile)
        else:
            profile = copy_profile(profile, args.output)
    except (EsamError, OffscreenGLError, OSError) as error:
        print(f"esam calibrate: {error}", file=sys.stderr)
        return 1
    accepted = np.mean([item.score >= verdict.match_threshold for item in judged if item.true])
    true, scores = [item.true for item in judged], [item.score for item in judged]
    sure = [confidence((0.0, difference), verdict) for difference in log_odds(scores)]
    before, after = calibration(scores, true), calibration(sure, true)
    print(
        f"{verdict.source}\n{accepted:.1%} of the true ones are a MATCH; thresholds: match {verdict.match_threshold}, reject "
        f"{verdict.reject_threshold}; expected calibration error {before['expected_calibration_error']:.3f} of the score, "
        f"{after['expected_calibration_error']:.3f} of the confidence, on what it was fitted on\nwritten to "
        f"{profile.directory}/profile.yaml"
    )
    return 0


def _judge(args: argparse.Namespace, pipeline: Pipeline) -> tuple[list[Judged], str]:
    if args.data is None:
        from esam_perception.training.measure.evaluate import evaluate

        judged = evaluate(pipeline, range(args.seed, args.seed + args.scenes), occlusion=False)
        return judged, f"{args.scenes} scenes of the simulated tabletop from seed {args.seed}"
    from esam_perception.training.data.labelled_images import read_labelled_images
    from esam_perception.training.measure.own_images import judge_images

    images = read_labelled_images(args.data)
    useful = [image for image in images if image.things]
    return judge_images(pipeline, useful, images, args.data), f"{len(useful)} images of {args.data.name}"
