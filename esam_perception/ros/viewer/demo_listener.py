"""The demo's consumer: listens to results as any other package would, and matches them to images by stamp."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String

from esam_perception import msg
from esam_perception.contract import to_nanoseconds
from esam_perception.images.encodings import image_to_rgb, plane
from esam_perception.images.masks import mask_iou
from esam_perception.ros.wire import qos
from esam_perception.types import Match, Query, Segment, Verdict

KEPT_FRAMES = 60


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """A result with the image it is about. instances: the truth, where it is known."""

    array: msg.MatchArray
    image: np.ndarray
    instances: np.ndarray | None
    latency_ms: float

    def true_iou(self, index: int, labels: list[int]) -> float:
        """IoU of the best segment of a match with the objects of these labels; 0 without a segment."""
        segments = self.array.matches[index].segments
        if not segments or self.instances is None:
            return 0.0
        return mask_iou(plane(segments[0].mask) > 0, np.isin(self.instances, labels))

    def core_matches(self) -> list[Match]:
        """The matches as the core's types, for drawing."""
        return [_core_match(match, self.image.shape[:2]) for match in self.array.matches]


def _core_match(match: msg.Match, size: tuple[int, int]) -> Match:
    segments = []
    for s in match.segments:
        mask = plane(s.mask) > 0
        points = np.array([(p.x, p.y) for p in s.prompt_points], np.float32)
        box = (s.box.x_offset, s.box.y_offset, s.box.width, s.box.height)
        segments.append(Segment(s.label, mask, mask.astype(np.float32), s.predicted_iou, box, points, s.region_score))
    heatmap, gradcam = plane(match.heatmap), plane(match.gradcam)
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    peak = ((column + 0.5) * size[1] / heatmap.shape[1], (row + 0.5) * size[0] / heatmap.shape[0])
    return Match(
        Query(match.text, match.query_id), Verdict(match.verdict), tuple(match.itm_logits), match.itm_score,
        match.itc_similarity, match.confidence, gradcam, heatmap, peak, tuple(segments),
    )  # fmt: skip


class Listener:
    """One rclpy node, spun by whoever asks."""

    def __init__(self) -> None:
        rclpy.init()
        self._node = Node("esam_demo")
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._instances: OrderedDict[int, Image] = OrderedDict()
        self._results: OrderedDict[int, tuple[msg.MatchArray, float]] = OrderedDict()
        self.scene: dict[str, Any] | None = None
        self.image_count = 0
        self.fatal = ""
        self._node.create_subscription(Image, "camera/image_raw", self._on_image, qos.RELIABLE)
        self._node.create_subscription(
            Image, "camera/truth/instances", lambda m: self._keep(self._instances, m), qos.RELIABLE
        )
        self._node.create_subscription(String, "camera/truth/scene", self._on_scene, qos.LATCHED)
        self._node.create_subscription(msg.MatchArray, "esam/matches", self._on_matches, 10)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._queries = self._node.create_publisher(String, "esam/query", qos.QUERY)

    def close(self) -> None:
        """Leave ROS."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def spin(self, seconds: float) -> None:
        """Handle what arrives for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def node_is_there(self) -> bool:
        """Whether somebody listens to queries and somebody publishes matches."""
        return self._queries.get_subscription_count() > 0 and self._node.count_publishers("esam/matches") > 0

    def ask(self, queries: list[str]) -> None:
        """Make these the active queries."""
        self._queries.publish(String(data="\n".join(queries)))

    def results_for(self, queries: list[str]) -> int:
        """How many complete results there are for exactly these queries."""
        return len(self.complete_frames(queries))

    def complete_frames(self, queries: list[str]) -> list[SeenFrame]:
        """Results for exactly these queries whose image is at hand, in the order of their stamps."""
        frames = []
        for stamp, (array, latency) in sorted(self._results.items()):
            if [match.text for match in array.matches] == queries and stamp in self._images:
                truth = self._instances.get(stamp)
                instances = plane(truth) if truth is not None else None
                frames.append(SeenFrame(array, image_to_rgb(self._images[stamp]), instances, latency))
        return frames

    def _keep(self, kept: OrderedDict[int, Image], message: Image) -> None:
        kept[to_nanoseconds(message.header.stamp)] = message
        while len(kept) > KEPT_FRAMES:
            kept.popitem(last=False)

    def _on_image(self, message: Image) -> None:
        self.image_count += 1
        self._keep(self._images, message)

    def _on_scene(self, message: String) -> None:
        self.scene = json.loads(message.data)

    def _on_matches(self, array: msg.MatchArray) -> None:
        stamp = to_nanoseconds(array.header.stamp)
        latency = (self._node.get_clock().now().nanoseconds - stamp) / 1e6
        self._results[stamp] = (array, latency)
        while len(self._results) > KEPT_FRAMES:
            self._results.popitem(last=False)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("esam: perception") and status.level == DiagnosticStatus.ERROR:
                self.fatal = status.message
