"""Depth messages by stamp, what a CameraInfo says of an image, and why depth may be missing: what 3D targets are measured
with. No node in here."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from esam_perception.environment.distro import distro_name, fastdds_variable
from esam_perception.errors import EsamError
from esam_perception.targets.sizes import whole_factor
from esam_perception.types import Intrinsics

KEPT_MESSAGES = 8
ARRIVAL_SECONDS = 10.0
# Fewer messages than this in that time tell nothing of a rate.
FEWEST_ARRIVALS = 5
# Depth for less than this share of the images is missing, not late: a camera's own jitter costs it single ones.
COMPLETE_SHARE = 0.8


class NoDepth(EsamError):
    """There is no depth or there are no intrinsics for an image. reason: one of REASONS, for counters."""

    REASONS = (
        "no_depth_within_tolerance", "depth_of_another_frame", "bad_depth", "no_camera_info", "bad_camera_info",
        "camera_info_of_another_size",
    )  # fmt: skip

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class DepthBuffer:
    """The last few depth messages by stamp; any threads. Whoever needs the one of a certain instant says so with `want`:
    it then stays while newer ones come and go, however long the image of that instant is worked on."""

    def __init__(self, kept: int = KEPT_MESSAGES) -> None:
        self._lock = threading.Lock()
        self._kept = kept
        self._messages: dict[int, Any] = {}  # by stamp, in the order they came
        self._wanted: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, stamp: int, message: Any) -> None:
        """Keep a message. stamp: nanoseconds; a later message of the same stamp replaces the earlier one."""
        with self._lock:
            self._messages.pop(stamp, None)
            self._messages[stamp] = message
            self._forget()

    def want(self, who: str, stamp: int) -> None:
        """Keep the message nearest to this stamp (nanoseconds), until the same one wants another."""
        with self._lock:
            self._wanted[who] = stamp

    def nearest(self, stamp: int, tolerance: int) -> Any | None:
        """The message nearest to a stamp, at most `tolerance` nanoseconds away; None where there is none."""
        with self._lock:
            found = self._nearest(stamp)
            return self._messages[found] if found is not None and abs(found - stamp) <= tolerance else None

    def distance(self, stamp: int) -> int | None:
        """Nanoseconds from a stamp to the nearest message; None where there is none at all."""
        with self._lock:
            found = self._nearest(stamp)
            return None if found is None else abs(found - stamp)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._messages.clear()
            self._wanted.clear()

    def _nearest(self, stamp: int) -> int | None:
        return min(self._messages, key=lambda kept: abs(kept - stamp), default=None)

    def _forget(self) -> None:
        held = {self._nearest(stamp) for stamp in self._wanted.values()}
        free = [stamp for stamp in self._messages if stamp not in held]
        # the order of arrival, not of stamps: a clock that jumps back must not freeze the buffer
        for stamp in free[: max(0, len(self._messages) - self._kept)]:
            del self._messages[stamp]


class Arrivals:
    """How many messages of a kind came in the last ARRIVAL_SECONDS; any threads. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._moments: deque[tuple[float, str]] = deque()

    def note(self, kind: str) -> None:
        """One came."""
        with self._lock:
            self._moments.append((self._clock(), kind))
            self._forget()

    def lately(self, kind: str) -> int:
        """How many came."""
        with self._lock:
            self._forget()
            return Counter(kind for _, kind in self._moments)[kind]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._moments.clear()

    def _forget(self) -> None:
        while self._moments and self._clock() - self._moments[0][0] > ARRIVAL_SECONDS:
            self._moments.popleft()


def advice_on_lost_depth(images: int, infos: int, depths: int) -> str:
    """What probably keeps depth away and what mends it, from how many images, camera_infos and depth images came in the
    same time; empty where they do not tell. camera_info comes with every image, and is too small to get lost."""
    shown = max(images, infos)
    if shown < FEWEST_ARRIVALS or depths >= COMPLETE_SHARE * shown:
        return ""
    return (
        f"in the last {ARRIVAL_SECONDS:.0f} s came {images} images, {infos} camera_infos and {depths} depth images: unless "
        "the camera sends depth at a lower rate, it gets lost on the way, as the default Fast DDS of the camera's driver has "
        f"too little shared memory: start the driver with {fastdds_variable(distro_name())} naming this package's "
        "config/fastdds.xml"
    )


def intrinsics_of(info, width: int, height: int, rectified: bool = False) -> Intrinsics:
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


def is_distorted(info) -> bool:
    """Whether a CameraInfo tells of a lens distortion, which K alone does not undo."""
    return any(math.isfinite(value) and abs(value) > 0 for value in info.d)


def camera_info_beside(image_topic: str) -> str:
    """The topic of the intrinsics that belongs to an image topic by convention: its last part becomes camera_info."""
    return image_topic.rpartition("/")[0] + "/camera_info" if "/" in image_topic else "camera_info"
