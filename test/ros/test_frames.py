import threading
import time

from esam_perception.ros.frames import LatestFrameSlot


def test_the_latest_frame_wins_and_the_others_are_counted():
    slot = LatestFrameSlot()
    for frame in range(5):
        slot.put(frame)
    assert slot.take(0) == 4 and slot.dropped == 4
    assert slot.take(0.01) is None
    slot.put(5)
    assert slot.take(0) == 5 and slot.dropped == 4


def test_a_waiting_reader_is_woken_by_a_frame_and_by_the_end():
    slot, taken = LatestFrameSlot(), []

    def read():
        while (frame := slot.take()) is not None:
            taken.append(frame)

    reader = threading.Thread(target=read)
    reader.start()
    slot.put("frame")
    deadline = time.monotonic() + 5
    while not taken and time.monotonic() < deadline:
        time.sleep(0.01)
    slot.close()
    reader.join(5)
    assert not reader.is_alive() and taken == ["frame"]
    slot.put("late")
    assert slot.take(0) is None
