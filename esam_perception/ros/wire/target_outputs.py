"""What goes out about 3D targets: markers and poses, in a target frame as soon as TF tells, and the cloud of their points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from esam_perception.ros.health.statistics import Statistics
from esam_perception.ros.wire import target_messages
from esam_perception.ros.wire.qos import RELIABLE
from esam_perception.ros.wire.target_messages import Shown, shown_targets
from esam_perception.ros.wire.transform_line import TransformLine
from esam_perception.ros.wire.transforms import NoTransform, TargetTransform
from esam_perception.types import Match

LOG_SECONDS = 5.0


@dataclass(frozen=True)
class ShownFrame:
    """The targets of an image with that header, in its frame."""

    shown: list[Shown]
    header: Header


class TargetOutputs:
    """Publishers of one node: one message each for every image, an empty one where there is no target. What nobody listens to
    is not made."""

    def __init__(self, node, statistics: Statistics) -> None:
        self._node, self._statistics = node, statistics
        self._transform: TargetTransform | None = None
        self._line = TransformLine(self._in_target_frame, self._publish_in_target_frame)
        self._poses = node.create_lifecycle_publisher(PoseArray, "~/target_poses", RELIABLE)
        self._points = node.create_lifecycle_publisher(PointCloud2, "~/points", RELIABLE)
        self._markers: Any = None
        if target_messages.MarkerArray is not None:
            self._markers = node.create_lifecycle_publisher(target_messages.MarkerArray, "~/targets", RELIABLE)

    # lifecycle -------------------------------------------------------------------------------------------------

    def configure(self, target_frame: str) -> None:
        """Listen to TF; target_frame empty: to nothing. Raises NoTransform where tf2_ros is not installed."""
        if target_frame:
            self._transform = TargetTransform(self._node, target_frame, self._line.news)

    def activate(self) -> None:
        """Begin to publish."""
        if self._transform is not None:
            self._line.start()

    def deactivate(self) -> None:
        """Forget what waits for TF. Safe to call twice."""
        self._line.stop()

    def cleanup(self) -> None:
        """Stop listening to TF."""
        if self._transform is not None:
            self._transform.close()
            self._transform = None

    # work ------------------------------------------------------------------------------------------------------

    def publish(self, matches: Sequence[Match], header: Header, tf_wait: float) -> None:
        """Markers and poses of an image: at once where no target frame is set; else behind those of the images before it, when
        TF tells, or after `tf_wait` seconds. Never waits itself."""
        if not (_heard(self._markers) or _heard(self._poses)):
            return
        frame = ShownFrame(shown_targets(matches), header)
        if self._transform is None:
            self._publish(frame)
        else:
            self._line.put(frame, tf_wait)

    def publish_points(self, make_points, header: Header) -> None:
        """The cloud of an image. make_points: a function to float32 [H, W, 3], called where somebody listens."""
        if _heard(self._points):
            self._points.publish(target_messages.cloud_message(make_points(), header))

    def _publish(self, frame: ShownFrame) -> None:
        if _heard(self._markers):
            self._markers.publish(target_messages.marker_message(frame.shown, frame.header))
        if _heard(self._poses):
            self._poses.publish(target_messages.pose_array_message(frame.shown, frame.header))

    # in the line's thread

    def _in_target_frame(self, frame: ShownFrame) -> ShownFrame:
        """The same in the target frame. Raises NoTransform where TF does not tell at the image's stamp."""
        header, transform = frame.header, self._listened_to()
        targets = transform.apply([one.target for one in frame.shown], header.stamp, header.frame_id)
        shown = [replace(one, target=target) for one, target in zip(frame.shown, targets)]
        return ShownFrame(shown, Header(stamp=header.stamp, frame_id=transform.frame))

    def _publish_in_target_frame(self, frame: ShownFrame, answer: ShownFrame | NoTransform) -> None:
        """What came out of the line: absence is stated, and counted."""
        try:
            if isinstance(answer, NoTransform):
                self._count(frame.header.frame_id, answer)
                answer = ShownFrame([], Header(stamp=frame.header.stamp, frame_id=self._listened_to().frame))
            self._publish(answer)
        except Exception as error:
            # a signal takes ROS away under this thread: then there is nobody left to tell
            if self._node.context.ok():
                self._statistics.refuse("target_frame", "publishing_failed", f"{type(error).__name__}: {error}")

    def _listened_to(self) -> TargetTransform:
        if self._transform is None:
            raise NoTransform("TF is not listened to any more")
        return self._transform

    def _count(self, frame_id: str, error: NoTransform) -> None:
        self._statistics.refuse("target_frame", "no_transform", str(error))
        self._node.get_logger().warning(
            f"no transform from '{frame_id}' to '{self._listened_to().frame}': {error}",
            throttle_duration_sec=LOG_SECONDS,
        )


def _heard(publisher) -> bool:
    return publisher is not None and publisher.get_subscription_count() > 0
