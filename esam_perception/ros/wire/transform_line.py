"""Frames that wait for their transform: in order, each for a bounded time, in a thread of its own. No ROS in here but the
errors of transforms.

TF tells where a frame was only some time after the image's stamp, when the next transform has come: 250 ms at 4 Hz. An image
is not worked on for that long on a fast GPU, and nothing of its own path may wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from esam_perception.ros.wire.transforms import NoTransform

# A second of a fast camera; beyond, the bound of the time has failed.
WAITING_FRAMES = 32


class TransformLine:
    """First in, first out. Who is first is looked up when there are news of TF, until it is known or its time is over; those
    behind it have more time left.

    look: item -> answer; raises NoTransform. done(item, answer): what goes out, the answer or the NoTransform; must not
    raise. Both run in the line's thread. size: how many may wait; the oldest is given up for a newer one.
    """

    def __init__(
        self, look: Callable[[Any], Any], done: Callable[[Any, Any], None], size: int = WAITING_FRAMES
    ) -> None:
        self._look, self._done, self._size = look, done, size
        self._condition = threading.Condition()
        self._waiting: deque[tuple[Any, float]] = deque()
        self._news = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, with nobody in the line."""
        self._waiting.clear()
        self._thread = threading.Thread(target=self._work, name="targets", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and forget who waits. Safe to call twice."""
        with self._condition:
            thread, self._thread = self._thread, None
            self._waiting.clear()
            self._condition.notify_all()
        if thread is not None:
            thread.join()

    def put(self, item: Any, wait: float) -> None:
        """Add an item, which waits for at most `wait` seconds; never waits itself."""
        with self._condition:
            self._waiting.append((item, time.monotonic() + wait))
            self._condition.notify_all()

    def news(self) -> None:
        """Something new is known: look again."""
        with self._condition:
            self._news += 1
            self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._over)
                if self._over:
                    return
                (item, until), news = self._waiting[0], self._news
            answer = self._answer(item)
            if isinstance(answer, NoTransform) and answer.may_come and self._wait_for_news(news, until):
                continue
            with self._condition:
                if self._over:
                    return
                self._waiting.popleft()
                if isinstance(answer, NoTransform) and len(self._waiting) >= self._size:
                    answer = NoTransform(f"{answer} (given up early: {len(self._waiting)} newer frames wait)")
            self._done(item, answer)

    def _answer(self, item: Any) -> Any:
        try:
            return self._look(item)
        except NoTransform as error:
            return error
        except Exception as error:
            return NoTransform(f"{type(error).__name__}: {error}")

    def _wait_for_news(self, seen: int, until: float) -> bool:
        """Whether to look again: there are news, and neither is the time over nor the line too long."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._news != seen or len(self._waiting) > self._size or self._over,
                timeout=max(0.0, until - time.monotonic()),
            )
            in_time = self._news != seen and time.monotonic() < until
            return self._over or (in_time and len(self._waiting) <= self._size)

    @property
    def _over(self) -> bool:
        """Whether the thread that asks is to end."""
        return self._thread is not threading.current_thread()
