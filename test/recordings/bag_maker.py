"""Bags for tests, written by rosbags' own writer from its own classes."""

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
START = 1_700_000_000_000_000_000
STEP = 100_000_000  # nanoseconds between frames
LATE = 7_000_000  # how much later than its stamp an image is recorded


def header(stamp: int, frame_id: str = "camera_optical_frame"):
    time = STORE.types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
    return STORE.types["std_msgs/msg/Header"](time, frame_id)


def image(pixels: np.ndarray, encoding: str = "rgb8", stamp: int = START, padding: int = 0):
    """A sensor_msgs/Image of uint8 [H, W] or [H, W, C] whose rows are followed by `padding` bytes."""
    rows = pixels.reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    width = pixels.shape[1]
    return STORE.types[IMAGE](header(stamp), pixels.shape[0], width, encoding, 0, rows.shape[1], rows.ravel())


def compressed(rgb: np.ndarray, stamp: int = START):
    data = cv2.imencode(".png", rgb[..., ::-1])[1].ravel()
    return STORE.types[COMPRESSED](header(stamp), "png", data)


def write_bag(
    folder: Path, topics: dict[str, list], storage: StoragePlugin = StoragePlugin.MCAP, compress: bool = False
) -> Path:
    """A bag with the messages of each topic, one every STEP; an empty list: a topic without messages."""
    writer = Writer(folder, version=9, storage_plugin=storage)
    if compress:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        kinds = {topic: type(found[0]).__msgtype__ if found else IMAGE for topic, found in topics.items()}
        connections = {topic: writer.add_connection(topic, kinds[topic], typestore=STORE) for topic in topics}
        messages = [(START + i * STEP + LATE, topic, m) for topic, found in topics.items() for i, m in enumerate(found)]
        for time, topic, message in sorted(messages, key=lambda item: item[:2]):
            writer.write(connections[topic], time, STORE.serialize_cdr(message, kinds[topic]))
    return folder
