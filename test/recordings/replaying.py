"""What the tests of recordings share: a replay by its command, and what it wrote."""

import numpy as np

from esam_perception.commands.dispatcher import main
from esam_perception.types import Query

QUERIES = [Query("the red mug", "mug", 0.4, 0.35), Query("a banana", "", 0.0, 0.0)]
QUERY_FILE = """queries:
  - {text: the red mug, id: mug, match_threshold: 0.4, reject_threshold: 0.35}
  - a banana
"""


def replay(tiny_profile, queries, output, *arguments):
    fixed = ["--queries", queries, "--model", tiny_profile, "--device", "cpu", "--output", output]
    return main(["replay", *map(str, [*arguments, *fixed])])


def read(folder):
    """[(topic, time, message)] of a bag, with the types that are written in it."""
    from rosbags.highlevel import AnyReader

    with AnyReader([folder]) as reader:
        return [(c.topic, time, reader.deserialize(raw, c.msgtype)) for c, time, raw in reader.messages()]


def pixels_of(message, dtype=np.uint8):
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
