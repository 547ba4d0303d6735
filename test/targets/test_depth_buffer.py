"""What the node knows of depth, without a node: the buffer by stamp, intrinsics of a CameraInfo, transforms."""

import sys
import types

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from esam_perception.environment.distro import distro_name, fastdds_variable
from esam_perception.ros.cameras.camera import camera_info
from esam_perception.ros.wire.transforms import NoTransform, TargetTransform, rotation_matrix
from esam_perception.targets.depth import (
    ARRIVAL_SECONDS,
    Arrivals,
    DepthBuffer,
    NoDepth,
    advice_on_lost_depth,
    camera_info_beside,
    intrinsics_of,
    is_distorted,
    is_rectified,
)
from esam_perception.targets.measure import measure_target
from esam_perception.types import Intrinsics

MATRIX = np.array([[500.0, 0, 319.5], [0, 510.0, 239.5], [0, 0, 1]])


def test_the_nearest_message_within_the_tolerance_never_the_latest():
    buffer = DepthBuffer()
    assert buffer.nearest(5, 10**18) is None and buffer.distance(5) is None
    for stamp in (100, 200, 300):
        buffer.put(stamp, f"depth {stamp}")
    assert buffer.nearest(190, 20) == "depth 200" and buffer.nearest(110, 10) == "depth 100"
    assert buffer.nearest(150, 40) is None and buffer.distance(150) == 50
    assert buffer.nearest(1000, 20) is None
    buffer.put(200, "again")
    assert buffer.nearest(200, 0) == "again" and len(buffer) == 3
    buffer.clear()
    assert len(buffer) == 0 and buffer.nearest(200, 10) is None


def test_what_is_wanted_stays_and_the_rest_is_bounded():
    buffer = DepthBuffer(kept=4)
    buffer.put(100, "wanted")
    buffer.want("work", 101)
    for stamp in range(200, 400, 10):
        buffer.put(stamp, stamp)
        assert len(buffer) <= 4
    assert buffer.nearest(101, 5) == "wanted"
    # a nearer one comes late and takes its place
    buffer.put(101, "nearer")
    for stamp in range(400, 600, 10):
        buffer.put(stamp, stamp)
    assert buffer.nearest(101, 0) == "nearer" and len(buffer) <= 4
    buffer.want("work", 590)
    for stamp in range(600, 700, 10):
        buffer.put(stamp, stamp)
    assert buffer.nearest(101, 5) is None and buffer.nearest(590, 0) == 590


@given(st.lists(st.integers(0, 1000)), st.integers(1, 5))
def test_the_buffer_is_bounded_whatever_the_clock_does(stamps, kept):
    buffer = DepthBuffer(kept)
    buffer.want("work", 500)
    for stamp in stamps:
        buffer.put(stamp, stamp)
        assert len(buffer) <= max(kept, 1) and (kept == 1 or buffer.nearest(stamp, 0) == stamp)
    if stamps:
        assert buffer.distance(500) == min(abs(stamp - 500) for stamp in stamps)


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


def test_the_advice_on_lost_depth_names_the_variable_of_the_cameras_driver():
    """As measured with a driver that was started without it: images of 0.9 MB come, depth of 1.2 MB mostly not."""
    told = advice_on_lost_depth(images=50, infos=52, depths=14)
    variable = fastdds_variable(distro_name())
    for word in ("50 images", "52 camera_infos", "14 depth", "camera's driver", variable, "config/fastdds.xml"):
        assert word in told
    assert advice_on_lost_depth(50, 52, 52) == "" and advice_on_lost_depth(50, 52, 47) == ""  # as good as all of them
    assert advice_on_lost_depth(2, 3, 0) == ""  # too few to tell
    # images get lost too, and camera_info, which is small, tells how many there were
    assert advice_on_lost_depth(images=10, infos=50, depths=10)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_the_advice_is_given_for_missing_depth_alone(images, infos, depths):
    told = advice_on_lost_depth(images, infos, depths)
    if depths >= max(images, infos):
        assert told == ""
    elif max(images, infos) >= 20 and depths * 2 <= max(images, infos):
        assert told


def info(width=640, height=480, **changes) -> CameraInfo:
    made = camera_info(MATRIX, width, height, Header())
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_intrinsics_of_the_same_size_of_another_and_of_a_region():
    assert intrinsics_of(info(), 640, 480) == Intrinsics(500.0, 510.0, 319.5, 239.5, 640, 480)
    half = intrinsics_of(info(), 320, 240)
    assert (half.fx, half.cx, half.cy) == (250, 159.5, 119.5)  # the centre stays the centre
    assert intrinsics_of(info(320, 240), 640, 480).fx == 1000
    region = RegionOfInterest(x_offset=100, y_offset=50, width=200, height=100)
    part = intrinsics_of(info(roi=region), 200, 100)
    assert (part.fx, part.cx, part.cy) == (500, 219.5, 189.5)
    assert intrinsics_of(info(0, 0), 640, 480).cx == 319.5
    rectified = info(p=[400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0])
    assert intrinsics_of(rectified, 640, 480, rectified=True) == Intrinsics(400.0, 410.0, 300.0, 200.0, 640, 480)


@pytest.mark.parametrize(
    "made, reason",
    [
        (info(k=[0.0] * 9), "bad_camera_info"),
        (CameraInfo(width=640, height=480), "bad_camera_info"),
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


def test_rotations():
    np.testing.assert_allclose(rotation_matrix(0, 0, 0, 2), np.eye(3))
    np.testing.assert_allclose(rotation_matrix(0, 0, np.sqrt(0.5), np.sqrt(0.5)) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    for wrong in ((0, 0, 0, 0), (np.nan, 0, 0, 1), (np.inf, 0, 0, 1)):
        with pytest.raises(NoTransform):
            rotation_matrix(*wrong)


class FakeTf2(types.ModuleType):
    """tf2_ros as far as it is used: one transform, known at one instant alone."""

    class TransformException(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("tf2_ros")
        told = self.asked = []
        failure = self.TransformException

        class Buffer:
            def lookup_transform(self, target, source, at):
                told.append((target, source, at.nanoseconds))
                if at.nanoseconds != 7_000_000_001:
                    raise failure(f"extrapolation into the future: '{source}' to '{target}'")
                from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

                turn = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)  # an optical frame's axes to x forward, z up
                return TransformStamped(transform=Transform(translation=Vector3(x=1.0, y=2.0, z=3.0), rotation=turn))

        class TransformListener:
            def __init__(self, buffer, node, spin_thread) -> None:
                assert not spin_thread

            def unregister(self) -> None:
                told.append("unregistered")

        self.Buffer, self.TransformListener = Buffer, TransformListener


def test_targets_in_another_frame_at_the_stamp_of_the_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", fake := FakeTf2())
    mask = np.ones((48, 64), bool)
    camera = Intrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
    target = measure_target(mask, np.full(mask.shape, 1.5, np.float32), camera)
    transform = TargetTransform(None, "base_link")
    (moved,) = transform.apply([target], Time(sec=7, nanosec=1), "camera_optical")
    assert fake.asked == [("base_link", "camera_optical", 7_000_000_001)]
    # 1.5 m ahead of the camera, which stands at (1, 2, 3) and looks along x
    np.testing.assert_allclose(moved.position, [2.5, 2, 3], atol=1e-6)
    # 0.5 % along the ray: now along x
    assert moved.covariance[0, 0] == pytest.approx(target.covariance[2, 2])
    assert transform.apply([target], Time(sec=9), "base_link") == [target]  # there already
    assert transform.apply([], Time(sec=9), "camera_optical") == []
    with pytest.raises(NoTransform, match="extrapolation"):
        transform.apply([target], Time(sec=8), "camera_optical")
    # zero is 'the latest' to TF, and never asked for
    asked = len(fake.asked)
    with pytest.raises(NoTransform, match="no stamp"):
        transform.apply([target], Time(), "camera_optical")
    assert len(fake.asked) == asked
    transform.close()
    assert fake.asked[-1] == "unregistered"


def test_a_target_frame_without_tf2_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with pytest.raises(NoTransform, match="tf2_ros is not installed.*apt-get install"):
        TargetTransform(None, "base_link")
