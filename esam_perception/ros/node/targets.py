"""3D targets in the node: depth and intrinsics in, targets, poses and points out.

The depth of an image is looked up when its masks are ready, by the image's stamp: nothing waits for it. (For TF targets do
wait, beside the frames: see target_outputs.) Whatever is missing or wrong leaves segments without a target, under a reason that diagnostics count.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from esam_perception.contract import NANOSECONDS, to_nanoseconds
from esam_perception.environment.distro import distro_name, fastdds_variable
from esam_perception.images.encodings import RefusedImage, depth_to_metres
from esam_perception.ros.health.graph_check import Wanted
from esam_perception.ros.health.statistics import Statistics
from esam_perception.ros.node import parameters
from esam_perception.ros.node.target_outputs import TargetOutputs
from esam_perception.ros.wire import target_messages
from esam_perception.targets.arrivals import Arrivals, advice_on_lost_depth
from esam_perception.targets.depth import DepthBuffer, NoDepth
from esam_perception.targets.intrinsics import camera_info_beside, intrinsics_of, is_distorted, is_rectified
from esam_perception.targets.measure import NoTarget, fit_depth, organized_points, union_mask, with_targets
from esam_perception.types import Intrinsics, Located

LOG_SECONDS = 5.0


@dataclass(frozen=True)
class Measured:
    """What was located, with targets where there are; the depth (float32 [H, W], the image's size) and the intrinsics
    they come from, None where there were none."""

    located: Located
    depth: np.ndarray | None = None
    intrinsics: Intrinsics | None = None


class Targets:
    """The part of the node `esam` that knows depth. Off, and silent, while the parameter `depth` is empty. wanted: its
    subscriptions (see graph_check)."""

    def __init__(self, node, statistics: Statistics) -> None:
        self._node, self._statistics = node, statistics
        self._buffer, self._arrivals = DepthBuffer(), Arrivals()
        self.wanted: list[Wanted] = []
        self._info: CameraInfo | None = None
        self._subscriptions: list = []
        self._said: set[str] = set()
        self._outputs = TargetOutputs(node, statistics)

    # lifecycle -------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Check the parameters. Raises ValueError (NoTransform) where target_frame needs what is not installed."""
        frame = parameters.value(self._node, "target_frame")
        self.cleanup()
        self._said.clear()
        if not self.depth_topic:
            return
        self._outputs.configure(frame)
        if target_messages.MarkerArray is None:
            self._say_once("esam/targets is not published: visualization_msgs is not installed")

    def activate(self, reliability: ReliabilityPolicy) -> None:
        """Subscribe to depth and intrinsics. reliability: as the image's."""
        if not self.depth_topic:
            return
        node = self._node
        # /esam/locate may ask for any of the frames that are kept
        self._buffer = DepthBuffer(parameters.value(node, "frame_buffer"))
        # a burst of depth messages must not cost the one that belongs to the image
        qos = QoSProfile(depth=5, reliability=reliability)
        info_qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        depth = node.create_subscription(Image, self.depth_topic, self._on_depth, qos)
        info = node.create_subscription(CameraInfo, self.camera_info_topic, self._on_camera_info, info_qos)
        self._subscriptions = [depth, info]
        self.wanted = [
            Wanted(depth.topic_name, "sensor_msgs/msg/Image", qos, "depth", must=True),
            Wanted(info.topic_name, "sensor_msgs/msg/CameraInfo", info_qos, "camera_info", must=True),
        ]
        self._outputs.activate()
        node.get_logger().info(f"3D targets: depth from {depth.topic_name}, intrinsics from {info.topic_name}")

    def deactivate(self) -> None:
        """Unsubscribe, and forget what came and what waits."""
        self._outputs.deactivate()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions, self.wanted = [], []
        self._buffer.clear()
        self._arrivals.clear()
        self._info = None

    def cleanup(self) -> None:
        """Stop listening to TF."""
        self._outputs.cleanup()

    @property
    def depth_topic(self) -> str:
        """The parameter; empty: no targets."""
        return parameters.value(self._node, "depth")

    @property
    def camera_info_topic(self) -> str:
        """The parameter, or the topic beside the image's."""
        return parameters.value(self._node, "camera_info") or camera_info_beside(parameters.value(self._node, "image"))

    # inputs ----------------------------------------------------------------------------------------------------

    def image_came(self, header: Header) -> None:
        """Keep the depth of an image for as long as the image is kept."""
        self._arrivals.note("image")
        if self._subscriptions:
            self._buffer.image(to_nanoseconds(header.stamp))

    def want(self, who: str, header: Header) -> None:
        """Keep the depth of that image until the same one wants another's."""
        if self._subscriptions:
            self._buffer.want(who, to_nanoseconds(header.stamp))

    def _on_depth(self, message: Image) -> None:
        self._arrivals.note("depth")
        self._buffer.put(to_nanoseconds(message.header.stamp), message)

    def _on_camera_info(self, info: CameraInfo) -> None:
        self._arrivals.note("camera_info")
        before, self._info = self._info, info
        # they come with every image: only new ones are news
        if before is not None and all(list(getattr(before, name)) == list(getattr(info, name)) for name in "kpd"):
            return
        try:
            # its own size: whether it is the image's shows when there is an image
            intrinsics_of(info, info.width or 1, info.height or 1, self._rectified)
        except NoDepth as error:
            if error.reason == "bad_camera_info":
                self._statistics.refuse(self.camera_info_topic, error.reason, str(error))
                self._node.get_logger().warning(f"refused: {self.camera_info_topic}: {error}")
        if is_distorted(info) and not self._rectified:
            self._say_once(
                "camera_info has a lens distortion, which 3D targets ignore: they are right for rectified images "
                "(image_proc), and off towards the corners of others"
            )

    @property
    def _rectified(self) -> bool:
        return is_rectified(parameters.value(self._node, "image"))

    # work ------------------------------------------------------------------------------------------------------

    def measure(self, located: Located, header: Header, size: tuple[int, int]) -> Measured:
        """The targets of what was located in the image of that header and size (height, width). Never raises for what
        depth or intrinsics are like: segments without a target are counted by reason."""
        segments = sum(len(match.segments) for match in located.matches)
        if not self._subscriptions or not segments:
            return Measured(located)
        began = time.perf_counter()
        try:
            depth, intrinsics = self._pair(header, size)
        except (NoDepth, NoTarget) as error:
            self._statistics.measured(0, Counter({error.reason: segments}))
            self._statistics.problem(f"no 3D target: {error.reason}: {error}")
            self._node.get_logger().warning(f"no 3D target: {error.reason}: {error}", throttle_duration_sec=LOG_SECONDS)
            return Measured(located)
        matches, reasons = with_targets(
            located.matches, depth, intrinsics, parameters.value(self._node, "min_target_pixels")
        )
        self._statistics.measured(segments - sum(reasons.values()), reasons)
        spent = 1000 * (time.perf_counter() - began)
        timing = replace(located.timing, fuse=located.timing.fuse + spent, total=located.timing.total + spent)
        return Measured(Located(matches, timing), depth, intrinsics)

    def _pair(self, header: Header, size: tuple[int, int]) -> tuple[np.ndarray, Intrinsics]:
        """(depth float32 [H, W] metres, intrinsics) of an image. Raises NoDepth, NoTarget."""
        height, width = size
        tolerance = parameters.value(self._node, "sync_tolerance")
        stamp = to_nanoseconds(header.stamp)
        message = self._buffer.nearest(stamp, round(tolerance * NANOSECONDS))
        if message is None:
            raise NoDepth(
                "no_depth_within_tolerance",
                f"no depth on {self.depth_topic} within {tolerance:g} s (sync_tolerance) of the image's stamp: "
                f"{self._why_no_depth(stamp)}",
            )
        if message.header.frame_id != header.frame_id:
            raise NoDepth(
                "depth_of_another_frame",
                f"depth is of frame '{message.header.frame_id[:64]}', the image of '{header.frame_id[:64]}': it must be "
                "registered to the image (depth_image_proc/register)",
            )
        info = self._info
        if info is None:
            raise NoDepth("no_camera_info", f"nothing came on {self.camera_info_topic} yet")
        intrinsics = intrinsics_of(info, width, height, self._rectified)
        try:
            depth = depth_to_metres(message)
        except RefusedImage as error:
            self._statistics.refuse(self.depth_topic, error.reason, str(error))
            raise NoDepth("bad_depth", f"{error.reason}: {error}") from error
        return fit_depth(depth, height, width), intrinsics

    def _why_no_depth(self, stamp: int) -> str:
        away = self._buffer.distance(stamp)
        seen = "none came yet" if away is None else f"the nearest is {away / NANOSECONDS:.3f} s away"
        # where nobody publishes it, that is the reason, and the node says so (graph_check)
        published = self._node.count_publishers(self._subscriptions[0].topic_name) > 0
        counts = (self._arrivals.lately(kind) for kind in ("image", "camera_info", "depth"))
        advice = advice_on_lost_depth(*counts, _remedy()) if published else ""
        return f"{seen}; {advice}" if advice else seen

    # outputs ---------------------------------------------------------------------------------------------------

    def publish(self, measured: Measured, header: Header, size: tuple[int, int]) -> None:
        """Publish what was measured in an image of that size (height, width), its points at once, the rest see
        TargetOutputs.publish."""
        if not self._subscriptions:
            return
        self._outputs.publish(measured.located, header)
        self._outputs.publish_points(lambda: _points(measured, size), header)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._node.get_logger().warning(text)


def _remedy() -> str:
    """What makes depth images arrive."""
    return (
        "the default Fast DDS of the camera's driver has too little shared memory: start the driver with "
        f"{fastdds_variable(distro_name())} naming this package's config/fastdds.xml"
    )


def _points(measured: Measured, size: tuple[int, int]) -> np.ndarray:
    if measured.depth is None or measured.intrinsics is None:
        return np.full((*size, 3), np.nan, np.float32)
    segments = (segment for match in measured.located.matches for segment in match.segments)
    return organized_points(union_mask(segments, *size), measured.depth, measured.intrinsics)
