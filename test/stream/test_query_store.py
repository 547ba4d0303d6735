import errno
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esam_perception.stream.query_sets import MAX_CHARACTERS, MAX_QUERIES, RefusedQuery, checked_queries
from esam_perception.stream.query_store import MOST_BYTES, QueryStore, QueryStoreError
from esam_perception.types import Query

MUG, BALL = Query("the red mug", "m", 0.7, 0.2), Query("a ball; blue", "")
WORDS = st.text(min_size=1, max_size=12)
THRESHOLDS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@st.composite
def query_sets(draw):
    made = [
        Query(draw(WORDS), draw(st.one_of(st.just(""), WORDS)), high, low)
        for low, high in draw(st.lists(THRESHOLDS, max_size=5))
    ]
    try:
        return checked_queries(made)
    except RefusedQuery:
        return ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)  # a disk takes what it takes
@given(query_sets(), query_sets())
def test_any_legal_set_comes_back_in_another_process(tmp_path, first, second):
    for queries in (first, second, ()):
        QueryStore(tmp_path, "/robot/esam").save(queries)
        assert QueryStore(tmp_path, "/robot/esam").load() == queries
    assert [path.name for path in (tmp_path / "esam").iterdir()] == ["robot.esam.queries.json"]


def test_numbers_of_any_kind_come_back_as_numbers(tmp_path):
    QueryStore(tmp_path, "/esam").save([Query("a mug", "", 1, np.float32(0.5))])
    assert QueryStore(tmp_path, "/esam").load() == (Query("a mug", "", 1.0, 0.5),)


def test_the_largest_legal_set_fits(tmp_path):
    queries = checked_queries(
        # the longest as UTF-8, and as JSON
        Query("a" + "\U0001f600" * (MAX_CHARACTERS - 1), f"{i:03}" + "\U0001f600" * (MAX_CHARACTERS - 3), 1 / 3, 1 / 7)
        for i in range(MAX_QUERIES)
    )
    store = QueryStore(tmp_path, "/esam")
    store.save(queries)
    assert store.path.stat().st_size <= MOST_BYTES and store.load() == queries


def test_each_node_has_its_own_file_and_nothing_kept_is_none_not_an_empty_set(tmp_path):
    names = ("/esam", "/a/b", "/a_b", "/a/b/c")
    stores = [QueryStore(tmp_path / "not there yet", name) for name in names]
    assert len({store.path for store in stores}) == len(names)
    assert [store.load() for store in stores] == [None] * 4
    stores[1].save([MUG])
    stores[2].save([])
    assert [QueryStore(tmp_path / "not there yet", name).load() for name in names] == [None, (MUG,), (), None]


def entry(**changes):
    return {"text": "a mug", "id": "", "match_threshold": 0.0, "reject_threshold": 0.0, **changes}


def file_of(*entries, version=1):
    return json.dumps({"version": version, "run": "", "queries": list(entries)})


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "Expecting value"),
        (file_of(entry())[:-9], "line 1 column"),
        (b"\xff\xfe", "utf-8"),
        ("[]", "version"),
        ("[" * 100_000, "recursion"),
        ('{"version": 1}', "version"),
        ('{"version": 1, "run": 3, "queries": []}', "run"),
        ('{"version": 1, "run": "", "queries": {}}', "list"),
        (file_of(version=2), "of version 2"),
        (file_of("a mug"), "a query must hold text"),
        (file_of({"text": "a mug"}), "a query must hold text"),
        (file_of(entry(more=1)), "a query must hold text"),
        (file_of(entry(text=5)), "text and id of a query must be texts"),
        (file_of(entry(match_threshold=True)), "of a query must be numbers in 0..1"),
        (file_of(entry(match_threshold="0.5")), "of a query must be numbers in 0..1"),
        (file_of(entry(match_threshold=float("nan"))), "numbers"),
        (file_of(entry(match_threshold=0.2, reject_threshold=0.5)), "thresholds"),
        (file_of(entry(match_threshold=0.5)).replace("0.5", "1" * 5000), "digits|numbers"),
        (file_of(entry(match_threshold=0.5)).replace("0.5", "1" * 400), "numbers"),
        (file_of(entry(text="a\nmug")), "control characters"),
        (file_of(entry(text="\ud800 mug")), "control characters"),
        (file_of(entry(text="?")), "no words"),
        (file_of(entry(), entry()), "given twice"),
        (file_of(*(entry(id=str(i)) for i in range(MAX_QUERIES + 1))), "more than 64"),
        (" " * (MOST_BYTES + 1) + file_of(), "bytes"),
    ],
)
def test_a_damaged_file_is_a_reason_and_is_laid_aside(tmp_path, content, said):
    store = QueryStore(tmp_path, "/esam")
    store.path.parent.mkdir()
    store.path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = store.path.read_bytes()
    with pytest.raises(QueryStoreError, match=said) as error:
        store.load()
    assert error.value.reason == "damaged" and str(store.path) in str(error.value) and len(str(error.value)) < 500
    assert store.load() is None and (tmp_path / "esam" / "esam.queries.json.damaged").read_bytes() == before
    store.save([MUG])
    assert store.load() == (MUG,)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=60), st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["version", "run", "queries", "text", "id"]), inner, max_size=4),
    ),
).map(lambda content: json.dumps(content).encode())))  # fmt: skip
def test_whatever_the_file_holds_is_a_set_or_a_reason(tmp_path, content):
    store = QueryStore(tmp_path, "/esam")
    store.path.parent.mkdir(exist_ok=True)
    store.path.write_bytes(content)
    try:
        assert checked_queries(store.load()) is not None
    except QueryStoreError as error:
        assert error.reason == "damaged"


def test_what_is_no_file_makes_nobody_wait(tmp_path):
    store = QueryStore(tmp_path, "/esam")
    store.path.parent.mkdir()
    os.mkfifo(store.path)
    with pytest.raises(QueryStoreError) as error:
        store.load()
    assert error.value.reason == "not_read"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_a_reason_and_what_was_kept_stays(tmp_path, monkeypatch, step):
    store = QueryStore(tmp_path, "/esam")
    store.save([MUG])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        with pytest.raises(QueryStoreError, match="No space left on device") as error:
            store.save([BALL])
    assert error.value.reason == "not_written" and str(store.path) in str(error.value)
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]
    assert QueryStore(tmp_path, "/esam").load() == (MUG,)
    store.save([BALL])  # room again
    assert QueryStore(tmp_path, "/esam").load() == (BALL,)


def test_a_folder_that_cannot_be_made_is_a_reason(tmp_path):
    (tmp_path / "esam").write_text("a file")
    store = QueryStore(tmp_path, "/esam")
    for act, reason in ((lambda: store.save([MUG]), "not_written"), (store.load, "not_read")):
        with pytest.raises(QueryStoreError) as error:
            act()
        assert error.value.reason == reason and reason in QueryStoreError.REASONS


def test_a_node_that_is_killed_while_it_writes_leaves_the_old_set(tmp_path):
    store = QueryStore(tmp_path, "/esam")
    store.save([MUG])
    half = store.path.with_name(store.path.name + ".new")
    half.write_text('{"version": 1, "quer')
    assert QueryStore(tmp_path, "/esam").load() == (MUG,)
    store.save([BALL])
    assert QueryStore(tmp_path, "/esam").load() == (BALL,) and not half.exists()


def test_a_set_that_is_kept_already_is_not_written_again(tmp_path):
    QueryStore(tmp_path, "/esam").save([MUG])
    store = QueryStore(tmp_path, "/esam")
    assert store.load() == (MUG,)
    written = store.path.stat().st_ino
    store.save([MUG])
    assert store.path.stat().st_ino == written
    store.path.unlink()
    store.save([MUG])
    assert QueryStore(tmp_path, "/esam").load() == (MUG,)


def test_what_another_run_kept_is_none_of_this_ones(tmp_path):
    first, second = QueryStore(tmp_path, "/esam", "one"), QueryStore(tmp_path, "/esam", "two")
    first.save([MUG])
    assert second.load() is None and QueryStore(tmp_path, "/esam").load() is None
    assert QueryStore(tmp_path, "/esam", "one").load() == (MUG,)
    second.save([MUG])
    assert first.load() is None and second.load() == (MUG,)
