"""What `esam replay` wrote, and the recording it is about, into a scene of Rerun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_typestore

from esam_perception.recordings.bags import DAMAGE, BagError, cure, image_connections, open_bag, raw_messages
from esam_perception.recordings.rerun_scene import RerunScene

# What a bag with damaged definitions of its types raises, found by damaging many: from AssertionError on, the parser's own
# and that of fields which have another name.
_DAMAGED_TYPES = (*DAMAGE, AnyReaderError, TypesysError, AssertionError, AttributeError, ValueError)


def show_replay(scene: RerunScene, matches: Path, bag: Path | None = None, image_topic: str | None = None) -> int:
    """Log what `esam replay` wrote, and the images of the bag it is about; returns the number of frames. An image that cannot
    be read is said in the scene, and the rest goes on. Raises BagError."""
    if bag is not None:
        _show_images(scene, bag, image_topic)
    with open_bag(matches):  # says what is wrong with it, if anything is
        pass
    try:
        return _show_matches(scene, matches)
    except _DAMAGED_TYPES as error:
        if isinstance(error, BagError):
            raise
        first_line = (str(error).splitlines() or [""])[0]
        raise BagError(f"{matches}: cannot be read ({first_line or type(error).__name__}){cure(matches)}") from error


def _show_images(scene: RerunScene, bag: Path, image_topic: str | None) -> None:
    store = get_typestore(Stores.ROS2_HUMBLE)
    with open_bag(bag) as reader:
        for connection, _, raw in raw_messages(reader, image_connections(reader, bag, image_topic), bag):
            try:
                message: Any = store.deserialize_cdr(raw, connection.msgtype)
            except (SerdeError, UnicodeDecodeError) as error:
                scene.refuse("bad_message", str(error))
                continue
            scene.image(message)


def _show_matches(scene: RerunScene, matches: Path) -> int:
    with AnyReader([matches]) as reader:
        topics = {connection.topic for connection in reader.connections}
        if "/esam/matches" not in topics:
            raise BagError(f"{matches}: has no /esam/matches: give the folder NAME_matches that esam replay wrote")
        count = 0
        for connection, _, raw in reader.messages():
            if connection.topic == "/esam/matches":
                matched: Any = reader.deserialize(raw, connection.msgtype)
                scene.matches(matched, "/esam/heatmap" not in topics)
                count += 1
            elif connection.topic == "/esam/heatmap":
                heat: Any = reader.deserialize(raw, connection.msgtype)
                scene.heatmap(heat)
        return count
