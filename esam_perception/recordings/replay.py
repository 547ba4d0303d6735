"""One recording through the pipeline: every frame in the bag's order, the answers into an MCAP of the contract's messages.

Nothing of it depends on the clock or on the machine's load: the same bag gives the same bytes.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.serde import SerdeError

from esam_perception.contract import Messages, to_nanoseconds
from esam_perception.errors import EsamError
from esam_perception.images.encodings import RefusedImage, message_to_rgb
from esam_perception.pipeline.frame_maps import joint_heatmap, label_image
from esam_perception.recordings.bag_messages import BagTypes, bag_types
from esam_perception.recordings.bags import BagError, image_connections, open_bag, raw_messages
from esam_perception.types import Match, Query, Timing, Verdict

_FOREVER = QosTime(9223372036, 854775807)
# a player must offer the active queries to those who come later, as the node does
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, _FOREVER, _FOREVER,
    QosLiveliness.AUTOMATIC, _FOREVER, False,
)  # fmt: skip


@dataclass(frozen=True)
class BagJob:
    """What is to be done with one bag; travels to worker processes and, with Ray, to other machines.

    output: folder of the bag that is written; must not exist. image_topic: None for the only one. every: look at each
    Nth frame. images: write mask, confidence and heatmap too.
    """

    bag: Path
    output: Path
    queries: tuple[Query, ...]
    image_topic: str | None = None
    model: str = "auto"
    device: str = "auto"
    threads: int = 1
    every: int = 1
    segment_always: bool = False
    images: bool = False


@dataclass
class QueryCounts:
    """What a query got over a bag. Stamps: nanoseconds of the image's header; None where it never matched."""

    query: Query
    verdicts: Counter = field(default_factory=Counter)
    score_sum: float = 0.0
    first_match: int | None = None
    last_match: int | None = None

    @property
    def frames(self) -> int:
        return sum(self.verdicts.values())

    def add(self, match: Match, stamp: int) -> None:
        """Count one frame's match."""
        self.verdicts[Verdict(match.verdict)] += 1
        self.score_sum += match.itm_score
        if match.verdict is Verdict.MATCH:
            # in the bag's order, which need not be that of the stamps
            self.first_match = stamp if self.first_match is None else min(self.first_match, stamp)
            self.last_match = stamp if self.last_match is None else max(self.last_match, stamp)


@dataclass
class BagResult:
    """What became of one bag. error: why it could not be replayed, empty where it was.

    refused: reason -> frames; details: reason -> what was wrong with the first of them. announced: images that the bag
    says it has.
    """

    bag: Path
    output: Path
    queries: list[QueryCounts]
    topic: str = ""
    profile: str = ""
    announced: int = 0
    read: int = 0
    processed: int = 0
    skipped: int = 0
    refused: Counter = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    error: str = ""


def image_count(job: BagJob) -> int:
    """How many images the bag announces. Raises BagError where it cannot be replayed."""
    with open_bag(job.bag) as reader:
        return sum(connection.msgcount for connection in image_connections(reader, job.bag, job.image_topic))


def replay_bag(job: BagJob, on_frame: Callable[[], object] = lambda: None) -> BagResult:
    """Replay a bag; what stops it (a damaged file, a model that is not there) is in the result's `error`, and then no
    output is left. on_frame: called after every image that was read."""
    import torch  # not with this module: what is wrong with the input is said before these seconds

    result = BagResult(job.bag, job.output, [QueryCounts(query) for query in job.queries])
    job.output.parent.mkdir(parents=True, exist_ok=True)
    # what is half written must not look like a result
    with tempfile.TemporaryDirectory(dir=job.output.parent, prefix=".esam_replay_") as unfinished:
        written = Path(unfinished) / job.output.name
        try:
            _replay(job, written, result, on_frame)
            written.rename(job.output)
        except (EsamError, OSError, MemoryError, torch.cuda.OutOfMemoryError) as error:
            result.error = str(error)
    return result


@functools.lru_cache(maxsize=1)
def _load(model: str, device: str, threads: int):
    """The pipeline of this process, kept from bag to bag."""
    import torch

    from esam_perception.pipeline.pipeline import Pipeline

    torch.set_num_threads(threads)
    return Pipeline.from_profile(model, device)


def _replay(job: BagJob, written: Path, result: BagResult, on_frame: Callable[[], object]) -> None:
    pipeline = _load(job.model, job.device, job.threads)
    types = bag_types()
    result.profile = pipeline.profile.name
    with open_bag(job.bag) as reader:
        connections = image_connections(reader, job.bag, job.image_topic)
        result.topic = connections[0].topic
        result.announced = sum(connection.msgcount for connection in connections)
        with _Output(written, types, job.images) as output:
            for connection, recorded, raw in raw_messages(reader, connections, job.bag):
                if result.read % job.every:
                    result.skipped += 1
                else:
                    _process(job, pipeline, types, output, result, recorded, raw, connection.msgtype)
                result.read += 1
                on_frame()
    if not result.read:
        raise BagError(f"{job.bag}: announces {result.announced} images and holds none: it is damaged")


def _process(job, pipeline, types: BagTypes, output: _Output, result: BagResult, recorded: int, raw, kind: str) -> None:
    """One frame; what cannot be read is counted under its reason, as the node does."""
    try:
        message = types.store.deserialize_cdr(raw, kind)
        # bytes of a bag are read-only, which torch warns of
        image = np.require(message_to_rgb(message), requirements=["C", "W"])
    except (RefusedImage, SerdeError, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", "bad_message")
        result.refused[reason] += 1
        result.details.setdefault(reason, str(error))
        return
    located = pipeline.locate_timed(image, job.queries, segment_always=job.segment_always)
    result.processed += 1
    stamp = to_nanoseconds(message.header.stamp)
    for counts, match in zip(result.queries, located.matches):
        counts.add(match, stamp)
    about = {
        "profile": pipeline.profile.name,
        "weights_sha256": pipeline.provenance.weights_sha256,
        "frames_processed": result.processed,
        "frames_dropped": result.skipped,
        "frames_refused": sum(result.refused.values()),
    }
    if result.processed == 1:
        output.write_queries(job.queries, recorded, message.header)
    # how long it took is of this machine and this day: zeros
    array = output.messages.match_array(located.matches, Timing(), message.header, about)
    output.write("matches", "MatchArray", recorded, array)
    if job.images:
        alpha = pipeline.profile.fusion.alpha
        output.write_images(located.matches, image.shape[:2], alpha, recorded, message.header)


class _Output:
    """The MCAP that is written: the node's topics, under the times at which the images were recorded."""

    def __init__(self, folder: Path, types: BagTypes, images: bool) -> None:
        self._types, self.messages = types, Messages(types)
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        # masks shrink a hundredfold
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._topics = {"matches": "MatchArray", "active_queries": "QueryArray"}
        if images:
            self._topics |= dict.fromkeys(("mask", "confidence", "heatmap"), "Image")
        self._connections = {}

    def __enter__(self) -> _Output:
        self._writer.__enter__()
        for topic, name in self._topics.items():
            self._connections[topic] = self._writer.add_connection(
                f"/esam/{topic}", self._types.full_name(name), typestore=self._types.store,
                offered_qos_profiles=[LATCHED] if topic == "active_queries" else [],
            )  # fmt: skip
        return self

    def __exit__(self, *error) -> None:
        self._writer.__exit__(*error)

    def write(self, topic: str, name: str, recorded: int, message) -> None:
        """Write a message of type `name`, recorded at that time in nanoseconds."""
        self._writer.write(self._connections[topic], recorded, self._types.serialize(message, name))

    def write_queries(self, queries: tuple[Query, ...], recorded: int, header) -> None:
        array = self.messages.query_array(queries, self._types.Header(stamp=header.stamp))
        self.write("active_queries", "QueryArray", recorded, array)

    def write_images(self, found, size: tuple[int, int], alpha: float, recorded: int, header) -> None:
        labels, confidence = label_image(found, *size)
        joint = joint_heatmap(found, alpha, *size)
        for topic, pixels, encoding in (
            ("mask", labels, "mono8"), ("confidence", confidence, "mono8"), ("heatmap", joint, "32FC1"),
        ):  # fmt: skip
            self.write(topic, "Image", recorded, self.messages.image(pixels, encoding, header))


def discard(output: Path) -> None:
    """Remove what an earlier replay wrote."""
    shutil.rmtree(output)
