"""Scores -> MATCH / UNSURE / NO_MATCH, and a calibrated confidence where the profile has a calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from esam_perception.errors import InvalidOptions, InvalidThresholds
from esam_perception.types import Query, Verdict


@dataclass(frozen=True)
class VerdictOptions:
    """match_threshold: ITM scores from here on are a MATCH. reject_threshold: scores below are a NO_MATCH; between
    them lies UNSURE. source: where the thresholds come from. temperature, bias: Platt scaling of the difference of
    the two logits, or None where no calibration was fitted. region_window: of regions.masked_crop."""

    match_threshold: float = 0.5
    reject_threshold: float = 0.3
    source: str = ""
    temperature: float | None = None
    bias: float = 0.0
    region_window: float = 0.3

    def __post_init__(self) -> None:
        check_thresholds(self.match_threshold, self.reject_threshold)
        if not 0 <= self.region_window <= 1:
            raise InvalidOptions(f"region_window must be in 0..1, got {self.region_window}")
        if self.temperature is not None and not self.temperature > 0:
            raise InvalidOptions(f"temperature must be positive, got {self.temperature}")


def check_thresholds(match_threshold: float, reject_threshold: float) -> None:
    """Raise InvalidThresholds unless 0 <= reject_threshold <= match_threshold <= 1."""
    if not 0 <= reject_threshold <= match_threshold <= 1:
        raise InvalidThresholds(
            f"thresholds must satisfy 0 <= reject <= match <= 1, got reject {reject_threshold}, match {match_threshold}"
        )


def thresholds_that_hold(
    query: Query, match_default: float, reject_default: float, options: VerdictOptions
) -> tuple[float, float]:
    """(match, reject) for a query, 0 <= reject <= match <= 1: its own where positive, else the default where positive, else
    the profile's.

    A default or a profile never makes a query impossible: where what they say of rejecting lies above the match threshold,
    that one holds, and nothing is UNSURE. A query's own reject threshold above the match threshold raises
    InvalidThresholds, as does a value that is out of 0..1 or no number.
    """
    for what, value in (
        ("its match_threshold", query.match_threshold),
        ("its reject_threshold", query.reject_threshold),
        ("the match_threshold of all queries", match_default),
        ("the reject_threshold of all queries", reject_default),
    ):
        if not 0 <= value <= 1:
            raise InvalidThresholds(f"{what} is {value:g}, it must be in 0..1")
    match = query.match_threshold or match_default or options.match_threshold
    if not query.reject_threshold:
        return match, min(reject_default or options.reject_threshold, match)
    if query.reject_threshold > match:
        whose = "its" if query.match_threshold else "all queries'" if match_default else "the profile's"
        fix = "raise it" if query.match_threshold else "give the query one of its own"
        raise InvalidThresholds(
            f"its reject_threshold {query.reject_threshold:g} lies above {whose} match_threshold {match:g}: lower the "
            f"first, or {fix}"
        )
    return match, query.reject_threshold


def itm_score(itm_logits: tuple[float, float]) -> float:
    """softmax(itm_logits)[1], without overflow."""
    difference = itm_logits[1] - itm_logits[0]
    if difference >= 0:
        return 1 / (1 + math.exp(-difference))
    return math.exp(difference) / (1 + math.exp(difference))


def decide(score: float, match_threshold: float, reject_threshold: float) -> Verdict:
    """The verdict on an ITM score in 0..1. A score that is not a number is UNSURE: it must never reach a gripper."""
    if math.isnan(score):
        return Verdict.UNSURE
    if score >= match_threshold:
        return Verdict.MATCH
    return Verdict.NO_MATCH if score < reject_threshold else Verdict.UNSURE


def confidence(itm_logits: tuple[float, float], options: VerdictOptions) -> float:
    """Calibrated probability that the thing is there; NaN without a calibration (Platt 1999)."""
    if options.temperature is None:
        return math.nan
    scaled = (itm_logits[1] - itm_logits[0]) / options.temperature + options.bias
    return itm_score((0.0, scaled))
