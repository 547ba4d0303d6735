from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from esam_perception.targets import depth
from esam_perception.targets.depth import LATE_SECONDS, DepthBuffer

SECOND = 1_000_000_000


class Clock:
    """Seconds that stand still until they are set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def message(name, size=10):
    return SimpleNamespace(name=name, data=bytes(size))


def name_at(buffer, stamp, tolerance):
    found = buffer.nearest(stamp, tolerance)
    return None if found is None else found.name


def test_the_nearest_message_within_the_tolerance_never_the_latest():
    buffer = DepthBuffer()
    assert buffer.nearest(5, 10**18) is None and buffer.distance(5) is None
    for stamp in (100, 300, 200):
        buffer.put(stamp, message(stamp))
    assert name_at(buffer, 190, 20) == 200 and name_at(buffer, 110, 10) == 100
    assert buffer.nearest(150, 40) is None and buffer.distance(150) == 50
    assert buffer.nearest(1000, 20) is None
    buffer.put(200, message("again"))
    assert name_at(buffer, 200, 0) == "again" and len(buffer) == 3
    buffer.clear()
    assert len(buffer) == 0 and buffer.nearest(200, 10) is None


def test_the_depth_of_every_kept_image_stays_however_much_faster_depth_comes():
    """Depth at 30 Hz, images at 5 Hz that come 0.4 s late, ten of them kept: two seconds, 60 depth images."""
    clock, frames = Clock(), 10
    buffer, images = DepthBuffer(frames, clock), []
    for tick in range(300):
        clock.now = tick / 30
        stamp = tick * SECOND // 30
        buffer.put(stamp, message(stamp))
        if tick >= 12 and tick % 6 == 0:
            images.append((tick - 12) * SECOND // 30)
            buffer.image(images[-1])
        assert [name_at(buffer, stamp, 0) for stamp in images[-frames:]] == images[-frames:]
    # and no more than that: of all others those of the last second
    assert len(buffer) <= frames + 31


def test_what_is_wanted_stays_and_the_rest_goes_by_time():
    clock = Clock()
    buffer = DepthBuffer(1, clock)
    buffer.put(100, message("wanted"))
    buffer.want("work", 101)
    for stamp in range(200, 400, 10):
        clock.now += LATE_SECONDS / 4
        buffer.put(stamp, message(stamp))
        assert len(buffer) <= 1 + 5
    assert name_at(buffer, 101, 5) == "wanted"
    # a nearer one comes late and takes its place
    buffer.put(101, message("nearer"))
    for stamp in range(400, 600, 10):
        clock.now += LATE_SECONDS / 4
        buffer.put(stamp, message(stamp))
    assert name_at(buffer, 101, 0) == "nearer" and buffer.distance(100) == 1 and len(buffer) <= 1 + 5
    buffer.want("work", 590)
    for stamp in range(600, 700, 10):
        clock.now += LATE_SECONDS / 4
        buffer.put(stamp, message(stamp))
    assert buffer.nearest(101, 5) is None and name_at(buffer, 590, 0) == 590


def test_depth_that_comes_too_fast_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(depth, "MOST_BYTES", 100)
    buffer = DepthBuffer(1, Clock())
    buffer.put(0, message(0))
    buffer.image(0)
    for stamp in range(1, 50):
        buffer.put(stamp, message(stamp))
    assert name_at(buffer, 0, 0) == 0 and [stamp for stamp in range(1, 50) if buffer.nearest(stamp, 0)] == [
        *range(40, 50)
    ]
    buffer.put(50, message("larger than all that is allowed", 200))
    assert name_at(buffer, 50, 0) and len(buffer) == 2


STEPS = st.lists(
    st.tuples(st.sampled_from(["depth", "image", "want"]), st.integers(0, 60), st.floats(0, 0.7)), max_size=60
)


@given(STEPS, st.integers(1, 4))
def test_nothing_that_may_be_asked_for_is_lost_whatever_the_stamps_do(steps, frames):
    clock = Clock()
    buffer = DepthBuffer(frames, clock)
    images, best, arrived = (
        [],
        {},
        {},
    )  # the images kept; how near depth came to what is kept; when depth of a stamp came
    for what, stamp, seconds in steps:
        clock.now += seconds
        if what == "depth":
            buffer.put(stamp, message(stamp))
            arrived[stamp] = clock.now
            best = {key: min(abs(key[1] - stamp), near) for key, near in best.items()}
        else:
            key = (what, stamp)
            seen = buffer.distance(stamp)
            if what == "image":
                buffer.image(stamp)
                images = [one for one in images if one != stamp][-(frames - 1) :] if frames > 1 else []
                images.append(stamp)
                best = {k: near for k, near in best.items() if k[0] == "want" or k[1] in images}
            else:
                buffer.want("work", stamp)
                best = {k: near for k, near in best.items() if k[0] == "image"}
            best.setdefault(key, 1000 if seen is None else seen)
        for (_, asked), near in best.items():
            assert near == 1000 or buffer.distance(asked) <= near
        assert all(
            name_at(buffer, one, 0) == one for one, moment in arrived.items() if clock.now - moment <= LATE_SECONDS
        )
    if arrived:
        newest = max(arrived.values())
        young = [one for one, moment in arrived.items() if newest - moment <= LATE_SECONDS]
        # what was held for images that are kept no longer goes with the next message
        buffer.put(61, message(61))
        assert len(buffer) <= len(young) + 1 + frames + 1
