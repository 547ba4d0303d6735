"""Thresholds and a calibrated confidence for a profile, fitted on phrases that were judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from esam_perception.errors import InvalidInput
from esam_perception.pipeline.verdict import VerdictOptions
from esam_perception.training.measure.judging import FALSE_ACCEPTED, TRUE_REJECTED, Judged

# Thresholds out of fewer phrases would be chance.
ENOUGH_PHRASES = 50


class CalibrationError(InvalidInput):
    """Judged phrases out of which no thresholds can be fitted; the text says why and what to do."""


def log_odds(scores: Sequence[float]) -> np.ndarray:
    """The difference of the two ITM logits that a score in 0..1 came from, float64, within +-27."""
    clipped = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)


def fit_scaling(scores: Sequence[float], true: Sequence[bool]) -> tuple[float, float]:
    """(temperature, bias) of Platt's scaling (Platt 1999): the pair that makes `sigmoid(difference / temperature + bias)`
    most likely, with his smoothed targets, so that a clean separation does not end in certainty.

    Raises CalibrationError where there are no true or no false ones, or where true ones score lower than false ones.
    """
    positives = int(np.sum(true))
    negatives = len(true) - positives
    if not positives or not negatives:
        raise CalibrationError("a calibration needs true and false phrases")
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
        raise CalibrationError("false phrases score higher than true ones: nothing to calibrate")
    return 1 / slope.item(), bias.item()


def fit_verdict(
    judged: Sequence[Judged],
    where: str,
    false_accepted: float = FALSE_ACCEPTED,
    true_rejected: float = TRUE_REJECTED,
) -> VerdictOptions:
    """Thresholds and calibration out of phrases that were judged: MATCH from just above the score that keeps all false
    phrases but a share of `false_accepted` out, NO_MATCH below the score that `true_rejected` of the true ones stay under.

    "Just above" is the next number of four decimals; near 1, of two more than it takes to tell the score from 1. A matcher
    that is sure of itself gives false phrases 0.99997 and true ones 0.999998: there is a threshold between them, and 1,
    which four decimals would make of it, is one that nothing ever reaches. It lies above the score, not at it, so that
    phrases that share that score are all kept out. Where no true phrase scores as high, no threshold keeps the promise and
    lets anything pass: that is an error, not a profile that never says MATCH. Raises CalibrationError for it, and as
    `fit_scaling`.
    """
    temperature, bias = fit_scaling([item.score for item in judged], [item.true for item in judged])
    false = np.array([item.score for item in judged if not item.true])
    true = np.array([item.score for item in judged if item.true])
    kept_out = float(np.sort(false)[::-1][math.floor(false_accepted * len(false) + 1e-9)])
    match = _just_above(kept_out)
    if not (true >= match).any():
        raise CalibrationError(
            f"no threshold lets a true phrase pass and at most {false_accepted:.1%} of the false ones: these score up to "
            f"{false.max():.10g}, the true ones up to {true.max():.10g}; allow more (esam calibrate --false-accepts), or train "
            "the profile longer"
        )
    reject = min(float(np.quantile(true, true_rejected)), match)
    reject = math.floor(reject * 1e4) / 1e4
    return VerdictOptions(
        match_threshold=match,
        reject_threshold=reject,
        source=(
            f"fitted on {where} ({len(true)} true, {len(false)} false phrases): {np.mean(false >= match):.1%} of the false ones "
            f"are a MATCH, and {np.mean(true >= match):.1%} of the true ones; {np.mean(true < reject):.1%} of the true ones are a "
            "NO_MATCH"
        ),
        temperature=float(f"{temperature:.5g}"),
        bias=round(bias, 4),
    )


def fit_or_keep(before: VerdictOptions, judged: Sequence[Judged], where: str) -> VerdictOptions:
    """What `fit_verdict` makes of the judged phrases; where they are too few or do not allow it, the thresholds of before,
    whose source then says why: hours of training must not end without a profile."""
    if len(judged) < ENOUGH_PHRASES:
        reason = f"only {len(judged)} phrases were held out"
    else:
        try:
            return dataclasses.replace(fit_verdict(judged, where), region_window=before.region_window)
        except CalibrationError as error:
            reason = str(error)
    return dataclasses.replace(before, source=f"{before.source}; not fitted again: {reason}")


def _just_above(score: float) -> float:
    """The next number of four decimals above a score in 0..1, of as many more as 1 - score has zeros; 1 has none above."""
    if score >= 1:
        return math.nextafter(1.0, 2.0)
    decimals = max(4, math.ceil(-math.log10(1 - score)) + 1)
    above = (math.floor(score * 10**decimals) + 1) / 10**decimals
    return above if score < above < 1 else math.nextafter(score, 2.0)
