import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from esam_perception import msg
from esam_perception.stream.query_sets import (
    MAX_CHARACTERS,
    MAX_QUERIES,
    RefusedQuery,
    parse_query_text,
    queries_of_message,
)
from esam_perception.types import Query


@pytest.mark.parametrize(
    "text, phrases",
    [
        ("the red mug", ["the red mug"]),
        (" the red mug ;\n a banana\n\n;the red mug", ["the red mug", "a banana"]),
        ("b\na\nb", ["b", "a"]),
        ("", []),
        (" ;\n ", []),
        ("die rote Tasse; 赤いマグカップ; красная кружка", ["die rote Tasse", "赤いマグカップ", "красная кружка"]),
    ],
)
def test_phrases(text, phrases):
    assert [query.text for query in parse_query_text(text)] == phrases


@pytest.mark.parametrize(
    "text, reason",
    [
        ("x" * 100_000, "too_long"),
        ("x" * (MAX_CHARACTERS + 1), "too_long"),
        (";".join(f"thing {i}" for i in range(MAX_QUERIES + 1)), "too_many"),
        ("the \x07 bell", "control_characters"),
        ("the\x00mug", "control_characters"),
        ("good; !!!", "no_words"),
    ],
)
def test_refusals(text, reason):
    with pytest.raises(RefusedQuery) as error:
        parse_query_text(text)
    assert error.value.reason == reason and len(str(error.value)) < 200


@given(st.text(max_size=400))
def test_any_text_gives_clean_queries_or_a_reason(text):
    try:
        queries = parse_query_text(text)
    except RefusedQuery as error:
        assert error.reason in RefusedQuery.REASONS
        return
    texts = [query.text for query in queries]
    assert len(set(texts)) == len(texts) <= MAX_QUERIES
    assert all(t == t.strip() and t and "\n" not in t and ";" not in t and len(t) <= MAX_CHARACTERS for t in texts)


@given(
    st.lists(st.builds(Query, st.text(max_size=9), st.text(max_size=3), st.floats(-1, 2), st.floats(-1, 2)), max_size=5)
)
def test_structured_queries_keep_ids_and_thresholds_or_are_refused(queries):
    message = msg.QueryArray()
    for q in queries:
        text, identity = (s.encode("utf-8", "replace").decode() for s in (q.text, q.id))
        message.queries.append(
            msg.Query(text=text, id=identity, match_threshold=q.match_threshold, reject_threshold=q.reject_threshold)
        )
    try:
        taken = queries_of_message(message)
    except RefusedQuery as error:
        assert error.reason in RefusedQuery.REASONS
        return
    assert len(taken) == len(queries) and len({query.key for query in taken}) == len(taken)
    for got, sent in zip(taken, message.queries):
        assert (got.text, got.id) == (sent.text.strip(), sent.id.strip())
        assert (got.match_threshold, got.reject_threshold) == (sent.match_threshold, sent.reject_threshold)
        assert 0 <= got.match_threshold <= 1 and 0 <= got.reject_threshold <= 1


@pytest.mark.parametrize("match, reject", [(math.nan, 0.0), (0.2, 0.5), (1.5, 0.0), (-0.1, 0.0)])
def test_thresholds_that_make_no_sense_are_refused(match, reject):
    message = msg.QueryArray(queries=[msg.Query(text="mug", match_threshold=match, reject_threshold=reject)])
    with pytest.raises(RefusedQuery) as error:
        queries_of_message(message)
    assert error.value.reason == "bad_threshold"


def test_one_id_for_two_queries_is_refused():
    message = msg.QueryArray(queries=[msg.Query(text="a", id="x"), msg.Query(text="b", id="x")])
    with pytest.raises(RefusedQuery) as error:
        queries_of_message(message)
    assert error.value.reason == "duplicate_id"
