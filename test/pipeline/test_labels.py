import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.pipeline.labels import LAST_LABEL, label_table, query_labels, segment_label
from esam_perception.types import Query


def queries_of(count):
    return [Query(f"thing {i}", f"id {i}" if i % 2 else "") for i in range(count)]


@given(st.integers(1, 60), st.integers(1, 6))
def test_labels_are_unique_and_end_before_255(queries, regions):
    labels = [segment_label(q, rank, queries) for rank in range(regions) for q in range(queries)]
    given_out = [label for label in labels if label is not None]
    assert len(set(given_out)) == len(given_out) and min(given_out) == 1 and max(given_out) <= 254
    assert len(given_out) == min(len(labels), 254)


@given(st.integers(0, 300), st.one_of(st.none(), st.integers(0, 6)))
def test_the_table_lists_what_segment_label_gives_and_nothing_else(count, regions):
    queries = queries_of(count)
    labels = {}
    for place, query in enumerate(queries):
        for rank in range(LAST_LABEL + 1 if regions is None else regions):
            if (label := segment_label(place, rank, count)) is None:
                break  # those of higher ranks are higher
            labels[label] = query.key
    table = label_table(queries, regions)
    assert dict(table) == labels and [label for label, _ in table] == sorted(labels)


@pytest.mark.parametrize(
    "count, ranks", [(1, [254]), (2, [127, 127]), (64, [4] * 62 + [3] * 2), (255, [1] * 254 + [0])]
)
def test_how_many_labels_each_query_has(count, ranks):
    assert [len(query_labels(i, count)) for i in range(count)] == ranks


def test_a_small_table_in_full():
    assert label_table(queries_of(2), 2) == [(1, "thing 0"), (2, "id 1"), (3, "thing 0"), (4, "id 1")]
    assert label_table([]) == []
