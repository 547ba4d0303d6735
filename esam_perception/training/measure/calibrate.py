"""`esam calibrate PROFILE`: thresholds and a calibrated confidence for a profile, fitted on labelled scenes."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from esam_perception.errors import EsamError, InvalidInput
from esam_perception.pipeline.verdict import VerdictOptions, confidence
from esam_perception.profiles.registry import Profile, write_profile
from esam_perception.training.measure.judging import Judged, calibration

# A wrong "yes" costs a robot more than a "not sure".
FALSE_ACCEPTED, TRUE_REJECTED = 0.03, 0.02


def log_odds(scores: Sequence[float]) -> np.ndarray:
    """The difference of the two ITM logits that a score in 0..1 came from, float64, within +-27."""
    clipped = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)


def fit_scaling(scores: Sequence[float], true: Sequence[bool]) -> tuple[float, float]:
    """(temperature, bias) of Platt's scaling (Platt 1999): the pair that makes `sigmoid(difference / temperature + bias)`
    most likely, with his smoothed targets, so that a clean separation does not end in certainty.

    Raises InvalidInput where there are no true or no false ones, or where true ones score lower than false ones.
    """
    positives = int(np.sum(true))
    negatives = len(true) - positives
    if not positives or not negatives:
        raise InvalidInput("a calibration needs true and false phrases")
    difference = torch.from_numpy(log_odds(scores))
    wanted = np.where(true, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    target = torch.from_numpy(wanted)
    slope, bias = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    parameters = [slope.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(difference * slope + bias, target)
        value.backward()
        return value

    optimizer.step(loss)
    if not slope.item() > 0:
        raise InvalidInput("false phrases score higher than true ones: nothing to calibrate")
    return 1 / slope.item(), bias.item()


def fit_verdict(
    judged: Sequence[Judged],
    where: str,
    false_accepted: float = FALSE_ACCEPTED,
    true_rejected: float = TRUE_REJECTED,
) -> VerdictOptions:
    """Thresholds and calibration out of phrases that were judged: MATCH from the score on that a share of
    `false_accepted` of the false phrases reach, NO_MATCH below the score that `true_rejected` of the true ones stay under.
    Raises InvalidInput as `fit_scaling`."""
    temperature, bias = fit_scaling([item.score for item in judged], [item.true for item in judged])
    false = np.array([item.score for item in judged if not item.true])
    true = np.array([item.score for item in judged if item.true])
    match = float(np.quantile(false, 1 - false_accepted))
    reject = min(float(np.quantile(true, true_rejected)), match)
    return VerdictOptions(
        match_threshold=min(1.0, math.ceil(match * 1e4) / 1e4),
        reject_threshold=math.floor(reject * 1e4) / 1e4,
        source=(
            f"fitted on {where} ({len(true)} true, {len(false)} false phrases): {false_accepted:.1%} of the false ones are "
            f"a MATCH, {true_rejected:.1%} of the true ones a NO_MATCH"
        ),
        temperature=round(temperature, 4),
        bias=round(bias, 4),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", nargs="?", default="tabletop", help="name or directory (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="your own labelled images (docs/own_data.md); without it, "
                        "scenes of the simulated tabletop")  # fmt: skip
    parser.add_argument("--scenes", type=int, default=200, help="simulated scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=800_000, help="of the first one; figures are reported on others, from "
                        "900000 (default: %(default)s)")  # fmt: skip
    parser.add_argument("--false-accepts", type=float, default=FALSE_ACCEPTED, metavar="SHARE",
                        help="of the false phrases that may be a MATCH (default: %(default)s)")  # fmt: skip
    parser.add_argument("--false-rejects", type=float, default=TRUE_REJECTED, metavar="SHARE",
                        help="of the true phrases that may be a NO_MATCH (default: %(default)s)")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="write the whole profile there; without it, its profile.yaml is changed in place")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from esam_perception.pipeline.pipeline import Pipeline
    from esam_perception.tabletop import OffscreenGLError

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
        profile = save_profile(profile, args.output)
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


def _judge(args: argparse.Namespace, pipeline) -> tuple[list[Judged], str]:
    if args.data is None:
        from esam_perception.training.measure.evaluate import evaluate

        judged = evaluate(pipeline, range(args.seed, args.seed + args.scenes), occlusion=False)
        return judged, f"{args.scenes} scenes of the simulated tabletop from seed {args.seed}"
    from esam_perception.training.data.labelled_images import read_labelled_images
    from esam_perception.training.own_data import judge_images

    images = read_labelled_images(args.data)
    useful = [image for image in images if image.things]
    return judge_images(pipeline, useful, images, args.data), f"{len(useful)} images of {args.data.name}"


def save_profile(profile: Profile, output: Path | None) -> Profile:
    """Write profile.yaml where the profile is; with `output`, the whole profile there. Raises OSError."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for file in profile.files:
            if profile.find(file).resolve() != (output / file).resolve():
                shutil.copyfile(profile.find(file), output / file)
        profile = dataclasses.replace(profile, directory=output, sources=())
    write_profile(profile)
    return profile
