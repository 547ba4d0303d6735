"""Reading the camera's images from a rosbag2 recording (MCAP or SQLite), without ROS."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.serde import SerdeError

from esam_perception.errors import EsamError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
# What rosbags and SQLite raise for a damaged file, found by damaging many: from KeyError on, lengths and names are garbage.
DAMAGE = (
    ReaderError, SerdeError, apsw.Error, ZstdError, OSError, UnicodeDecodeError, struct.error, KeyError, TypeError,
    MemoryError, OverflowError,
)  # fmt: skip


class BagError(EsamError):
    """A recording that cannot be used; one line that says what to do."""


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """The reader of a bag: a folder with metadata.yaml, an .mcap or a .db3 file. Raises BagError."""
    if not path.exists():
        raise BagError(f"{path}: there is no such file or folder")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        raise BagError(
            f"{path}: has no metadata.yaml: give the .mcap or .db3 file in it, or run: ros2 bag reindex {path}"
        )
    if path.suffix == ".bag":
        raise BagError(f"{path}: is a ROS 1 bag: convert it with: rosbags-convert --src {path} --dst {path.stem}")
    if not path.is_dir() and path.suffix not in (".mcap", ".db3"):
        raise BagError(f"{path}: is not a bag: give a folder with metadata.yaml, an .mcap or a .db3 file")
    try:
        reader = Reader(path)
        reader.open()
    except DAMAGE as error:
        raise BagError(f"{path}: {_why(error)}{cure(path)}") from error
    try:
        yield reader
    finally:
        reader.close()


def cure(path: Path) -> str:
    """What to do about a file that is damaged or was cut off."""
    if path.suffix == ".db3":
        return f"; what is left of it may be saved with: sqlite3 {path} .recover | sqlite3 {path.stem}_saved.db3"
    file = path if path.suffix == ".mcap" else "FILE.mcap"
    return f"; if it was cut off while recording: mcap recover {file} -o saved.mcap"


def _why(error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0].rstrip(".")
    return f"cannot be read ({first_line or type(error).__name__})"


def image_connections(reader: Reader, path: Path, topic: str | None) -> list[Connection]:
    """The connections of the image topic `topic`, or of the only one there is. Raises BagError."""
    if not reader.message_count:
        raise BagError(f"{path}: is empty: it holds no messages")
    images = [connection for connection in reader.connections if connection.msgtype in IMAGE_TYPES]
    topics = sorted({connection.topic for connection in images})
    listed = ", ".join(topics)
    if not topics:
        others = ", ".join(sorted({c.topic for c in reader.connections})) or "nothing"
        raise BagError(f"{path}: has no image topic (sensor_msgs/Image or CompressedImage); it has {others[:300]}")
    if topic is None and len(topics) > 1:
        raise BagError(f"{path}: has several image topics; choose one with --image-topic: {listed}")
    if topic is not None and topic not in topics:
        raise BagError(f"{path}: has no image topic {topic}; --image-topic can be: {listed}")
    found = [connection for connection in images if connection.topic == (topic or topics[0])]
    if not sum(connection.msgcount for connection in found):
        raise BagError(f"{path}: its image topic {topic or topics[0]} holds no messages")
    return found


def raw_messages(reader: Reader, connections: list[Connection], path: Path) -> Iterator[tuple[Connection, int, bytes]]:
    """(connection, time of recording in nanoseconds, CDR bytes) in the order of the bag. Raises BagError where the bag
    cannot be read on."""
    messages = iter(reader.messages(connections))
    while True:
        try:
            message = next(messages)
        except StopIteration:
            return
        except DAMAGE as error:
            raise BagError(f"{path}: {_why(error)}{cure(path)}") from error
        yield message
