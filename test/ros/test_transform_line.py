"""Frames that wait for their transform: in order, each for a bounded time, in a bounded line, in a thread that ends."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esam_perception.ros.wire.transform_line import TransformLine
from esam_perception.ros.wire.transforms import NoTransform

PATIENCE = 60.0  # of waiting for what must come
LONG = 3600.0  # a wait that no test waits for


class Told:
    """What TF knows, what was looked up, and what came out of the line."""

    def __init__(self, size: int = 8) -> None:
        self.known: set = set()
        self.looked: list = []
        self.done: list = []
        self._changed = threading.Condition()
        self.line = TransformLine(self._look, self._out, size)

    def _look(self, item):
        with self._changed:
            self.looked.append(item)
            self._changed.notify_all()
            if item == "broken":
                raise ZeroDivisionError("a fault of ours")
            if item not in self.known:
                raise NoTransform(f"{item} is unknown", may_come=item != "never")
        return f"pose of {item}"

    def _out(self, item, answer) -> None:
        with self._changed:
            self.done.append((item, str(answer)))
            self._changed.notify_all()

    def tell(self, *items) -> None:
        with self._changed:
            self.known.update(items)
        self.line.news()

    def wait(self, condition) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), (self.looked, self.done)


@pytest.fixture
def told(request):
    made = Told(getattr(request, "param", 8))
    made.line.start()
    yield made
    made.line.stop()


def threads() -> list:
    return [thread for thread in threading.enumerate() if thread.name == "targets"]


def test_what_tf_knows_goes_on_at_once(told):
    told.known.add("a")
    told.line.put("a", 0.0)
    told.wait(lambda: told.done == [("a", "pose of a")])
    assert told.looked == ["a"]


def test_a_transform_that_comes_late_is_waited_for_and_the_order_stays(told):
    for item in "abc":
        told.line.put(item, LONG)
    told.wait(lambda: told.looked)
    before = len(told.looked)
    told.tell("b", "c")
    told.wait(lambda: len(told.looked) > before)
    assert not told.done  # b is known, and goes after a
    told.tell("a")
    told.wait(lambda: len(told.done) == 3)
    assert told.done == [(item, f"pose of {item}") for item in "abc"]


def test_without_a_wait_there_is_one_look(told):
    told.line.put("a", 0.0)
    told.wait(lambda: told.done)
    assert told.done == [("a", "a is unknown")] and told.looked == ["a"]


def test_the_wait_is_bounded_whatever_news_come(told):
    """News that do not help, again and again, as of a tree that is not connected, do not lengthen it."""
    told.line.put("a", 0.05)
    end = threading.Event()

    def keep_telling():
        while not end.is_set():
            told.tell("something else")

    teller = threading.Thread(target=keep_telling)
    teller.start()
    try:
        told.wait(lambda: told.done)
    finally:
        end.set()
        teller.join()
    assert told.done == [("a", "a is unknown")]


def test_what_cannot_come_is_not_waited_for(told):
    told.line.put("never", LONG)
    told.wait(lambda: told.done == [("never", "never is unknown")])


@pytest.mark.parametrize("told", [2], indirect=True)
def test_the_oldest_is_given_up_where_too_many_wait(told):
    for item in "abcd":
        told.line.put(item, LONG)
    told.wait(lambda: len(told.done) == 2)
    assert [item for item, _ in told.done] == ["a", "b"]
    assert all("newer frames wait" in answer for _, answer in told.done)
    told.tell("c", "d")
    told.wait(lambda: told.done[2:] == [("c", "pose of c"), ("d", "pose of d")])


def test_a_fault_costs_its_frame_alone(told):
    told.known.add("a")
    told.line.put("broken", LONG)
    told.line.put("a", LONG)
    told.wait(lambda: len(told.done) == 2)
    assert told.done == [("broken", "ZeroDivisionError: a fault of ours"), ("a", "pose of a")]


def test_stopped_it_forgets_what_waits_and_leaves_no_thread():
    told = Told()
    assert not threads()
    told.line.put("before it starts", LONG)
    for _ in range(3):
        told.line.start()
        told.line.put("a", LONG)
        told.wait(lambda: "a" in told.looked)
        assert len(threads()) == 1
        told.line.stop()
        assert not threads()
        told.looked.clear()
    told.line.stop()  # again: nothing happens
    told.tell("a", "before it starts")
    told.line.start()
    told.known.add("b")
    told.line.put("b", LONG)
    told.wait(lambda: told.done)
    told.line.stop()
    assert told.done == [("b", "pose of b")]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), max_size=12))
def test_every_frame_comes_out_once_and_in_order(frames):
    told = Told(size=len(frames) + 1)
    told.known.update(i for i, known in enumerate(frames) if known)
    told.line.start()
    try:
        for i, known in enumerate(frames):
            told.line.put(i, LONG if known else 0.0)
        told.wait(lambda: len(told.done) == len(frames))
    finally:
        told.line.stop()
    assert told.done == [(i, f"pose of {i}" if known else f"{i} is unknown") for i, known in enumerate(frames)]
