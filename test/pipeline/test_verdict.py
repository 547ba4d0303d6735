import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.pipeline.verdict import VerdictOptions, confidence, decide, itm_score
from esam_perception.types import Verdict

LOGITS = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))


@given(LOGITS)
def test_score_is_the_softmax_and_never_overflows(logits):
    score = itm_score(logits)
    assert 0 <= score <= 1
    assert score + itm_score(logits[::-1]) == pytest.approx(1)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_verdicts_partition_the_scores(score, a, b):
    reject, match = sorted((a, b))
    expected = Verdict.MATCH if score >= match else Verdict.NO_MATCH if score < reject else Verdict.UNSURE
    assert decide(score, match, reject) is expected


def test_a_score_that_is_no_number_is_never_a_match():
    assert decide(math.nan, 0.0, 0.0) is Verdict.UNSURE


def test_confidence_is_nan_without_a_calibration_and_monotone_with_one():
    assert math.isnan(confidence((0.0, 3.0), VerdictOptions()))
    options = VerdictOptions(temperature=2.0, bias=-0.5)
    values = [confidence((0.0, x), options) for x in (-2.0, 0.0, 1.0, 4.0)]
    assert values == sorted(values)
    assert confidence((0.0, 1.0), options) == pytest.approx(0.5)


@pytest.mark.parametrize("match, reject", [(0.3, 0.5), (1.2, 0.1), (0.5, -0.1), (math.nan, 0.1)])
def test_thresholds_out_of_order_are_errors(match, reject):
    with pytest.raises(ValueError):
        VerdictOptions(match_threshold=match, reject_threshold=reject)
