from hypothesis import given
from hypothesis import strategies as st

from esam_perception.targets.arrivals import ARRIVAL_SECONDS, Arrivals, advice_on_lost_depth

REMEDY = "feed the camera"


def test_what_came_lately_is_counted_by_kind():
    now = [100.0]
    arrivals = Arrivals(lambda: now[0])
    assert arrivals.lately("depth") == 0
    for kind in ("image", "depth", "image"):
        arrivals.note(kind)
        now[0] += 1
    assert (arrivals.lately("image"), arrivals.lately("depth")) == (2, 1)
    now[0] = 101 + ARRIVAL_SECONDS + 0.5  # the first image and the depth are older now
    assert (arrivals.lately("image"), arrivals.lately("depth")) == (1, 0)
    arrivals.clear()
    assert arrivals.lately("image") == 0


def test_the_advice_on_lost_depth_says_what_came_and_what_mends_it():
    """As measured with a driver that was started without it: images of 0.9 MB come, depth of 1.2 MB mostly not."""
    told = advice_on_lost_depth(images=50, infos=52, depths=14, remedy=REMEDY)
    for word in ("50 images", "52 camera_infos", "14 depth", REMEDY):
        assert word in told
    assert (
        advice_on_lost_depth(50, 52, 52, REMEDY) == "" and advice_on_lost_depth(50, 52, 47, REMEDY) == ""
    )  # as good as all of them
    assert advice_on_lost_depth(2, 3, 0, REMEDY) == ""  # too few to tell
    # images get lost too, and camera_info, which is small, tells how many there were
    assert advice_on_lost_depth(images=10, infos=50, depths=10, remedy=REMEDY)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_the_advice_is_given_for_missing_depth_alone(images, infos, depths):
    told = advice_on_lost_depth(images, infos, depths, REMEDY)
    if depths >= max(images, infos):
        assert told == ""
    elif max(images, infos) >= 20 and depths * 2 <= max(images, infos):
        assert told
