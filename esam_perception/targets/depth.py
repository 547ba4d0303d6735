"""Depth messages by stamp, for images that are asked about later. No ROS in here: a message is anything with `data`."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from esam_perception.errors import EsamError

# An image comes after its depth by what its driver, its rectification, its compression and DDS take: some frames of the
# camera. A second is a frame of the slowest cameras, and thirty of most.
LATE_SECONDS = 1.0
# The last resort where depth comes faster than any camera sends it (a recording that is played at many times its speed): a
# second of 1280 x 720 pixels of float32 at 60 Hz, the most that depth cameras send, is 221 MB.
MOST_BYTES = 256 * 1024 * 1024


class NoDepth(EsamError):
    """There is no depth or there are no intrinsics for an image. reason: one of REASONS, for counters."""

    REASONS = (
        "no_depth_within_tolerance", "depth_of_another_frame", "bad_depth", "no_camera_info", "bad_camera_info",
        "camera_info_of_another_size",
    )  # fmt: skip

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class DepthMessage(Protocol):
    """A sensor_msgs/Image, as far as it is read here. data: its bytes."""

    @property
    def data(self) -> Sized: ...


Message = TypeVar("Message", bound=DepthMessage)


@dataclass(frozen=True)
class _Kept(Generic[Message]):
    message: Message
    arrived: float


class DepthBuffer(Generic[Message]):
    """Depth messages by stamp; any threads. Kept are

    - for each of the last `frames` images (`image`) the message nearest to its stamp, whatever the rates of both are;
    - the one nearest to any stamp that somebody is at work on (`want`), however long that takes;
    - what came in the last LATE_SECONDS, MOST_BYTES of it at most: its image may be still to come.

    A second of most depth cameras (640 x 480, 16 bit, 30 Hz) is 18 MB. clock: seconds, never set back; the stamps' own
    clock may jump as it likes.
    """

    def __init__(self, frames: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._frames, self._clock, self._lock = frames, clock, threading.Lock()
        self._messages: dict[int, _Kept[Message]] = {}  # by stamp, in the order they came
        self._stamps: list[int] = []  # the same, ascending
        self._images: dict[int, None] = {}  # stamps, in the order they came
        self._wanted: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, stamp: int, message: Message) -> None:
        """Keep a message. stamp: nanoseconds; a later message of the same stamp replaces the earlier one."""
        with self._lock:
            self._drop(stamp)
            self._messages[stamp] = _Kept(message, self._clock())
            insort(self._stamps, stamp)
            self._forget()

    def image(self, stamp: int) -> None:
        """An image of this stamp (nanoseconds) came: its depth stays until `frames` others came."""
        with self._lock:
            self._images.pop(stamp, None)
            self._images[stamp] = None
            while len(self._images) > self._frames:
                del self._images[next(iter(self._images))]

    def want(self, who: str, stamp: int) -> None:
        """Keep the message nearest to this stamp (nanoseconds), until the same one wants another."""
        with self._lock:
            self._wanted[who] = stamp

    def nearest(self, stamp: int, tolerance: int) -> Message | None:
        """The message nearest to a stamp, at most `tolerance` nanoseconds away; None where there is none."""
        with self._lock:
            found = self._nearest(stamp)
            return self._messages[found].message if found is not None and abs(found - stamp) <= tolerance else None

    def distance(self, stamp: int) -> int | None:
        """Nanoseconds from a stamp to the nearest message; None where there is none at all."""
        with self._lock:
            found = self._nearest(stamp)
            return None if found is None else abs(found - stamp)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._messages.clear()
            self._stamps.clear()
            self._images.clear()
            self._wanted.clear()

    def _nearest(self, stamp: int) -> int | None:
        place = bisect_left(self._stamps, stamp)
        return min(self._stamps[max(0, place - 1) : place + 1], key=lambda kept: abs(kept - stamp), default=None)

    def _drop(self, stamp: int) -> None:
        if self._messages.pop(stamp, None) is not None:
            del self._stamps[bisect_left(self._stamps, stamp)]

    def _forget(self) -> None:
        """Called when a message came, which itself always stays."""
        held = {self._nearest(stamp) for stamp in (*self._images, *self._wanted.values())}
        # the order of arrival, not of stamps: a clock that jumps back must not freeze the buffer
        free = [stamp for stamp in self._messages if stamp not in held]
        size = sum(len(self._messages[stamp].message.data) for stamp in free)
        now, newest = self._clock(), next(reversed(self._messages))
        for stamp in free:
            kept = self._messages[stamp]
            if stamp == newest or (now - kept.arrived <= LATE_SECONDS and size <= MOST_BYTES):
                break
            size -= len(kept.message.data)
            self._drop(stamp)
