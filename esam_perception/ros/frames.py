"""The input slot: holds one frame, the latest. What it replaces was too late, and is counted."""

from __future__ import annotations

import threading
from typing import Any


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

    def put(self, frame: Any) -> None:
        """Put the newest frame in; never waits."""
        with self._condition:
            if self._frame is not None:
                self._dropped += 1
            self._frame = frame
            self._condition.notify()

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
