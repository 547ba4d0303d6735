"""Targets in another frame by TF, without a node; and what the cameras say of their intrinsics is what targets read."""

import sys
import types

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from esam_perception.ros.cameras.camera import camera_info
from esam_perception.ros.wire.transforms import NoTransform, TargetTransform, rotation_matrix
from esam_perception.targets.depth import NoDepth
from esam_perception.targets.intrinsics import intrinsics_of, is_distorted
from esam_perception.targets.measure import measure_target
from esam_perception.types import Intrinsics


def test_a_camera_info_is_read_as_it_was_made():
    made = camera_info(np.array([[500.0, 0, 319.5], [0, 510.0, 239.5], [0, 0, 1]]), 640, 480, Header())
    for rectified in (False, True):
        assert intrinsics_of(made, 640, 480, rectified) == Intrinsics(500.0, 510.0, 319.5, 239.5, 640, 480)
    made.roi = RegionOfInterest(x_offset=100, y_offset=50, width=200, height=100)
    assert intrinsics_of(made, 200, 100) == Intrinsics(500.0, 510.0, 219.5, 189.5, 200, 100)
    assert not is_distorted(made)
    with pytest.raises(NoDepth) as refused:
        intrinsics_of(type(made)(width=640, height=480), 640, 480)
    assert refused.value.reason == "bad_camera_info"


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
