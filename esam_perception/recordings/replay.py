"""One recording through the pipeline: every frame in the bag's order, the answers into an MCAP of the contract's messages.

Nothing of it depends on the clock or on the machine's load: the same bag gives the same bytes.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rosbags.serde import SerdeError

from esam_perception.contract import Counts, to_nanoseconds
from esam_perception.errors import EsamError
from esam_perception.images.encodings import RefusedImage, message_to_rgb
from esam_perception.recordings.bag_messages import bag_types
from esam_perception.recordings.bags import BagError, image_connections, open_bag, raw_messages
from esam_perception.recordings.matches_bag import MatchesBag
from esam_perception.types import Match, Query, Timing, Verdict

if TYPE_CHECKING:
    from esam_perception.pipeline.pipeline import Pipeline


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
    verdicts: Counter[Verdict] = field(default_factory=Counter)
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
    refused: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def refuse(self, reason: str, detail: str) -> None:
        """Count a frame that could not be taken."""
        self.refused[reason] += 1
        self.details.setdefault(reason, " ".join(detail.split()))


def image_count(job: BagJob) -> int:
    """How many images the bag announces. Raises BagError where it cannot be replayed."""
    with open_bag(job.bag) as reader:
        return sum(connection.msgcount for connection in image_connections(reader, job.bag, job.image_topic))


def replay_bag(job: BagJob, on_frame: Callable[[], object] = lambda: None) -> BagResult:
    """Replay a bag; what stops it (a damaged file, a model that is not there) is in the result's `error`, and then no
    output is left. on_frame: called after every image that was read."""
    result = BagResult(job.bag, job.output, [QueryCounts(query) for query in job.queries])
    job.output.parent.mkdir(parents=True, exist_ok=True)
    # what is half written must not look like a result
    with tempfile.TemporaryDirectory(dir=job.output.parent, prefix=".esam_replay_") as unfinished:
        written = Path(unfinished) / job.output.name
        try:
            _replay(job, written, result, on_frame)
            written.rename(job.output)
        except Exception as error:  # what is no bug is the bag's, the model's or the machine's
            from esam_perception.computing import is_of_the_device

            if not isinstance(error, (EsamError, OSError)) and not is_of_the_device(error):
                raise
            result.error = str(error) or type(error).__name__
    return result


@functools.lru_cache(maxsize=1)
def _load(model: str, device: str, threads: int) -> Pipeline:
    """The pipeline of this process, kept from bag to bag."""
    import torch

    from esam_perception.pipeline.pipeline import Pipeline

    torch.set_num_threads(threads)
    return Pipeline.from_profile(model, device)


def _replay(job: BagJob, written: Path, result: BagResult, on_frame: Callable[[], object]) -> None:
    pipeline = _load(job.model, job.device, job.threads)
    for query in job.queries:  # what is wrong with one is wrong in every frame
        pipeline.check_text(query.text)
        pipeline.thresholds(query, 0.0, 0.0)
    result.profile = pipeline.profile.name
    with open_bag(job.bag) as reader:
        connections = image_connections(reader, job.bag, job.image_topic)
        result.topic = connections[0].topic
        result.announced = sum(connection.msgcount for connection in connections)
        with MatchesBag(written, bag_types(), job.images) as output:
            for connection, recorded, raw in raw_messages(reader, connections, job.bag):
                if result.read % job.every:
                    result.skipped += 1
                else:
                    _process(job, pipeline, output, result, recorded, raw, connection.msgtype)
                result.read += 1
                on_frame()
    if not result.read:
        raise BagError(f"{job.bag}: announces {result.announced} images and holds none: it is damaged")
    if not result.processed:
        reason, frames = result.refused.most_common(1)[0]
        told = f"{frames} times {reason} (the first: {result.details[reason]})"
        raise BagError(f"{job.bag}: none of its {result.read} images could be taken: {told}")


def _process(
    job: BagJob, pipeline: Pipeline, output: MatchesBag, result: BagResult, recorded: int, raw: bytes, kind: str
) -> None:
    """One frame; what cannot be read or answered is counted under its reason, as the node does."""
    if not 0 <= recorded < 1 << 63:  # out of a database anything can come
        result.refuse("bad_time", f"recorded at {recorded} ns")
        return
    try:
        message: Any = bag_types().store.deserialize_cdr(raw, kind)
        # bytes of a bag are read-only, which torch warns of
        image = np.require(message_to_rgb(message), requirements=["C", "W"])
    except RefusedImage as error:
        result.refuse(error.reason, str(error))
        return
    except (SerdeError, UnicodeDecodeError) as error:
        result.refuse("bad_message", str(error))
        return
    try:
        located = pipeline.locate_timed(image, job.queries, segment_always=job.segment_always)
    except Exception as error:
        from esam_perception.computing import is_of_the_device

        if is_of_the_device(error):  # it says nothing of this frame: the same bag must give the same matches
            raise
        result.refuse("processing_failed", f"{type(error).__name__}: {error}")
        return
    result.processed += 1
    stamp = to_nanoseconds(message.header.stamp)
    for counted, match in zip(result.queries, located.matches):
        counted.add(match, stamp)
    counts = Counts(result.processed, result.skipped, sum(result.refused.values()))
    if result.processed == 1:
        output.write_queries(job.queries, recorded, message.header)
    # how long it took is of this machine and this day: zeros
    array = output.messages.match_array(located.matches, Timing(), message.header, pipeline.provenance, counts)
    output.write("matches", "MatchArray", recorded, array)
    if job.images:
        height, width = image.shape[:2]
        alpha = pipeline.profile.fusion.alpha
        output.write_images(located.matches, (height, width), alpha, recorded, message.header)
