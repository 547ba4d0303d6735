"""3D targets <-> messages: poses, markers, clouds."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header

from esam_perception.images.drawing import PALETTE, VERDICT_NAMES
from esam_perception.types import Match, Target3D

try:
    from visualization_msgs.msg import Marker, MarkerArray
except ImportError:  # an own package of ROS: markers are published where it is installed
    Marker = MarkerArray = None

# RViz draws nothing that is thinner.
THINNEST = 0.002
TEXT_HEIGHT = 0.02
# RViz takes a marker's scale.x for the width of a space, and where that is 0 one for text of a metre's height.
SPACE_WIDTH = 0.3 * TEXT_HEIGHT


@dataclass(frozen=True)
class Shown:
    """A target as it is shown, without the images that it comes from: its query's place, its segment's label, a caption."""

    query: int
    label: int
    caption: str
    target: Target3D


def shown_targets(matches: Sequence[Match]) -> list[Shown]:
    """The targets of the matches, in the order of their queries and segments."""
    return [
        Shown(
            i, segment.label, f"{match.query.text[:48]}: {VERDICT_NAMES[match.verdict]} {match.itm_score:.2f}", segment.target
        )
        for i, match in enumerate(matches)
        for segment in match.segments
        if segment.target is not None
    ]  # fmt: skip


def pose_message(position: np.ndarray, target: Target3D) -> Pose:
    """A pose at `position` ([3] metres) with the target's orientation."""
    return Pose(position=_point(position), orientation=Quaternion(**dict(zip("xyzw", target.quaternion))))


def pose_array_message(shown: Sequence[Shown], header: Header) -> PoseArray:
    """The targets' poses, in their order."""
    return PoseArray(header=header, poses=[pose_message(one.target.position, one.target) for one in shown])


def marker_message(shown: Sequence[Shown], header: Header):
    """A visualization_msgs/MarkerArray: an oriented box and a line of text a target (in the header's frame), after a
    DELETEALL, so that what is no longer seen goes away."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for one in shown:
        target = one.target
        red, green, blue = (value / 255 for value in PALETTE[one.query % len(PALETTE)])
        box = Marker(header=header, ns="esam/box", id=one.label, type=Marker.CUBE, action=Marker.ADD)
        box.pose = pose_message(target.box_centre, target)
        box.scale.x, box.scale.y, box.scale.z = (max(THINNEST, float(value)) for value in target.extent)
        box.color = ColorRGBA(r=red, g=green, b=blue, a=0.45)
        text = Marker(header=header, ns="esam/text", id=one.label, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
        text.pose.position = _point(target.box_centre)
        text.scale.x, text.scale.z = SPACE_WIDTH, TEXT_HEIGHT
        text.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
        sigma = 100 * float(np.sqrt(np.trace(target.covariance[:3, :3])))
        text.text = (
            f"{one.caption}\n{' x '.join(f'{100 * value:.1f}' for value in target.extent)} cm, +- {sigma:.1f} cm"
        )
        markers += [box, text]
    return MarkerArray(markers=markers)


def cloud_message(points: np.ndarray, header: Header) -> PointCloud2:
    """An organized PointCloud2 of float32 [H, W, 3] points, x, y, z; NaN where there is none."""
    points = np.ascontiguousarray(points, np.float32)
    height, width = points.shape[:2]
    cloud = PointCloud2(header=header, height=height, width=width, point_step=12, row_step=12 * width, is_dense=False)
    cloud.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")
    ]
    cloud.is_bigendian = sys.byteorder == "big"
    # assigning an array.array is the one way that costs no per-element check in any distribution
    data = array.array("B")
    data.frombytes(points.data.cast("B"))
    cloud.data = data
    return cloud


def _point(position: np.ndarray) -> Point:
    return Point(x=float(position[0]), y=float(position[1]), z=float(position[2]))
