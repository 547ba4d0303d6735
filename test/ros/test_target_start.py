"""3D targets from nodes that were started otherwise, each in a process of its own: without depth, with a target frame,
without optional packages, beside the simulated camera."""

import importlib.util
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("visualization_msgs", reason="visualization_msgs is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from std_msgs.msg import String

from esam_perception.contract import to_nanoseconds
from esam_perception.environment.processes import Child
from esam_perception.images.masks import mask_iou
from esam_perception.training.measure.targets import ELLIPSOID_95, intrinsics_of, visible_centroid
from test.conftest import ROOT
from test.ros.client import Client, own_environment
from test.ros.depth_client import (
    PARAMETERS,
    DepthClient,
    check_against_truth,
    first_segment,
    good,
    position_of,
    scene_fixture,  # noqa: F401 - used by its name, scene
    show,
)
from test.ros.forked import ForkedChild


@pytest.fixture
def start(start):
    """The same, with a DepthClient unless another kind is given."""
    return lambda parameters, kind=DepthClient, **more: start(parameters, kind, **more)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A module that the node's process finds before the installed one."""

    def make(name: str, code: str) -> None:
        package = tmp_path / "stubs" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'stubs'}:{ROOT}")

    return make


def test_without_depth_there_are_matches_and_nothing_is_missed(start, scene):
    client, _ = start({"model": "tabletop", "reliability": "reliable"}, Client)
    client.wait_until_active()
    client.ask(scene[2].text)
    assert not first_segment(client.show(scene[0].image)).has_target
    status = client.status()
    assert status["targets"] == "0" and not [key for key in status if key.startswith("no_target/")]
    assert client.node.count_subscribers("/camera/camera_info") == 0


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_a_target_frame_without_tf2_is_an_error_at_configure(start):
    client, _ = start({**PARAMETERS, "target_frame": "base_link"}, Client)
    status = client.wait(
        lambda: (s := client.status())["level"] == DiagnosticStatus.ERROR and s, "the error in diagnostics"
    )
    assert "configure failed" in status["message"] and "tf2_ros is not installed" in status["message"]
    assert client.state() == "unconfigured"


# tf2_ros as far as it is used. The frame some_camera is always known, late_camera at the stamps (nanoseconds) that the topic
# told_late names, once it has named them; all others never.
FAKE_TF2 = """
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from std_msgs.msg import String

class TransformException(Exception):
    pass

class Buffer:
    def __init__(self):
        self.known = set()

    def set_transform(self, transform, authority):
        self.known.add(transform)

    def lookup_transform(self, target, source, at):
        if source != "some_camera" and not (source == "late_camera" and at.nanoseconds in self.known):
            raise TransformException(f"'{source}' is not connected to '{target}' at {at.nanoseconds}")
        turn = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
        return TransformStamped(transform=Transform(translation=Vector3(z=1.0), rotation=turn))

class TransformListener:
    def __init__(self, buffer, node, spin_thread):
        self.node, self.subscription = node, node.create_subscription(
            String, "/told_late", lambda message: buffer.set_transform(int(message.data), "test"), 10)

    def unregister(self):
        self.node.destroy_subscription(self.subscription)
"""


def test_markers_and_poses_in_the_target_frame_and_a_missing_transform_is_a_reason(start, stub, scene):
    """With a stand-in for tf2_ros, which the PyPI wheels do not have: what the node makes of what TF says."""
    stub("tf2_ros", FAKE_TF2)
    client, child = start({**PARAMETERS, "target_frame": "base_link"}, process=ForkedChild)
    client.wait_until_active()
    client.ask(scene[2].text)
    array = show(client, scene, good(scene))
    segment = first_segment(array)
    check_against_truth(segment, scene)  # in the image's frame, as ever
    poses = client.wait(lambda: [m for m in client.poses if m.header.stamp == array.header.stamp], "the poses")[-1]
    markers = client.wait(lambda: [m for m in client.markers if m.markers[0].header == poses.header], "the markers")[-1]
    assert poses.header.frame_id == "base_link" and len(markers.markers) > 1
    x, y, z = position_of(segment.target.pose)
    # a camera 1 m up that looks along x: its z is forward, its x right (-y), its y down (-z)
    np.testing.assert_allclose(position_of(poses.poses[0]), [z, -x, 1 - y], atol=1e-6)
    cloud = client.wait(lambda: [m for m in client.clouds if m.header.stamp == array.header.stamp], "the cloud")[-1]
    assert cloud.header == array.header
    array = show(client, scene, good(scene), frame_id="other_camera")
    assert first_segment(array).has_target
    poses = client.wait(lambda: [m for m in client.poses if m.header.stamp == array.header.stamp], "the poses")[-1]
    assert not poses.poses
    status = client.status()
    assert int(status["refused/target_frame:no_transform"]) == 1
    assert "'other_camera' is not connected to 'base_link'" in status["last_error"]
    assert child.exit_code is None


def test_a_transform_that_comes_late_is_waited_for_beside_the_frames(start, stub, scene):
    """As TF of 4 Hz does, against a camera of 30 Hz: matches come at once, markers and poses with their transform."""
    stub("tf2_ros", FAKE_TF2)
    client, child = start({**PARAMETERS, "target_frame": "base_link", "tf_wait": 60.0}, process=ForkedChild)
    tell = client.node.create_publisher(String, "/told_late", 10)
    client.wait_until_active()
    client.wait(lambda: tell.get_subscription_count() > 0, "the node to listen to TF")
    client.ask(scene[2].text)
    arrays = [show(client, scene, good(scene), frame_id="late_camera") for _ in range(3)]
    stamps = [to_nanoseconds(array.header.stamp) for array in arrays]
    assert not client.poses and not client.markers  # three frames have their matches; none of them has its transform
    # the second one's transform comes first, and its poses still come after the first one's
    for stamp in (stamps[1], stamps[0], stamps[2]):
        tell.publish(String(data=str(stamp)))
    client.wait(lambda: len({to_nanoseconds(m.header.stamp) for m in client.poses}) == 3, "the poses of three frames")
    came = list(dict.fromkeys(to_nanoseconds(message.header.stamp) for message in client.poses))
    assert came == stamps
    for message in client.poses:
        array = arrays[stamps.index(to_nanoseconds(message.header.stamp))]
        x, y, z = position_of(first_segment(array).target.pose)
        assert message.header.frame_id == "base_link"
        np.testing.assert_allclose(position_of(message.poses[0]), [z, -x, 1 - y], atol=1e-6)
    markers = [m for m in client.markers if m.markers[0].header.stamp == arrays[-1].header.stamp]
    assert markers and len(markers[0].markers) > 1
    assert "refused/target_frame:no_transform" not in client.status()

    # what waits when the node is deactivated is forgotten, and the next ones are as ever
    waiting = show(client, scene, good(scene), frame_id="late_camera")
    assert client.change_state(Transition.TRANSITION_DEACTIVATE)
    tell.publish(String(data=str(to_nanoseconds(waiting.header.stamp))))
    assert client.change_state(Transition.TRANSITION_ACTIVATE)
    client.wait_until_active()
    array = show(client, scene, good(scene))
    client.wait(lambda: [m for m in client.poses if m.header.stamp == array.header.stamp], "the poses")
    assert not [m for m in client.poses if m.header.stamp == waiting.header.stamp]
    # an end while one waits is clean
    show(client, scene, good(scene), frame_id="late_camera")
    child.signal(signal.SIGINT)
    client.wait(lambda: child.exit_code is not None, "the node to end")
    assert child.exit_code == 0 and "Traceback" not in child.log_tail(100)


@pytest.mark.long
def test_without_visualization_msgs_there_is_everything_but_markers(start, stub, scene):
    stub("visualization_msgs", "raise ImportError('not here')")
    client, child = start(PARAMETERS, Client)
    client.wait_until_active()
    assert client.node.count_publishers("/esam/targets") == 0
    client.wait(lambda: client.node.count_publishers("/esam/points") > 0, "esam/points")
    assert child.log_tail(100).count("visualization_msgs is not installed") == 1


@pytest.mark.long
def test_beside_the_simulated_camera(tmp_path, tabletop, start):
    """Camera and node as in the demo: live frames with their depth, intrinsics and truth."""
    rendered = tabletop.render(tabletop.sample(900_000))
    named = {p.text: p.labels[0] for p in rendered.phrases if p.true and p.kind == "colour_category"}
    client, node = start({"model": "tabletop", "depth": "/camera/depth/image_raw", "segment_always": True})
    truths: list[Image] = []
    client.node.create_subscription(Image, "/camera/truth/instances", truths.append, 10)
    depths: list[Image] = []
    client.node.create_subscription(Image, "/camera/depth/image_raw", depths.append, 10)
    client.wait_until_active()
    client.ask("; ".join(named))
    environment = own_environment(client.context.get_domain_id())
    camera = Child(
        "esam_perception.ros.cameras.simulated_camera",
        {"seed": 900_000, "rate": 1.0},
        tmp_path / "camera.log",
        environment,
    )
    try:

        def complete():
            stamps = {to_nanoseconds(m.header.stamp): m for m in truths}
            seen = {to_nanoseconds(m.header.stamp): m for m in depths}
            return [
                (array, stamps[s], seen[s])
                for array in client.arrays
                if (s := to_nanoseconds(array.header.stamp)) in stamps
                and s in seen
                and len(array.matches) == len(named)
            ]

        found = client.wait(lambda: complete()[2:], "three frames with their truth")
    finally:
        camera.stop()
    assert node.exit_code is None
    inside, errors = [], []
    for array, truth, depth in found:
        assert array.header.frame_id == "camera_optical_frame"
        instances = np.frombuffer(truth.data, np.uint8).reshape(truth.height, truth.width)
        metres = np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width)
        scale = np.diag([2.0, 2.0, 1.0])  # rendered above at half the camera's size
        matrix = scale @ rendered.camera_matrix
        matrix[:2, 2] += 0.5
        intrinsics = intrinsics_of(matrix, truth.width, truth.height)
        for match in array.matches:
            thing = instances == named[match.text]
            segment = match.segments[0]
            mask = np.frombuffer(segment.mask.data, np.uint8).reshape(instances.shape) > 0
            if mask_iou(mask, thing) < 0.5:
                continue
            assert segment.has_target
            error = position_of(segment.target.pose) - visible_centroid(thing, metres, intrinsics)
            covariance = np.array(segment.target.covariance).reshape(6, 6)[:3, :3]
            errors.append(np.linalg.norm(error))
            inside.append(error @ np.linalg.solve(covariance, error) < ELLIPSOID_95)
    assert errors and np.median(errors) < 0.02 and np.mean(inside) >= 0.75
