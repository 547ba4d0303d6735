"""Frames between threads: the input slot, which holds the latest alone; the buffer of the last ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from esam_perception.errors import EsamError


class FrameNotKept(EsamError):
    """A frame that is asked for and not there; the text says what is."""


class LatestFrameSlot:
    """One writer, one reader, any threads. What is put in is whatever the reader wants to have."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: Any = None
        self._closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were taken."""
        return self._dropped

    def put(self, frame: Any) -> bool:
        """Put the newest frame in; never waits. Returns whether it replaced one that nobody took."""
        with self._condition:
            replaced = self._frame is not None
            self._dropped += replaced
            self._frame = frame
            self._condition.notify()
        return replaced

    def take(self, timeout: float | None = None) -> Any:
        """The newest frame, waiting for one; None after `timeout` seconds or when the slot was closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._frame is not None or self._closed, timeout)
            if self._closed:
                return None
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Wake the reader for good and forget the frame."""
        with self._condition:
            self._closed, self._frame = True, None
            self._condition.notify_all()


class FrameBuffer:
    """The last frames by their stamp, to be asked about later. Any threads; at most `size` frames are held."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, Any] = OrderedDict()

    def put(self, stamp: int, frame: Any) -> None:
        """Keep a frame under its stamp in nanoseconds; one that came with the same stamp is replaced."""
        with self._lock:
            self._frames.pop(stamp, None)
            self._frames[stamp] = frame
            while len(self._frames) > self._size:
                self._frames.popitem(last=False)

    def newest(self) -> Any:
        """The frame that came last, None where none did."""
        with self._lock:
            return next(reversed(self._frames.values()), None)

    def at(self, stamp: int) -> Any:
        """The frame of exactly that stamp. Raises FrameNotKept."""
        with self._lock:
            if stamp in self._frames:
                return self._frames[stamp]
            stamps = sorted(self._frames)
        kept = f"{len(stamps)} frames from {_seconds(stamps[0])} to {_seconds(stamps[-1])}" if stamps else "no frame"
        raise FrameNotKept(
            f"the frame of stamp {_seconds(stamp)} is not kept; kept are {kept} (parameter frame_buffer)"
        )

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._frames.clear()


def _seconds(stamp: int) -> str:
    return f"{stamp // 1_000_000_000}.{stamp % 1_000_000_000:09d}"
