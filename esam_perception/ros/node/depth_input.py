"""Depth and intrinsics in, 3D targets out.

The depth of an image is looked up when its masks are ready, by the image's stamp: nothing waits for it. (For TF targets do
wait, beside the frames: see target_outputs.) Whatever is missing or wrong leaves segments without a target, under a reason
that diagnostics count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from esam_perception.contract import NANOSECONDS, to_nanoseconds
from esam_perception.environment.distro import distro_name, fastdds_variable
from esam_perception.images.encodings import RefusedImage, depth_to_metres
from esam_perception.ros.health.graph_check import Wanted
from esam_perception.ros.health.statistics import Statistics
from esam_perception.ros.node.parameters import Settings
from esam_perception.ros.wire import qos, target_messages
from esam_perception.ros.wire.target_outputs import TargetOutputs
from esam_perception.stream.session import Options
from esam_perception.targets.arrivals import Arrivals, advice_on_lost_depth
from esam_perception.targets.depth import DepthBuffer, NoDepth
from esam_perception.targets.intrinsics import camera_info_beside, intrinsics_of, is_distorted, is_rectified
from esam_perception.targets.measure import NoTarget, fit_depth, organized_points, union_mask, with_targets
from esam_perception.types import Frame, FrameResult, Intrinsics, Match

LOG_SECONDS = 5.0


@dataclass(frozen=True)
class DepthTopics:
    """What 3D targets come from. rectified: whether the images are, so that P holds instead of K."""

    depth: str
    camera_info: str
    rectified: bool


class DepthInput:
    """The part of the node `esam` that knows depth: made for one configuration, used by one activation after the other.
    Off, and silent, where topics is None. wanted: its subscriptions (see graph_check)."""

    def __init__(self, node: Any, statistics: Statistics, outputs: TargetOutputs) -> None:
        self._node, self._statistics, self._outputs = node, statistics, outputs
        self._topics: DepthTopics | None = None
        self._buffer: DepthBuffer[Any] = DepthBuffer()
        self._arrivals = Arrivals()
        self.wanted: list[Wanted] = []
        self._info: CameraInfo | None = None
        self._subscriptions: list[Any] = []
        self._said: set[str] = set()

    # lifecycle -------------------------------------------------------------------------------------------------

    def configure(self, topics: DepthTopics | None, target_frame: str) -> None:
        """Raises NoTransform where target_frame needs what is not installed."""
        self.cleanup()
        self._topics = topics
        if topics is None:
            return
        self._outputs.configure(target_frame)
        if target_messages.MarkerArray is None:
            self._say_once("targets is not published: visualization_msgs is not installed")

    def activate(self, settings: Settings) -> None:
        """Subscribe to depth and intrinsics."""
        if self._topics is None:
            return
        node = self._node
        # locate may ask for any of the frames that are kept
        self._buffer = DepthBuffer(settings.frame_buffer)
        depth_qos = qos.depth(settings.reliability)
        depth = node.create_subscription(Image, self._topics.depth, self._on_depth, depth_qos)
        self._subscriptions = [depth]
        info = node.create_subscription(CameraInfo, self._topics.camera_info, self._on_camera_info, qos.CAMERA_INFO)
        self._subscriptions = [depth, info]
        self.wanted = [
            Wanted(depth.topic_name, "sensor_msgs/msg/Image", depth_qos, "depth", must=True),
            Wanted(info.topic_name, "sensor_msgs/msg/CameraInfo", qos.CAMERA_INFO, "camera_info", must=True),
        ]
        self._outputs.activate()
        node.get_logger().info(f"3D targets: depth from {depth.topic_name}, intrinsics from {info.topic_name}")

    def deactivate(self) -> None:
        """Unsubscribe, and forget what came and what waits. Safe to call twice."""
        self._outputs.deactivate()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions, self.wanted = [], []
        self._buffer.clear()
        self._arrivals.clear()
        self._info = None

    def cleanup(self) -> None:
        """Stop listening to TF. Safe to call twice."""
        self._topics = None
        self._said.clear()
        self._outputs.cleanup()

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
        topics = self._topics
        if topics is None:
            return
        self._arrivals.note("camera_info")
        before, self._info = self._info, info
        # they come with every image: only new ones are news
        if before is not None and all(list(getattr(before, name)) == list(getattr(info, name)) for name in "kpd"):
            return
        try:
            # its own size: whether it is the image's shows when there is an image
            intrinsics_of(info, info.width or 1, info.height or 1, topics.rectified)
        except NoDepth as error:
            if error.reason == "bad_camera_info":
                self._statistics.refuse(topics.camera_info, error.reason, str(error))
                self._node.get_logger().warning(f"refused: {topics.camera_info}: {error}")
        if is_distorted(info) and not topics.rectified:
            self._say_once(
                "camera_info has a lens distortion, which 3D targets ignore: they are right for rectified images "
                "(image_proc), and off towards the corners of others"
            )

    # work ------------------------------------------------------------------------------------------------------

    def measure(self, frame: Frame, matches: tuple[Match, ...], options: Options) -> tuple[Frame, tuple[Match, ...]]:
        """The frame with its depth and intrinsics, the matches with targets. Never raises for what depth or intrinsics are
        like: segments without a target are counted by reason."""
        topics, segments = self._topics, sum(len(match.segments) for match in matches)
        if topics is None or not segments:
            return frame, matches
        try:
            depth, intrinsics = self._pair(frame, topics, options)
        except (NoDepth, NoTarget) as error:
            self._statistics.measured(0, Counter({error.reason: segments}))
            self._statistics.problem(f"no 3D target: {error.reason}: {error}")
            self._node.get_logger().warning(f"no 3D target: {error.reason}: {error}", throttle_duration_sec=LOG_SECONDS)
            return frame, matches
        measured, reasons = with_targets(matches, depth, intrinsics, options.min_target_pixels)
        self._statistics.measured(segments - sum(reasons.values()), reasons)
        return replace(frame, depth=depth, intrinsics=intrinsics), measured

    def _pair(self, frame: Frame, topics: DepthTopics, options: Options) -> tuple[np.ndarray, Intrinsics]:
        """(depth float32 [H, W] metres, intrinsics) of an image. Raises NoDepth, NoTarget."""
        height, width = frame.image.shape[:2]
        message = self._buffer.nearest(frame.stamp, round(options.sync_tolerance * NANOSECONDS))
        if message is None:
            raise NoDepth(
                "no_depth_within_tolerance",
                f"no depth on {topics.depth} within {options.sync_tolerance:g} s (sync_tolerance) of the image's stamp: "
                f"{self._why_no_depth(topics, frame.stamp)}",
            )
        if message.header.frame_id != frame.frame_id:
            raise NoDepth(
                "depth_of_another_frame",
                f"depth is of frame '{message.header.frame_id[:64]}', the image of '{frame.frame_id[:64]}': it must be "
                "registered to the image (depth_image_proc/register)",
            )
        info = self._info
        if info is None:
            raise NoDepth("no_camera_info", f"nothing came on {topics.camera_info} yet")
        intrinsics = intrinsics_of(info, width, height, topics.rectified)
        try:
            depth = depth_to_metres(message)
        except RefusedImage as error:
            self._statistics.refuse(topics.depth, error.reason, str(error))
            raise NoDepth("bad_depth", f"{error.reason}: {error}") from error
        return fit_depth(depth, height, width), intrinsics

    def _why_no_depth(self, topics: DepthTopics, stamp: int) -> str:
        away = self._buffer.distance(stamp)
        seen = "none came yet" if away is None else f"the nearest is {away / NANOSECONDS:.3f} s away"
        # where nobody publishes it, that is the reason, and the node says so (graph_check)
        published = self._node.count_publishers(topics.depth) > 0
        images, infos, depths = (self._arrivals.lately(kind) for kind in ("image", "camera_info", "depth"))
        advice = advice_on_lost_depth(images, infos, depths, _remedy()) if published else ""
        return f"{seen}; {advice}" if advice else seen

    # outputs ---------------------------------------------------------------------------------------------------

    def publish(self, result: FrameResult, header: Header, options: Options) -> None:
        """Publish what was measured, its points at once, the rest see TargetOutputs.publish."""
        if self._topics is None:
            return
        self._outputs.publish(result.matches, header, options.tf_wait)
        self._outputs.publish_points(lambda: _points(result), header)

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


def depth_topics(settings: Settings, node: Any, image_topic: str) -> DepthTopics | None:
    """Where depth and intrinsics come from: the parameters, else the topics `depth` and `camera_info` where they are
    remapped; None where there is no depth. image_topic: as it is subscribed to, without `/compressed`."""
    depth = input_topic(settings.depth, "depth", node)
    if not depth:
        return None
    info = input_topic(settings.camera_info, "camera_info", node) or camera_info_beside(image_topic)
    return DepthTopics(depth, info, is_rectified(image_topic))


def input_topic(given: str, name: str, node: Any) -> str:
    """The topic of an input: the parameter's value where it has one, else what the relative topic `name` is remapped to;
    empty where it is not."""
    if given:
        return str(node.resolve_topic_name(given))
    resolved = str(node.resolve_topic_name(name))
    return "" if resolved == f"{node.get_namespace().rstrip('/')}/{name}" else resolved


def _points(result: FrameResult) -> np.ndarray:
    frame = result.frame
    size = frame.image.shape[:2]
    if frame.depth is None or frame.intrinsics is None:
        return np.full((*size, 3), np.nan, np.float32)
    segments = (segment for match in result.matches for segment in match.segments)
    return organized_points(union_mask(segments, *size), frame.depth, frame.intrinsics)
