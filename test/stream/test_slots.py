import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.stream.rotation import QueryRotation
from esam_perception.stream.slots import FrameBuffer, FrameNotKept
from esam_perception.stream.turns import FairLock
from esam_perception.types import Query, Timing


@given(st.lists(st.integers(0, 20)), st.integers(1, 8))
def test_the_buffer_holds_the_last_frames_by_their_stamps(stamps, size):
    buffer = FrameBuffer(size)
    for number, stamp in enumerate(stamps):
        buffer.put(stamp, number)
    last = {stamp: number for number, stamp in enumerate(stamps)}
    kept = sorted(last, key=last.get)[-size:]
    for stamp in range(21):
        if stamp in kept:
            assert buffer.at(stamp) == last[stamp]
        else:
            with pytest.raises(FrameNotKept, match="is not kept"):
                buffer.at(stamp)
    assert buffer.newest() == (last[kept[-1]] if kept else None)
    buffer.clear()
    assert buffer.newest() is None


def test_the_buffer_says_what_it_keeps():
    buffer = FrameBuffer(2)
    for stamp in (1_500_000_000, 2_000_000_000, 2_500_000_000):
        buffer.put(stamp, stamp)
    with pytest.raises(FrameNotKept, match=r"stamp 1\.500000000 is not kept; kept are 2 frames from 2\.0+ to 2\.5"):
        buffer.at(1_500_000_000)


def test_the_lock_lets_others_in_although_one_takes_it_again_at_once():
    lock, turns = FairLock(), []
    stop = threading.Event()

    def stream():
        while not stop.is_set():
            with lock:
                time.sleep(0.005)

    worker = threading.Thread(target=stream)
    worker.start()
    began = time.monotonic()
    for i in range(5):
        with lock:
            turns.append(i)
    stop.set()
    worker.join()
    assert turns == list(range(5)) and time.monotonic() - began < 5


def timing(queries, image=60.0, query=20.0):
    return Timing(blip_image=image, total=image + queries * query)


def test_queries_rotate_within_the_budget_and_all_have_their_turn():
    rotation = QueryRotation()
    queries = [Query(f"thing {i}") for i in range(7)]
    assert rotation.choose(queries, 0.125) == tuple(queries)  # nothing is known yet
    asked = []
    for _ in range(7):
        rotation.note(timing(len(asked[-1]) if asked else 7), len(asked[-1]) if asked else 7, 7, 0.125)
        asked.append(rotation.choose(queries, 0.125))
    assert [len(part) for part in asked] == [3] * 7
    assert rotation.text == "3 of 7 queries a frame, in rotation"
    counts = [sum(query in part for part in asked) for query in queries]
    assert counts == [3] * 7
    assert rotation.choose(queries, 0.0) == tuple(queries)


def test_a_budget_below_one_query_says_that_the_rate_falls():
    rotation = QueryRotation()
    rotation.note(timing(2), 2, 2, 0.05)
    assert len(rotation.choose([Query("a"), Query("b")], 0.05)) == 1
    assert "1 of 2" in rotation.text and "80 ms of 50 ms: the rate falls" in rotation.text
