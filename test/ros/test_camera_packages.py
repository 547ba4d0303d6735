"""The cameras on a machine that has ROS, NumPy and OpenCV, as after apt's steps in README.md: no simulator's packages."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.clock import Clock
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from esam_perception.environment.processes import Child
from esam_perception.images.encodings import image_to_rgb
from esam_perception.ros.cameras import camera as cameras
from esam_perception.ros.wire.transforms import rotation_matrix
from test.missing import SIMULATOR, environment_without
from test.ros.client import Client, own_environment


def test_the_recorded_clip_is_replayed_without_the_simulators_packages(tmp_path, clip, monkeypatch, domain_id):
    monkeypatch.setenv("PYTHONPATH", environment_without(tmp_path, (*SIMULATOR, "torch"))["PYTHONPATH"])
    log = tmp_path / "camera.log"
    camera = Child("esam_perception.ros.cameras.file_camera", {"source": "clip"}, log, own_environment(domain_id))
    client = Client(domain_id, "/unused")
    images: list[Image] = []
    infos: list[CameraInfo] = []
    client.node.create_subscription(Image, "/camera/image_raw", images.append, 5)
    client.node.create_subscription(CameraInfo, "/camera/camera_info", infos.append, 5)
    try:
        client.wait(lambda: camera.exit_code is not None or (images and infos), "an image of the clip")
        assert camera.exit_code is None, camera.log_tail()
        shown = image_to_rgb(images[-1])
        assert any((shown == frame.image).all() for frame in clip)
    finally:
        client.close()
        camera.stop()


@pytest.mark.parametrize("missing", [("mujoco",), ("trimesh",), SIMULATOR])
def test_a_simulated_camera_without_its_packages_says_which_and_how_to_get_them(tmp_path, missing):
    code = "import sys; from esam_perception.ros.cameras.simulated_camera import main; sys.exit(main())"
    environment = environment_without(tmp_path, missing)
    camera = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert camera.returncode == 3, camera.stderr
    (line,) = camera.stderr.strip().splitlines()
    assert any(name in line for name in missing) and "pip install -r requirements-tabletop.txt" in line
    assert "apt-get" not in line  # GL is not to blame


class Recorder:
    """A node as far as a camera's publishers need one: keeps what is published, by topic."""

    def __init__(self) -> None:
        self.published, self.qos = {}, {}

    def get_clock(self) -> Clock:
        return Clock()

    def create_publisher(self, kind, topic: str, qos):
        self.qos[topic] = qos
        return SimpleNamespace(publish=self.published.setdefault(topic, []).append)


def test_where_the_optical_frame_lies_is_published_for_viewers(monkeypatch):
    """With a stand-in for tf2_msgs, which the PyPI wheels do not have."""
    monkeypatch.setattr(cameras, "TFMessage", lambda transforms: transforms)
    node = Recorder()
    publishers = cameras.CameraPublishers(node)
    ((told,),) = node.published["/tf_static"]
    assert (told.header.frame_id, told.child_frame_id) == ("camera_link", "camera_optical_frame")
    # late viewers get it too
    assert node.qos["/tf_static"].durability == DurabilityPolicy.TRANSIENT_LOCAL
    q = told.transform.rotation
    # ahead is the optical frame's z and the camera's x; right its x and the camera's -y
    turn = rotation_matrix(q.x, q.y, q.z, q.w)
    np.testing.assert_allclose(turn @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    publishers.publish(np.zeros((4, 6, 3), np.uint8), np.eye(3))
    assert node.published["camera/image_raw"][0].header.frame_id == told.child_frame_id
    assert len(node.published["/tf_static"]) == 1


def test_without_tf2_msgs_there_is_everything_else(monkeypatch):
    monkeypatch.setattr(cameras, "TFMessage", None)
    node = Recorder()
    cameras.CameraPublishers(node).publish(np.zeros((4, 6, 3), np.uint8), np.eye(3))
    assert "/tf_static" not in node.published and node.published["camera/image_raw"]
