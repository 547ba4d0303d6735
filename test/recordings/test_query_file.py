import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esam_perception.recordings.query_file import QueryFileError, read_queries
from esam_perception.types import Query


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("q.txt", "# mugs\nthe red mug\n\n a banana  # ripe\nthe red mug\n", [Query("the red mug"), Query("a banana")]),
        ("q.yaml", "- the red mug\n- {text: a banana, id: b, match_threshold: 0.7, reject_threshold: 0.2}\n",
         [Query("the red mug"), Query("a banana", "b", 0.7, 0.2)]),
        ("q.yml", "queries:\n  - {text: a cup, id: 7}\n", [Query("a cup", "7")]),
        ("q.json", json.dumps([{"text": "a cup", "match_threshold": 1}]), [Query("a cup", "", 1.0)]),
    ],
)  # fmt: skip
def test_what_is_taken(tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_text(text)
    assert list(read_queries(path)) == expected


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("q.txt", "# nothing\n\n", "no queries"),
        ("q.txt", "?!\n", "no words"),
        ("q.txt", "\n".join(f"thing {i}" for i in range(65)), "more than 64"),
        ("q.yaml", "", "no queries"),
        ("q.yaml", "a: [", "q.yaml:1: is neither YAML nor JSON"),
        ("q.yaml", "just words", "must be a list"),
        ("q.yaml", "- {id: x}", "query 1 must be"),
        ("q.yaml", "- {text: a cup, treshold: 0.3}", "unknown field 'treshold'"),
        ("q.yaml", "- {text: a cup, match_threshold: high}", "must be a number"),
        ("q.yaml", "- {text: a cup, match_threshold: 0.3, reject_threshold: 0.5}", "threshold"),
        ("q.yaml", "- {text: a cup, id: x}\n- {text: a mug, id: x}", "given twice"),
        ("q.json", '{"text": 3}', "must be a list"),
        ("q.yaml", "[" * 20_000, "cannot be read as YAML"),
        ("q.yaml", "- {text: a cup, id: 2020-13-45}", "month"),
        pytest.param("q.yaml", "- {text: a cup, match_threshold: " + "9" * 5000 + "}", "", id="5000 digits"),
        ("q.yaml", "- {text: a cup, match_threshold: " + "9" * 400 + "}", "0..1"),
        ("q.yaml", "- {text: a cup, match_threshold: .nan}", "thresholds must"),
        ("q.yaml", "- {text: a cup, match_threshold: false}", "must be a number"),
        ("q.yaml", "- {text: a cup, match_threshold: []}", "must be a number"),
        ("q.yaml", "- {text: a cup, id: [a]}", "an id must be"),
    ],
)
def test_what_is_refused(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(QueryFileError) as error:
        read_queries(path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("nowhere", "binary"):
        with pytest.raises(QueryFileError, match="cannot be read"):
            read_queries(tmp_path / name)


PIECES = ["- ", "text: ", "a cup", "id: ", "{", "}", "[", "]", ", ", "\n", "  ", "queries:", "match_threshold: ", "0.5", ".inf", "9" * 400,
          "&a ", "*a", "<<: ", "!!python/name:os.system ", "!!binary x", "!!set ", "? ", "2020-02-31", "\t", "|", "'", "~", "#"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=14), st.sampled_from(["q.yaml", "q.txt"]))
def test_whatever_is_in_it_there_are_queries_or_a_reason(tmp_path_factory, pieces, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_text("".join(pieces), encoding="utf-8", errors="replace")
    try:
        queries = read_queries(path)
    except QueryFileError as error:
        assert name in str(error)
    else:
        assert queries and all(query.text.strip() for query in queries)
