"""The package's types -> the messages of its contract. No ROS: the classes are given, those of ROS (ros.wire.messages) or
those of bags (recordings.bag_messages), so that both write the same fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esam_perception.images.compressed import encode_jpeg
from esam_perception.images.encodings import fill_image
from esam_perception.types import Match, Provenance, Query, Segment, Target3D, Timing

NANOSECONDS = 1_000_000_000


def to_nanoseconds(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


@dataclass(frozen=True)
class Counts:
    """Frames of a stream so far: answered, dropped for a newer one or as too old, refused."""

    processed: int = 0
    dropped: int = 0
    refused: int = 0


NO_COUNTS = Counts()


class Messages:
    """Makes messages of the classes that `types` has as attributes by their short names (Match, Header, Image, ...)."""

    def __init__(self, types: Any) -> None:
        self._types = types

    def header(self, stamp: int, frame_id: str) -> Any:
        """A header of a time in nanoseconds."""
        time = self._types.Time(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS)
        return self._types.Header(stamp=time, frame_id=frame_id)

    def query_array(self, queries: Iterable[Query], header: Any) -> Any:
        """The queries as an esam_perception/QueryArray; ids are filled in."""
        array = self._types.QueryArray(header=header)
        for q in queries:
            thresholds = {"match_threshold": q.match_threshold, "reject_threshold": q.reject_threshold}
            array.queries.append(self._types.Query(id=q.key, text=q.text, **thresholds))
        return array

    def segment(self, segment: Segment, header: Any) -> Any:
        """A segment, with its 3D target where it has one."""
        message = self._types.Segment(
            label=segment.label,
            predicted_iou=segment.predicted_iou,
            region_score=segment.region_score,
            salience=segment.salience,
        )
        fill_image(message.mask, segment.mask.view(np.uint8) * np.uint8(255), "mono8", header)
        box = message.box
        box.x_offset, box.y_offset, box.width, box.height = segment.box
        message.prompt_points = [self._types.Point32(x=float(x), y=float(y)) for x, y in segment.prompt_points]
        if segment.target is not None:
            fill_target(message, segment.target)
        return message

    def match(self, match: Match, header: Any) -> Any:
        """A match with its maps and segments."""
        message = self._types.Match(
            query_id=match.query.key,
            text=match.query.text,
            verdict=int(match.verdict),
            itm_logits=[float(value) for value in match.itm_logits],
            itm_score=match.itm_score,
            itc_similarity=match.itc_similarity,
            confidence=match.confidence,
            segments=[self.segment(segment, header) for segment in match.segments],
        )
        fill_image(message.heatmap, match.heatmap, "32FC1", header)
        fill_image(message.gradcam, match.gradcam, "32FC1", header)
        return message

    def match_array(
        self, matches: Sequence[Match], timing: Timing, header: Any, by: Provenance, counts: Counts = NO_COUNTS
    ) -> Any:
        """An esam_perception/MatchArray. by: what found the matches; counts: of the frames so far."""
        return self.match_array_of([self.match(match, header) for match in matches], timing, header, by, counts)

    def match_array_of(
        self, matches: list[Any], timing: Timing, header: Any, by: Provenance, counts: Counts = NO_COUNTS
    ) -> Any:
        """The same of messages that `match` made, so that the timing can tell what making them took."""
        return self._types.MatchArray(
            header=header,
            matches=matches,
            profile=by.profile,
            weights_sha256=by.weights_sha256,
            timing=self.timing(timing),
            frames_processed=counts.processed,
            frames_dropped=counts.dropped,
            frames_refused=counts.refused,
        )

    def timing(self, timing: Timing) -> Any:
        """Milliseconds per stage."""
        return self._types.Timing(**{name: float(getattr(timing, name)) for name in Timing.__dataclass_fields__})

    def image(self, pixels: np.ndarray, encoding: str, header: Any) -> Any:
        """A sensor_msgs/Image (see encodings.fill_image)."""
        return fill_image(self._types.Image(), pixels, encoding, header)

    def jpeg(self, rgb: np.ndarray, header: Any, quality: int = 85) -> Any:
        """A sensor_msgs/CompressedImage: the JPEG of uint8 [H, W, 3] RGB. quality: 1..100. Raises CodecError."""
        return self._types.CompressedImage(header=header, format="jpeg", data=encode_jpeg(rgb, quality))


def fill_target(message: Any, target: Target3D) -> None:
    """Fill has_target, target and extent of an esam_perception/Segment."""
    message.has_target = True
    pose = message.target.pose
    pose.position.x, pose.position.y, pose.position.z = (float(value) for value in target.position)
    orientation = pose.orientation
    orientation.x, orientation.y, orientation.z, orientation.w = target.quaternion
    message.target.covariance = [float(value) for value in target.covariance.ravel()]
    message.extent = [float(value) for value in target.extent]
