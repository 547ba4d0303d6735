import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.stream.query_sets import (
    MAX_CHARACTERS,
    MAX_QUERIES,
    RefusedQuery,
    parse_query_text,
    parse_texts,
    queries_of_message,
)
from esam_perception.types import Query

THRESHOLDS = st.one_of(st.just(0.0), st.floats(-1, 2, width=32))


def query_array(*queries: Query) -> SimpleNamespace:
    """What an esam_perception/QueryArray is to its reader; a Query has the fields of the message of that name."""
    return SimpleNamespace(queries=list(queries))


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


def test_every_text_asked_of_locate_is_one_query():
    assert [query.text for query in parse_texts(["a mug; a bowl", " a mug", "a mug "])] == [
        "a mug; a bowl", "a mug", "a mug",
    ]  # fmt: skip
    assert parse_texts([]) == ()


@pytest.mark.parametrize(
    "texts, reason",
    [
        (["a mug", "a mug\na bowl"], "control_characters"),
        (["a mug", ""], "no_words"),
        (["; ;"], "no_words"),
        (["x" * (MAX_CHARACTERS + 1)], "too_long"),
        (["a mug"] * (MAX_QUERIES + 1), "too_many"),
        (["x" * 100_000] * 100_000, "too_many"),
    ],
)
def test_texts_that_locate_refuses(texts, reason):
    with pytest.raises(RefusedQuery) as error:
        parse_texts(texts)
    assert error.value.reason == reason and len(str(error.value)) < 200


@given(st.lists(st.text(max_size=9), max_size=MAX_QUERIES + 2))
def test_texts_of_locate_are_answered_one_by_one_or_refused(texts):
    try:
        queries = parse_texts(texts)
    except RefusedQuery as error:
        assert error.reason in RefusedQuery.REASONS
        return
    assert [query.text for query in queries] == [text.strip() for text in texts]
    # each could stand for itself
    assert all(parse_texts([text]) == (query,) for text, query in zip(texts, queries))


@given(st.lists(st.builds(Query, st.text(max_size=9), st.text(max_size=3), THRESHOLDS, THRESHOLDS), max_size=5))
def test_structured_queries_keep_ids_and_thresholds_or_are_refused(queries):
    message = query_array(*queries)
    try:
        taken = queries_of_message(message)
    except RefusedQuery as error:
        assert error.reason in RefusedQuery.REASONS
        return
    assert len(taken) == len(queries) and len({query.key for query in taken}) == len(taken)
    for got, sent in zip(taken, message.queries):
        assert (got.text, got.id) == (sent.text.strip(), sent.id.strip())
        # messages carry float32
        assert np.float32(got.match_threshold) == sent.match_threshold
        assert np.float32(got.reject_threshold) == sent.reject_threshold
        assert 0 <= got.match_threshold <= 1 and 0 <= got.reject_threshold <= 1


@pytest.mark.parametrize("match, reject", [(math.nan, 0.0), (0.2, 0.5), (1.5, 0.0), (-0.1, 0.0)])
def test_thresholds_that_make_no_sense_are_refused(match, reject):
    message = query_array(Query("mug", match_threshold=match, reject_threshold=reject))
    with pytest.raises(RefusedQuery) as error:
        queries_of_message(message)
    assert error.value.reason == "bad_threshold"


def test_thresholds_of_messages_are_what_was_written_not_the_float32_beside_it():
    (taken,) = queries_of_message(query_array(Query("mug", "", float(np.float32(0.6)), float(np.float32(0.1)))))
    assert (taken.match_threshold, taken.reject_threshold) == (0.6, 0.1)


def test_one_id_for_two_queries_is_refused():
    message = query_array(Query("a", "x"), Query("b", "x"))
    with pytest.raises(RefusedQuery) as error:
        queries_of_message(message)
    assert error.value.reason == "duplicate_id"
