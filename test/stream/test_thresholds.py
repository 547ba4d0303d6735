import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.pipeline.verdict import VerdictOptions
from esam_perception.stream.query_sets import RefusedQuery
from esam_perception.stream.thresholds import resolve, resolve_all
from esam_perception.types import Query

SHARE = st.one_of(st.just(0.0), st.floats(0, 1))
ANY = st.one_of(SHARE, st.floats())
PROFILES = st.tuples(SHARE, SHARE).map(sorted).map(lambda pair: VerdictOptions(pair[1], pair[0]))
PROFILE = VerdictOptions(0.5, 0.3)


@given(SHARE, SHARE, SHARE, SHARE, PROFILES)
def test_what_holds_is_in_order_keeps_what_is_the_querys_own_and_means_the_same_again(
    own, reject, match_all, reject_all, profile
):
    query = Query("a mug", "m", own, reject)
    try:
        held = resolve(query, match_all, reject_all, profile)
    except RefusedQuery as error:
        # for a query's own threshold alone
        assert error.reason == "bad_threshold" and reject > (own or match_all or profile.match_threshold)
        return
    assert 0 <= held.reject_threshold <= held.match_threshold <= 1
    assert (held.text, held.id) == ("a mug", "m")
    assert held.match_threshold == (own or match_all or profile.match_threshold)
    assert held.reject_threshold == (reject or min(reject_all or profile.reject_threshold, held.match_threshold))
    # what Pipeline.locate makes of it without the defaults
    assert resolve(held, 0.0, 0.0, profile) == held


@given(SHARE, SHARE, SHARE, PROFILES)
def test_no_default_makes_a_query_impossible(own, match_all, reject_all, profile):
    resolve(Query("a mug", "", own), match_all, reject_all, profile)


@given(ANY, ANY, ANY, ANY)
def test_any_numbers_are_resolved_or_refused(own, reject, match_all, reject_all):
    try:
        (held,) = resolve_all([Query("a mug", "", own, reject)], match_all, reject_all, PROFILE)
    except RefusedQuery as error:
        assert error.reason == "bad_threshold" and len(str(error)) < 200
        return
    assert all(0 <= given <= 1 for given in (own, reject, match_all, reject_all))
    assert 0 <= held.reject_threshold <= held.match_threshold <= 1


@pytest.mark.parametrize(
    "query, match_all, said",
    [
        (Query("a mug", reject_threshold=0.9), 0.0, "its reject_threshold 0.9 lies above the profile's match_threshold 0.5"),
        (Query("a mug", reject_threshold=0.9), 0.8, "its reject_threshold 0.9 lies above all queries' match_threshold 0.8"),
        (Query("a mug", "", 0.7, 0.9), 0.8, "its reject_threshold 0.9 lies above its match_threshold 0.7"),
        (Query("a mug"), math.nan, "the match_threshold of all queries is nan"),
        (Query("a mug", match_threshold=-0.1), 0.0, "its match_threshold is -0.1"),
    ],
)  # fmt: skip
def test_a_refusal_says_which_value_came_from_where(query, match_all, said):
    with pytest.raises(RefusedQuery, match="query 'a ") as error:
        resolve_all([Query("a bowl"), query], match_all, 0.0, PROFILE)
    assert said in str(error.value)


def test_a_default_below_which_nothing_is_rejected_gives_way():
    low, plain = resolve_all([Query("low", match_threshold=0.2), Query("plain")], 0.0, 0.9, PROFILE)
    assert (low.match_threshold, low.reject_threshold) == (0.2, 0.2)
    assert (plain.match_threshold, plain.reject_threshold) == (0.5, 0.5)
