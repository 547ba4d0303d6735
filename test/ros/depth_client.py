"""A client with depth, and what its tests of 3D targets share: the scene, its truth, depth messages of every kind."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from esam_perception import msg
from esam_perception.contract import to_nanoseconds
from esam_perception.images.masks import mask_iou
from esam_perception.ros.cameras.camera import camera_info
from esam_perception.ros.wire.messages import ROS
from esam_perception.ros.wire.transforms import rotation_matrix
from esam_perception.training.measure.targets import ELLIPSOID_95, intrinsics_of, visible_centroid
from test.ros.client import PATIENCE, Client

MarkerArray = pytest.importorskip("visualization_msgs.msg", reason="visualization_msgs is not installed").MarkerArray

FRAME = "some_camera"
DEPTH_TOPIC = "/camera/depth/image_raw"
PARAMETERS = {"model": "tabletop", "depth": DEPTH_TOPIC, "reliability": "reliable", "sync_tolerance": 0.02}


class DepthClient(Client):
    """A client that publishes depth and intrinsics too, and keeps what comes back of targets."""

    def __init__(self, domain_id: int) -> None:
        super().__init__(domain_id)
        self.depth_publisher = self.node.create_publisher(Image, DEPTH_TOPIC, 40)
        self.info_publisher = self.node.create_publisher(CameraInfo, "/camera/camera_info", 10)
        self.markers: list[MarkerArray] = []
        self.poses: list[PoseArray] = []
        self.clouds: list[PointCloud2] = []
        for kind, name, kept in (
            (MarkerArray, "targets", self.markers), (PoseArray, "target_poses", self.poses), (PointCloud2, "points", self.clouds),
        ):  # fmt: skip
            self.node.create_subscription(kind, f"/esam/{name}", kept.append, 10)

    def wait_until_active(self) -> None:
        super().wait_until_active()
        for publisher in (self.depth_publisher, self.info_publisher):
            self.wait(
                lambda p=publisher: p.get_subscription_count() > 0, "the node to subscribe to depth and intrinsics"
            )
        for name in ("targets", "target_poses", "points"):
            self.wait(lambda name=name: self.node.count_publishers(f"/esam/{name}") > 0, f"esam/{name}")

    def no_targets(self, reason: str) -> int:
        return int(self.status().get(f"no_target/{reason}", 0))


@pytest.fixture(scope="module", name="scene")
def scene_fixture(clip):
    """(frame, its depth with the invalid as NaN, intrinsics, a phrase that the profile matches with a good mask)."""
    from esam_perception.pipeline.pipeline import Pipeline

    pipeline = Pipeline.from_profile("tabletop", "cpu")
    frame = clip[0]
    phrases = [p for p in frame.phrases if p.true and p.kind == "colour_category" and len(p.labels) == 1]
    best, there = 0.0, None
    for match, phrase in zip(pipeline.locate(frame.image, [p.text for p in phrases]), phrases):
        for segment in match.segments[:1]:
            truth = frame.instances == phrase.labels[0]
            iou = mask_iou(segment.mask, truth)
            if iou > best:
                best, there = iou, phrase
    assert best > 0.5, "the bundled profile finds nothing in the recorded clip"
    height, width = frame.depth.shape
    return frame, intrinsics_of(frame.camera_matrix, width, height), there


def depth_message(depth: np.ndarray, encoding: str, header: Header, padding: int = 0, bigendian: bool = False) -> Image:
    """depth: metres."""
    order = ">" if bigendian else "<"
    raw = (
        depth.astype(f"{order}f4") if encoding == "32FC1" else np.nan_to_num(depth * 1000).round().astype(f"{order}u2")
    )
    rows = np.ascontiguousarray(raw).view(np.uint8).reshape(depth.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = Image(header=header, height=depth.shape[0], width=depth.shape[1], encoding=encoding, step=rows.shape[1])
    message.is_bigendian, message.data = int(bigendian), rows.tobytes()
    return message


def show(
    client: DepthClient,
    scene,
    make_depth: Callable[[Header], Image | None],
    info: CameraInfo | None = None,
    frame_id: str = FRAME,
) -> msg.MatchArray:
    """Publish intrinsics, depth and image under one stamp; the matches of that image."""
    frame = scene[0]
    header = client.next_header(frame_id)
    stamp = to_nanoseconds(header.stamp)
    height, width = frame.depth.shape
    info = camera_info(frame.camera_matrix, width, height, header) if info is None else info
    depth, image = make_depth(header), ROS.image(frame.image, "rgb8", header)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        client.info_publisher.publish(info)
        if depth is not None:
            client.depth_publisher.publish(depth)
        client.spin(0.05)
        client.image_publisher.publish(image)
        again = time.monotonic() + 8
        while time.monotonic() < again:
            found = [array for array in client.arrays if to_nanoseconds(array.header.stamp) == stamp]
            if found:
                return found[-1]
            client.executor.spin_once(timeout_sec=0.05)
    raise AssertionError(f"no matches for an image within {PATIENCE:.0f} s")


def good(scene) -> Callable[[Header], Image]:
    return lambda header: depth_message(scene[0].depth, "32FC1", header)


def first_segment(array: msg.MatchArray) -> msg.Segment:
    (match,) = array.matches
    assert match.verdict == msg.Match.MATCH and match.segments
    return match.segments[0]


def mask_of(segment: msg.Segment) -> np.ndarray:
    return np.frombuffer(segment.mask.data, np.uint8).reshape(segment.mask.height, segment.mask.width) > 0


def position_of(pose) -> np.ndarray:
    return np.array([pose.position.x, pose.position.y, pose.position.z])


def rotation_of(pose) -> np.ndarray:
    q = pose.orientation
    return rotation_matrix(q.x, q.y, q.z, q.w)


def check_against_truth(segment: msg.Segment, scene, tolerance: float = 0.03) -> None:
    """The target is where the object's visible surface is, and says honestly how sure that is."""
    frame, intrinsics, there = scene
    assert segment.has_target
    truth = visible_centroid(frame.instances == there.labels[0], frame.depth, intrinsics)
    error = position_of(segment.target.pose) - truth
    assert np.linalg.norm(error) < tolerance
    covariance = np.array(segment.target.covariance).reshape(6, 6)
    np.testing.assert_allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert error @ np.linalg.solve(covariance[:3, :3], error) < ELLIPSOID_95
    assert 0 < max(segment.extent) < 0.4
