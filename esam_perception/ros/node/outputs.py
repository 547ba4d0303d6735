"""The node's publications about a frame. What nobody listens to is not made."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from esam_perception import msg
from esam_perception.images.drawing import draw_labels, draw_matches
from esam_perception.pipeline.frame_maps import joint_heatmap, label_image
from esam_perception.pipeline.labels import segment_label
from esam_perception.ros.wire.messages import ROS
from esam_perception.types import Located, Query, Timing

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # comes with apt's ROS, not with the PyPI wheels: label_info is published where it is installed
    LabelInfo = None

RELIABLE = QoSProfile(depth=5)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publishers of one node. The per-frame ones are lifecycle publishers: silent unless the node is active."""

    def __init__(self, node) -> None:
        self._matches = node.create_lifecycle_publisher(msg.MatchArray, "esam/matches", RELIABLE)
        self._mask = node.create_lifecycle_publisher(Image, "esam/mask", RELIABLE)
        self._mask_view = node.create_lifecycle_publisher(Image, "esam/mask_view", RELIABLE)
        self._confidence = node.create_lifecycle_publisher(Image, "esam/confidence", RELIABLE)
        self._heatmap = node.create_lifecycle_publisher(Image, "esam/heatmap", RELIABLE)
        self._overlay = node.create_lifecycle_publisher(Image, "esam/overlay", RELIABLE)
        self._overlay_compressed = node.create_lifecycle_publisher(CompressedImage, "esam/overlay/compressed", RELIABLE)
        self._active_queries = node.create_publisher(msg.QueryArray, "esam/active_queries", LATCHED)
        self._label_info = node.create_publisher(LabelInfo, "esam/label_info", LATCHED) if LabelInfo else None

    def publish_queries(self, queries: tuple[Query, ...], regions: int, header: Header) -> None:
        """The latched topics about the active queries; `regions`: how many segments a query may have."""
        self._active_queries.publish(ROS.query_array(queries, header))
        if self._label_info is not None:
            labels = (
                (segment_label(i, rank, len(queries)), query.key)
                for rank in range(regions)
                for i, query in enumerate(queries)
            )
            classes = [VisionClass(class_id=label, class_name=name) for label, name in labels if label is not None]
            self._label_info.publish(LabelInfo(header=header, class_map=classes, threshold=0.5))

    def publish(
        self, image: np.ndarray, located: Located, header: Header, alpha: float, jpeg_quality: int, about: dict
    ) -> Timing:
        """Publish everything about a frame, `matches` last: its timing includes the others. Returns that timing.

        about: the fields of MatchArray that describe the node (profile, weights_sha256, counters).
        """
        began = time.perf_counter()
        height, width = image.shape[:2]
        found = located.matches
        if _heard(self._mask) or _heard(self._confidence) or _heard(self._mask_view):
            labels, confidence = label_image(found, height, width)
            self._mask.publish(ROS.image(labels, "mono8", header))
            self._confidence.publish(ROS.image(confidence, "mono8", header))
            if _heard(self._mask_view):
                self._mask_view.publish(ROS.image(draw_labels(labels, found), "rgb8", header))
        if _heard(self._heatmap):
            joint = joint_heatmap(found, alpha, height, width)
            self._heatmap.publish(ROS.image(joint, "32FC1", header))
        if _heard(self._overlay) or _heard(self._overlay_compressed):
            picture = draw_matches(image, found)
            if _heard(self._overlay):
                self._overlay.publish(ROS.image(picture, "rgb8", header))
            if _heard(self._overlay_compressed):
                self._overlay_compressed.publish(ROS.jpeg(picture, header, jpeg_quality))
        array = ROS.match_array(found, located.timing, header, about)
        spent = 1000 * (time.perf_counter() - began)
        timing = replace(located.timing, publish=spent, total=located.timing.total + spent)
        array.timing = ROS.timing(timing)
        self._matches.publish(array)
        return timing


def _heard(publisher) -> bool:
    return publisher.get_subscription_count() > 0
