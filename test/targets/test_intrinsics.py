from types import SimpleNamespace

import pytest

from esam_perception.targets.depth import NoDepth
from esam_perception.targets.intrinsics import camera_info_beside, intrinsics_of, is_distorted, is_rectified
from esam_perception.types import Intrinsics


def info(width=640, height=480, **changes):
    """What a sensor_msgs/CameraInfo is to its reader; the real one: test/ros/test_transforms.py."""
    k = [500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]
    fields = {"k": k, "p": [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0], "d": [0.0] * 5, "roi": region()}
    return SimpleNamespace(width=width, height=height, **{**fields, **changes})


def region(**fields):
    return SimpleNamespace(**{"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, **fields})


def test_intrinsics_of_the_same_size_of_another_and_of_a_region():
    assert intrinsics_of(info(), 640, 480) == Intrinsics(500.0, 510.0, 319.5, 239.5, 640, 480)
    half = intrinsics_of(info(), 320, 240)
    assert (half.fx, half.cx, half.cy) == (250, 159.5, 119.5)  # the centre stays the centre
    assert intrinsics_of(info(320, 240), 640, 480).fx == 1000
    part = intrinsics_of(info(roi=region(x_offset=100, y_offset=50, width=200, height=100)), 200, 100)
    assert (part.fx, part.cx, part.cy) == (500, 219.5, 189.5)
    assert intrinsics_of(info(0, 0), 640, 480).cx == 319.5
    rectified = info(p=[400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0])
    assert intrinsics_of(rectified, 640, 480, rectified=True) == Intrinsics(400.0, 410.0, 300.0, 200.0, 640, 480)


@pytest.mark.parametrize(
    "made, reason",
    [
        (info(k=[0.0] * 9), "bad_camera_info"),
        (info(k=[0.0] * 9, p=[0.0] * 12), "bad_camera_info"),
        (info(k=[float("nan")] * 9), "bad_camera_info"),
        (info(k=[-500.0, 0, 1, 0, 500, 1, 0, 0, 1]), "bad_camera_info"),
        (info(600, 480), "camera_info_of_another_size"),
        (info(320, 480), "camera_info_of_another_size"),
        (info(1000, 1000), "camera_info_of_another_size"),
    ],
)
def test_intrinsics_that_are_none(made, reason):
    with pytest.raises(NoDepth) as refused:
        intrinsics_of(made, 640, 480)
    assert refused.value.reason == reason and reason in NoDepth.REASONS


def test_names_of_topics_and_distortion():
    assert camera_info_beside("/camera/color/image_raw") == "/camera/color/camera_info"
    assert camera_info_beside("/image") == "/camera_info" and camera_info_beside("image") == "camera_info"
    assert is_rectified("/camera/image_rect") and is_rectified("/camera/image_rect_color")
    assert not is_rectified("/camera/image_raw") and not is_rectified("/rectangle/image")
    assert not is_distorted(info()) and is_distorted(info(d=[0.0, 0.1, 0.0, 0.0, 0.0]))
