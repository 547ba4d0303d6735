"""The one place that knows both the core's types and the messages; clouds and markers are in target_messages.

Messages are made of the classes that `types` names: those of ROS unless told otherwise, or those of bags (bag_messages),
so that `esam replay` writes the same fields without ROS.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from esam_perception.fusion import native_heatmap
from esam_perception.ros.encodings import fill_image
from esam_perception.types import Match, Query, Segment, Target3D, Timing

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

    from esam_perception import msg

NANOSECONDS = 1_000_000_000


@functools.cache
def ros_types() -> SimpleNamespace:
    """The classes of ROS' messages by their names. Imported when the first message is made: bags are replayed where no
    ROS is installed."""
    from builtin_interfaces.msg import Time
    from geometry_msgs.msg import Point32
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

    from esam_perception import msg

    names = ("Match", "MatchArray", "Query", "QueryArray", "Segment", "Timing")
    ours = {name: getattr(msg, name) for name in names}
    return SimpleNamespace(
        Time=Time, Point32=Point32, CompressedImage=CompressedImage, Image=Image, Header=Header, **ours
    )


def to_nanoseconds(stamp: Time) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def to_header(stamp: int, frame_id: str, types: Any = None) -> Header:
    """A header of a time in nanoseconds."""
    types = types or ros_types()
    return types.Header(stamp=types.Time(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS), frame_id=frame_id)


def query_array_message(queries: Iterable[Query], header: Header, types: Any = None) -> msg.QueryArray:
    """The queries as a message; ids are filled in."""
    types = types or ros_types()
    array = types.QueryArray(header=header)
    for q in queries:
        array.queries.append(
            types.Query(id=q.key, text=q.text, match_threshold=q.match_threshold, reject_threshold=q.reject_threshold)
        )
    return array


def segment_message(segment: Segment, header: Header, types: Any = None) -> msg.Segment:
    """A segment, with its 3D target where it has one."""
    types = types or ros_types()
    message = types.Segment(
        label=segment.label,
        predicted_iou=segment.predicted_iou,
        region_score=segment.region_score,
        salience=segment.salience,
    )
    fill_image(message.mask, segment.mask.view(np.uint8) * np.uint8(255), "mono8", header)
    box = message.box
    box.x_offset, box.y_offset, box.width, box.height = segment.box
    message.prompt_points = [types.Point32(x=float(x), y=float(y)) for x, y in segment.prompt_points]
    if segment.target is not None:
        fill_target(message, segment.target)
    return message


def fill_target(message, target: Target3D) -> None:
    """Fill has_target, target and extent of an esam_perception/Segment."""
    message.has_target = True
    pose = message.target.pose
    pose.position.x, pose.position.y, pose.position.z = (float(value) for value in target.position)
    orientation = pose.orientation
    orientation.x, orientation.y, orientation.z, orientation.w = target.quaternion
    message.target.covariance = [float(value) for value in target.covariance.ravel()]
    message.extent = [float(value) for value in target.extent]


def match_message(match: Match, header: Header, types: Any = None) -> msg.Match:
    """A match with its maps and segments."""
    types = types or ros_types()
    message = types.Match(
        query_id=match.query.key,
        text=match.query.text,
        verdict=int(match.verdict),
        itm_logits=[float(value) for value in match.itm_logits],
        itm_score=match.itm_score,
        itc_similarity=match.itc_similarity,
        confidence=match.confidence,
        segments=[segment_message(segment, header, types) for segment in match.segments],
    )
    fill_image(message.heatmap, match.heatmap, "32FC1", header)
    fill_image(message.gradcam, match.gradcam, "32FC1", header)
    return message


def match_array_message(matches: Sequence[Match], timing: Timing, header: Header, about: dict, types: Any = None):
    """An esam_perception/MatchArray. about: its fields that describe the node (profile, weights_sha256, counters)."""
    types = types or ros_types()
    found = [match_message(match, header, types) for match in matches]
    return types.MatchArray(header=header, matches=found, timing=timing_message(timing, types), **about)


def timing_message(timing: Timing, types: Any = None) -> msg.Timing:
    """Milliseconds per stage."""
    return (types or ros_types()).Timing(**{name: float(getattr(timing, name)) for name in Timing.__dataclass_fields__})


def label_image(matches: Sequence[Match], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels, confidence), both uint8 [H, W]: the label of the segment that is surest of each pixel, and how sure
    (0..255); 0 where there is none."""
    labels = np.zeros((height, width), np.uint8)
    best = np.zeros((height, width), np.float32)
    for segment in (segment for match in matches for segment in match.segments):
        wins = segment.mask & (segment.probability > best)
        labels[wins] = segment.label
        best[wins] = segment.probability[wins]
    return labels, np.rint(best * 255).astype(np.uint8)


def joint_heatmap(matches: Sequence[Match], alpha: float, height: int, width: int) -> np.ndarray:
    """float32 [H, W] in 0..1: the maximum over the queries of their fused heatmaps at native resolution.

    A match without segments has no mask at native resolution; its map is the one of the patch grid.
    """
    joint = np.zeros((height, width), np.float32)
    for match in matches:
        if match.segments:
            mask = np.max([segment.salience * segment.probability for segment in match.segments], axis=0)
            heat = match.gradcam if match.heat is None else match.heat
            own = native_heatmap(heat, mask, alpha, height, width)
        else:
            own = native_heatmap(match.heatmap, None, alpha, height, width)
        np.maximum(joint, own, out=joint)
    return joint


def image_message(pixels: np.ndarray, encoding: str, header: Header, types: Any = None) -> Image:
    """A sensor_msgs/Image (see encodings.fill_image)."""
    return fill_image((types or ros_types()).Image(), pixels, encoding, header)


def jpeg_message(rgb: np.ndarray, header: Header, quality: int = 85) -> CompressedImage:
    """A JPEG of uint8 [H, W, 3] RGB."""
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return ros_types().CompressedImage(header=header, format="jpeg", data=data.tobytes())
