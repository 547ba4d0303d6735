"""What a CameraInfo says of an image: its intrinsics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from esam_perception.targets.depth import NoDepth
from esam_perception.targets.sizes import whole_factor
from esam_perception.types import Intrinsics


class RegionMessage(Protocol):
    """A sensor_msgs/RegionOfInterest, as far as it is read here."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class CameraInfoMessage(Protocol):
    """A sensor_msgs/CameraInfo, as far as it is read here."""

    width: int
    height: int
    d: Sequence[float]
    k: Sequence[float]
    p: Sequence[float]
    roi: RegionMessage


def intrinsics_of(info: CameraInfoMessage, width: int, height: int, rectified: bool = False) -> Intrinsics:
    """The intrinsics of an image of `width` x `height` pixels by its sensor_msgs/CameraInfo.

    rectified: the image is (its topic says so), and P holds instead of K. A region of interest is respected; an image
    that is smaller or larger by a whole factor (binning, decimation) has its intrinsics scaled. Raises NoDepth where K
    or P is not that of a camera, and where the size is another.
    """
    matrix = (info.p[0], info.p[5], info.p[2], info.p[6]) if rectified else (info.k[0], info.k[4], info.k[2], info.k[5])
    fx, fy, cx, cy = (float(value) for value in matrix)
    if not all(math.isfinite(value) for value in (fx, fy, cx, cy)) or fx <= 0 or fy <= 0:
        name = "P" if rectified else "K"
        raise NoDepth("bad_camera_info", f"{name} has focal lengths {fx:g} and {fy:g}: the camera is not calibrated")
    region = info.roi
    full = (region.width, region.height) if region.width and region.height else (info.width, info.height)
    if full == (0, 0):
        full = (width, height)  # drivers that leave the size out mean the image's
    factor = whole_factor(full, (width, height))
    if factor is None:
        raise NoDepth(
            "camera_info_of_another_size", f"camera_info is of {full[0]} x {full[1]}, the image {width} x {height}"
        )
    scale = float(factor)
    # pixel centres are whole numbers: half a pixel more on the way to the other size and back
    return Intrinsics(
        fx * scale,
        fy * scale,
        (cx - region.x_offset + 0.5) * scale - 0.5,
        (cy - region.y_offset + 0.5) * scale - 0.5,
        width,
        height,
    )


def is_rectified(image_topic: str) -> bool:
    """Whether a topic carries rectified images, by image_proc's names (image_rect, image_rect_color)."""
    return any(part.startswith("image_rect") for part in image_topic.split("/"))


def is_distorted(info: CameraInfoMessage) -> bool:
    """Whether a CameraInfo tells of a lens distortion, which K alone does not undo."""
    return any(math.isfinite(value) and abs(value) > 0 for value in info.d)


def camera_info_beside(image_topic: str) -> str:
    """The topic of the intrinsics that belongs to an image topic by convention: its last part becomes camera_info."""
    return image_topic.rpartition("/")[0] + "/camera_info" if "/" in image_topic else "camera_info"
