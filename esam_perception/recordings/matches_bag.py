"""The bag that a replay writes: the node's topics, with the contract's messages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from esam_perception.contract import Messages
from esam_perception.pipeline.frame_maps import joint_heatmap, label_image
from esam_perception.recordings.bag_messages import BagTypes
from esam_perception.types import Match, Query

_FOREVER = QosTime(9223372036, 854775807)
# a player must offer the active queries to those who come later, as the node does
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, _FOREVER, _FOREVER,
    QosLiveliness.AUTOMATIC, _FOREVER, False,
)  # fmt: skip


class MatchesBag:
    """The MCAP that is written: the node's topics, under the times at which the images were recorded."""

    def __init__(self, folder: Path, types: BagTypes, images: bool) -> None:
        self._types, self.messages = types, Messages(types)
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        # masks shrink a hundredfold
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._topics = {"matches": "MatchArray", "active_queries": "QueryArray"}
        if images:
            self._topics |= dict.fromkeys(("mask", "confidence", "heatmap"), "Image")
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> MatchesBag:
        self._writer.__enter__()
        for topic, name in self._topics.items():
            self._connections[topic] = self._writer.add_connection(
                f"/esam/{topic}", self._types.full_name(name), typestore=self._types.store,
                offered_qos_profiles=[LATCHED] if topic == "active_queries" else [],
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def write(self, topic: str, name: str, recorded: int, message: Any) -> None:
        """Write a message of type `name`, recorded at that time in nanoseconds."""
        self._writer.write(self._connections[topic], recorded, self._types.serialize(message, name))

    def write_queries(self, queries: Sequence[Query], recorded: int, header: Any) -> None:
        """Write the active queries."""
        array = self.messages.query_array(queries, self._types.Header(stamp=header.stamp))
        self.write("active_queries", "QueryArray", recorded, array)

    def write_images(
        self, found: Sequence[Match], size: tuple[int, int], alpha: float, recorded: int, header: Any
    ) -> None:
        """Write mask, confidence and heatmap of a frame of that height and width. alpha: of the fusion."""
        labels, confidence = label_image(found, *size)
        joint = joint_heatmap(found, alpha, *size)
        for topic, pixels, encoding in (
            ("mask", labels, "mono8"), ("confidence", confidence, "mono8"), ("heatmap", joint, "32FC1"),
        ):  # fmt: skip
            self.write(topic, "Image", recorded, self.messages.image(pixels, encoding, header))


def discard(output: Path) -> None:
    """Remove what an earlier replay wrote."""
    shutil.rmtree(output)
