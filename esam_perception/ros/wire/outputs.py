"""The node's publications about a frame and about the active queries. What nobody listens to is not made."""

from __future__ import annotations

import time
from typing import Any

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from esam_perception import msg
from esam_perception.contract import Counts
from esam_perception.images.drawing import draw_labels, draw_matches
from esam_perception.pipeline.frame_maps import joint_heatmap, label_image
from esam_perception.pipeline.labels import label_table
from esam_perception.ros.wire.messages import ROS
from esam_perception.ros.wire.qos import LATCHED, RELIABLE
from esam_perception.stream.session import Options
from esam_perception.types import FrameResult, Query, Timing

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # comes with apt's ROS, not with the PyPI wheels: label_info is published where it is installed
    LabelInfo = None


class Outputs:
    """Publishers of one node. The per-frame ones are lifecycle publishers: silent unless the node is active."""

    def __init__(self, node: Any) -> None:
        self._matches = node.create_lifecycle_publisher(msg.MatchArray, "~/matches", RELIABLE)
        self._mask = node.create_lifecycle_publisher(Image, "~/mask", RELIABLE)
        self._mask_view = node.create_lifecycle_publisher(Image, "~/mask_view", RELIABLE)
        self._confidence = node.create_lifecycle_publisher(Image, "~/confidence", RELIABLE)
        self._heatmap = node.create_lifecycle_publisher(Image, "~/heatmap", RELIABLE)
        self._overlay = node.create_lifecycle_publisher(Image, "~/overlay", RELIABLE)
        self._overlay_compressed = node.create_lifecycle_publisher(CompressedImage, "~/overlay/compressed", RELIABLE)
        self._active_queries = node.create_publisher(msg.QueryArray, "~/active_queries", LATCHED)
        self._label_info = node.create_publisher(LabelInfo, "~/label_info", LATCHED) if LabelInfo else None

    def publish_queries(self, queries: tuple[Query, ...], header: Header) -> None:
        """The latched topics about the active queries."""
        self._active_queries.publish(ROS.query_array(queries, header))
        if self._label_info is not None:
            classes = [VisionClass(class_id=label, class_name=key) for label, key in label_table(queries)]
            self._label_info.publish(LabelInfo(header=header, class_map=classes, threshold=0.5))

    def publish(self, result: FrameResult, header: Header, options: Options, alpha: float, counts: Counts) -> Timing:
        """Publish everything about a frame, `matches` last. header: the image's own; alpha: of the fusion; counts: with
        this frame. Returns the timing that is published, with what publishing took."""
        began = time.perf_counter()
        image, found = result.frame.image, result.matches
        height, width = image.shape[:2]
        if _heard(self._mask) or _heard(self._confidence) or _heard(self._mask_view):
            labels, confidence = label_image(found, height, width)
            self._mask.publish(ROS.image(labels, "mono8", header))
            self._confidence.publish(ROS.image(confidence, "mono8", header))
            if _heard(self._mask_view):
                self._mask_view.publish(ROS.image(draw_labels(labels, found), "rgb8", header))
        if _heard(self._heatmap):
            self._heatmap.publish(ROS.image(joint_heatmap(found, alpha, height, width), "32FC1", header))
        if _heard(self._overlay) or _heard(self._overlay_compressed):
            picture = draw_matches(image, found)
            if _heard(self._overlay):
                self._overlay.publish(ROS.image(picture, "rgb8", header))
            if _heard(self._overlay_compressed):
                self._overlay_compressed.publish(ROS.jpeg(picture, header, options.jpeg_quality))
        matches = [ROS.match(match, header) for match in found]
        timing = result.timing.plus(publish=1000 * (time.perf_counter() - began))
        self._matches.publish(ROS.match_array_of(matches, timing, header, result.provenance, counts))
        return timing


def _heard(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)
