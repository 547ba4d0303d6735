import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.commands.dispatcher import main
from esam_perception.pipeline.verdict import VerdictOptions, confidence
from esam_perception.profiles.registry import load_profile
from esam_perception.profiles.schema import read_profile
from esam_perception.training.measure.calibrate import CalibrationError, fit_or_keep, fit_scaling, fit_verdict, log_odds
from esam_perception.training.measure.judging import Judged, calibration
from esam_perception.types import Verdict


def drawn(count=4000, temperature=0.4, bias=-0.7):
    """Scores that are too sure of themselves: the truth follows sigmoid(difference * temperature + bias)."""
    rng = np.random.default_rng(0)
    difference = rng.normal(0, 4, count)
    true = rng.random(count) < 1 / (1 + np.exp(-(difference * temperature + bias)))
    return 1 / (1 + np.exp(-difference)), true


def test_the_scaling_that_made_the_truth_is_found():
    scores, true = drawn()
    temperature, bias = fit_scaling(scores, true)
    assert 1 / temperature == pytest.approx(0.4, abs=0.03) and bias == pytest.approx(-0.7, abs=0.1)


def test_confidence_after_calibration_means_what_it_says():
    scores, true = drawn()
    judged = [
        Judged("x", bool(t), float(s), Verdict.UNSURE, False, 0.0, 0)
        for s, t in zip(scores[::2], true[::2], strict=True)
    ]
    options = fit_verdict(judged, "here", 0.05, 0.02)
    held_out = [confidence((0.0, d), options) for d in log_odds(scores[1::2])]
    before = calibration(scores[1::2], true[1::2])["expected_calibration_error"]
    after = calibration(held_out, true[1::2])["expected_calibration_error"]
    assert before > 0.12 and after < 0.04
    false = scores[::2][~true[::2]]
    assert np.mean(false >= options.match_threshold) == pytest.approx(0.05, abs=0.005)
    assert np.mean(scores[::2][true[::2]] < options.reject_threshold) == pytest.approx(0.02, abs=0.005)


def test_saturated_scores_are_no_infinities():
    assert np.isfinite(log_odds([0.0, 0.5, 1.0])).all()
    temperature, bias = fit_scaling([0.0, 0.0, 1.0, 1.0], [False, False, True, True])
    assert temperature > 0 and math.isfinite(bias)


def phrases(scores, true):
    return [Judged("x", true, score, Verdict.UNSURE, False, 0.0, 0) for score in scores]


def test_false_phrases_that_score_high_leave_a_threshold_that_true_ones_pass():
    """Rounded up to four decimals, 0.99997 is 1: nothing would ever be a MATCH."""
    rng = np.random.default_rng(0)
    false = np.append(rng.uniform(0, 0.9, 80), np.full(20, 0.99997))
    true = np.append(rng.uniform(0.5, 0.99, 50), np.full(50, 0.999995))
    options = fit_verdict(phrases(false, False) + phrases(true, True), "here")
    assert 0.99997 < options.match_threshold < 0.999995
    # all twenty lie above the 97th percentile or at it: none of them is let in for being as high as the others
    assert "0.0% of the false ones are a MATCH" in options.source and "50.0% of the true ones" in options.source


@pytest.mark.parametrize("highest", [0.99997, 1.0])
def test_where_no_true_phrase_can_pass_the_fit_is_refused(highest):
    false, true = np.append(np.zeros(80), np.full(20, highest)), np.full(100, min(highest, 0.9999))
    with pytest.raises(ValueError, match="false-accepts") as error:
        fit_verdict(phrases(false, False) + phrases(true, True), "here")
    assert f"{highest:g}" in str(error.value)


def test_training_keeps_its_thresholds_where_none_can_be_fitted_and_says_why():
    """Hours of training must not end in an error."""
    before = VerdictOptions(0.6, 0.2, "as published", region_window=0.7)
    refused = phrases([0.0] * 36 + [1.0] * 4, False) + phrases(np.full(40, 0.9), True)
    for judged, said in ((refused, "no threshold"), (refused[35:45], "only 10 phrases")):
        kept = fit_or_keep(before, judged, "here")
        assert kept.source.startswith("as published; not fitted again: ") and said in kept.source
        assert dataclasses.replace(kept, source=before.source) == before
    fine = phrases(np.linspace(0, 0.5, 40), False) + phrases(np.linspace(0.4, 0.9, 40), True)
    fitted = fit_or_keep(before, fine, "here")
    assert fitted.source.startswith("fitted on here") and fitted.region_window == 0.7


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.sampled_from([0.01, 0.03, 0.2]),
)
def test_a_fit_keeps_what_it_promises_or_is_refused(false, true, share):
    try:
        options = fit_verdict(phrases(false, False) + phrases(true, True), "here", share)
    except CalibrationError:
        return
    assert np.mean(np.array(false) >= options.match_threshold) <= share
    assert np.mean(np.array(true) >= options.match_threshold) > 0
    assert 0 <= options.reject_threshold <= options.match_threshold <= 1


@pytest.mark.parametrize("true, said", [([True, True], "true and false"), ([True, False], "higher than true")])
def test_what_cannot_be_calibrated_is_an_error(true, said):
    with pytest.raises(ValueError, match=said):
        fit_scaling([0.1, 0.9], true)


@pytest.mark.long
def test_the_command_writes_the_profile_in_place_or_elsewhere(tabletop, tmp_path, capsys):
    copy = tmp_path / "copy"
    assert main(["calibrate", "tabletop", "--scenes", "2", "--output", str(copy)]) == 0
    assert "expected calibration error" in capsys.readouterr().out
    before = load_profile("tabletop")
    after = read_profile(copy)
    assert after.is_complete and after.verdict.temperature > 0 and "from seed 800000" in after.verdict.source
    assert dataclasses.replace(after, verdict=before.verdict, directory=before.directory) == before
    assert main(["calibrate", str(copy), "--scenes", "2"]) == 0
    assert read_profile(copy).verdict == after.verdict


def test_a_share_out_of_range_is_refused(tiny_profile, capsys):
    assert main(["calibrate", str(tiny_profile), "--false-accepts", "1.5"]) == 1
    assert "--false-accepts must lie between 0 and 1" in capsys.readouterr().err
