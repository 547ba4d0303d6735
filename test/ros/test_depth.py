"""3D targets from the real node in a process of its own, over DDS, against the truth of the simulated tabletop."""

import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("visualization_msgs", reason="visualization_msgs is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from esam_perception.contract import to_nanoseconds
from esam_perception.environment.distro import distro_name, fastdds_variable
from esam_perception.images.masks import mask_iou
from esam_perception.ros.cameras.camera import camera_info
from esam_perception.ros.wire.messages import ROS
from esam_perception.targets.measure import fit_depth, measure_target, organized_points
from test.ros.client import PATIENCE, running_node
from test.ros.depth_client import (
    FRAME,
    PARAMETERS,
    DepthClient,
    check_against_truth,
    depth_message,
    first_segment,
    good,
    mask_of,
    position_of,
    rotation_of,
    scene_fixture,  # noqa: F401 - used by its name, scene
    show,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("depth") / "node.log", PARAMETERS, DepthClient) as (client, child):
        client.wait_until_active()
        yield client, child


@pytest.fixture
def client(running, scene):
    client, child = running
    client.ask(scene[2].text)
    yield client
    assert child.exit_code is None, child.log_tail(40)


def test_the_target_of_a_matched_object(client, scene):
    frame, intrinsics, there = scene
    before = int(client.status()["targets"])
    array = show(client, scene, good(scene))
    segment = first_segment(array)
    check_against_truth(segment, scene)
    mask = mask_of(segment)
    truth = frame.instances == there.labels[0]
    assert mask_iou(mask, truth) > 0.5

    # the same numbers as the core's
    core = measure_target(mask, frame.depth, intrinsics, predicted_iou=segment.predicted_iou)
    np.testing.assert_allclose(position_of(segment.target.pose), core.position, atol=1e-3)
    np.testing.assert_allclose(rotation_of(segment.target.pose), core.rotation, atol=0.05)
    np.testing.assert_allclose(segment.extent, core.extent, atol=2e-3)
    np.testing.assert_allclose(
        np.array(segment.target.covariance).reshape(6, 6)[:3, :3], core.covariance[:3, :3], rtol=0.1
    )

    # markers: everything old away, then a box and a text
    markers = client.wait(lambda: [m for m in client.markers if m.markers[0].header == array.header], "esam/targets")[
        -1
    ]
    told = markers.markers
    segments = sum(len(match.segments) for match in array.matches)
    assert told[0].action == Marker.DELETEALL and len(told) == 1 + 2 * segments
    assert all(marker.header == array.header for marker in told)
    box, text = told[1], told[2]
    assert box.type == Marker.CUBE and box.id == segment.label and box.color.a > 0
    np.testing.assert_allclose([box.scale.x, box.scale.y, box.scale.z], np.maximum(segment.extent, 0.002), atol=1e-6)
    np.testing.assert_allclose(rotation_of(box.pose), rotation_of(segment.target.pose), atol=1e-9)
    assert np.linalg.norm(position_of(box.pose) - position_of(segment.target.pose)) < max(segment.extent)
    assert 0 < text.scale.x < text.scale.z  # RViz: the width of a space
    assert text.type == Marker.TEXT_VIEW_FACING and there.text in text.text and "MATCH" in text.text

    poses = client.wait(lambda: [m for m in client.poses if m.header == array.header], "esam/target_poses")[-1]
    assert len(poses.poses) == segments and poses.poses[0] == segment.target.pose

    # the cloud: organized, the image's size, NaN outside of the masks
    cloud = client.wait(lambda: [m for m in client.clouds if m.header == array.header], "esam/points")[-1]
    assert (cloud.height, cloud.width, cloud.point_step) == (*frame.depth.shape, 12) and not cloud.is_dense
    assert [(field.name, field.offset, field.datatype) for field in cloud.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
    ]
    assert cloud.is_bigendian == (sys.byteorder == "big") and cloud.row_step == 12 * cloud.width
    points = np.frombuffer(cloud.data, np.float32).reshape(cloud.height, cloud.width, 3)
    masks = np.any([mask_of(s) for s in array.matches[0].segments], axis=0)
    np.testing.assert_allclose(
        points, organized_points(masks, fit_depth(frame.depth, *masks.shape), intrinsics), atol=1e-5
    )
    assert np.isfinite(points[masks]).any() and np.isnan(points[~masks]).all()
    assert int(client.status()["targets"]) >= before + segments


@pytest.mark.parametrize(
    "encoding, padding, bigendian",
    [("16UC1", 0, False), ("16UC1", 6, True), ("32FC1", 20, False), ("32FC1", 4, True), ("mono16", 0, True)],
)
def test_every_kind_of_depth(client, scene, encoding, padding, bigendian):
    array = show(client, scene, lambda header: depth_message(scene[0].depth, encoding, header, padding, bigendian))
    check_against_truth(first_segment(array), scene)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_depth_of_another_size_by_a_whole_factor(client, scene, factor):
    depth = scene[0].depth
    depth = depth[::2, ::2] if factor < 1 else depth.repeat(2, 0).repeat(2, 1)
    check_against_truth(first_segment(show(client, scene, lambda h: depth_message(depth, "32FC1", h))), scene)


def moved(header: Header, seconds: float, frame_id: str | None = None) -> Header:
    stamp = to_nanoseconds(header.stamp) + round(seconds * 1e9)
    return ROS.header(stamp, header.frame_id if frame_id is None else frame_id)


BAD_DEPTH = {
    "no_depth_within_tolerance": lambda d, h: None,
    "no_depth_within_tolerance (another stamp)": lambda d, h: depth_message(d, "32FC1", moved(h, 0.025)),
    "depth_of_another_frame": lambda d, h: depth_message(d, "32FC1", moved(h, 0, "depth_camera")),
    "size_mismatch": lambda d, h: depth_message(d[:, :600], "32FC1", h),
    "too_few_valid_pixels (NaN)": lambda d, h: depth_message(np.full_like(d, np.nan), "32FC1", h),
    "too_few_valid_pixels (zeros)": lambda d, h: depth_message(np.zeros_like(d), "16UC1", h),
    "too_few_valid_pixels (infinite)": lambda d, h: depth_message(np.full_like(d, np.inf), "32FC1", h),
    "bad_depth (encoding)": lambda d, h: ROS.image(np.zeros((480, 640, 3), np.uint8), "rgb8", h),
}


@pytest.mark.parametrize("name", BAD_DEPTH)
def test_bad_depth_is_counted_by_reason_and_the_match_comes(client, scene, name):
    reason = name.partition(" ")[0]
    before = client.no_targets(reason)
    array = show(client, scene, lambda header: BAD_DEPTH[name](scene[0].depth, header))
    segment = first_segment(array)
    assert not segment.has_target and list(segment.extent) == [0, 0, 0]
    status = client.status()
    assert int(status[f"no_target/{reason}"]) >= before + len(array.matches[0].segments)
    if reason != "too_few_valid_pixels":
        assert reason in status["last_error"] and status["level"] == DiagnosticStatus.WARN
    # absence is stated
    told = client.wait(lambda: [m for m in client.markers if m.markers[0].header == array.header], "esam/targets")[-1]
    assert [marker.action for marker in told.markers] == [Marker.DELETEALL]
    poses = client.wait(lambda: [m for m in client.poses if m.header == array.header], "esam/target_poses")[-1]
    assert not poses.poses
    cloud = client.wait(lambda: [m for m in client.clouds if m.header == array.header], "esam/points")[-1]
    points = np.frombuffer(cloud.data, np.float32)
    assert (cloud.height, cloud.width) == scene[0].depth.shape and np.isnan(points).all()
    # and the next good one is measured
    check_against_truth(first_segment(show(client, scene, good(scene))), scene)


def test_depth_that_comes_for_few_images_has_a_likely_cause(client, scene):
    """Images and intrinsics come, depth does not, though somebody publishes it: the text says what mends that."""
    small = np.zeros((24, 32, 3), np.uint8)
    end = time.monotonic() + PATIENCE
    while fastdds_variable(distro_name()) not in (error := client.status()["last_error"]):
        assert time.monotonic() < end, error
        for _ in range(20):  # more than the depth that other tests sent a moment ago
            header = client.next_header(FRAME)
            client.info_publisher.publish(camera_info(scene[0].camera_matrix, 640, 480, header))
            client.image_publisher.publish(ROS.image(small, "rgb8", header))
            client.spin(0.01)
        assert not first_segment(show(client, scene, lambda header: None)).has_target
    assert "no_depth_within_tolerance" in error and "camera's driver" in error
    check_against_truth(first_segment(show(client, scene, good(scene))), scene)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"k": [0.0] * 9}, "bad_camera_info"),
        ({"k": [float("nan")] * 9}, "bad_camera_info"),
        ({"width": 100}, "camera_info_of_another_size"),
    ],
)
def test_bad_camera_info_is_counted_by_reason(client, scene, change, reason):
    info = camera_info(scene[0].camera_matrix, 640, 480, Header(frame_id=FRAME))
    for name, value in change.items():
        setattr(info, name, value)
    before = client.no_targets(reason)
    assert not first_segment(show(client, scene, good(scene), info)).has_target
    status = client.status()
    assert int(status[f"no_target/{reason}"]) > before and reason in status["last_error"]
    if reason == "bad_camera_info":
        assert int(status[f"refused//camera/camera_info:{reason}"]) > 0
    check_against_truth(first_segment(show(client, scene, good(scene))), scene)


def test_the_pair_is_that_of_the_stamp_and_never_the_latest(client, scene):
    """Depth of 10 ms later belongs to the image; much later depth, which comes before the image, does not."""
    depth = scene[0].depth

    def several(header):
        # published with the one that belongs to the image, which is the last of this function
        for i in range(1, 20):
            client.depth_publisher.publish(depth_message(depth + 1, "32FC1", moved(header, 0.1 * i)))
        return depth_message(depth, "32FC1", moved(header, 0.01))

    check_against_truth(first_segment(show(client, scene, several)), scene)


def test_depth_of_the_newest_image_stays_while_newer_depth_floods_in(client, scene):
    """More depth than is kept comes after an image's own (images are slower, or pause): it is still there to be asked."""
    array = show(client, scene, good(scene))
    small = np.full((240, 320), 9.0)
    for i in range(1, 25):
        client.depth_publisher.publish(depth_message(small, "16UC1", moved(array.header, 0.1 * i)))
        client.spin(0.01)
    answer = client.locate([scene[2].text])
    assert answer.success and answer.result.header == array.header
    check_against_truth(first_segment(answer.result), scene)


def test_locate_uses_the_pair_of_the_newest_frame_and_an_image_of_its_own_has_none(client, scene):
    frame, _, there = scene
    show(client, scene, good(scene))
    answer = client.locate([there.text])
    assert answer.success
    check_against_truth(first_segment(answer.result), scene)
    answer = client.locate([there.text], ROS.image(frame.image, "rgb8", client.next_header(FRAME)))
    assert answer.success and not first_segment(answer.result).has_target


def test_targets_survive_the_lifecycle(client, scene):
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert client.change_state(transition)
    client.wait(lambda: client.depth_publisher.get_subscription_count() == 0, "the node to leave the depth alone")
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert client.change_state(transition)
    client.wait_until_active()
    check_against_truth(first_segment(show(client, scene, good(scene))), scene)
