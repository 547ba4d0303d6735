"""How many images, intrinsics and depth images came lately, and what it means where depth is fewer."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

ARRIVAL_SECONDS = 10.0
# Fewer messages than this in that time tell nothing of a rate.
FEWEST_ARRIVALS = 5
# Depth for less than this share of the images is missing, not late: a camera's own jitter costs it single ones.
COMPLETE_SHARE = 0.8


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


def advice_on_lost_depth(images: int, infos: int, depths: int, remedy: str) -> str:
    """What probably keeps depth away, and `remedy`: what mends it; from how many images, camera_infos and depth images came
    in the same time. Empty where they do not tell. camera_info comes with every image, and is too small to get lost."""
    shown = max(images, infos)
    if shown < FEWEST_ARRIVALS or depths >= COMPLETE_SHARE * shown:
        return ""
    return (
        f"in the last {ARRIVAL_SECONDS:.0f} s came {images} images, {infos} camera_infos and {depths} depth images: unless "
        f"the camera sends depth at a lower rate, it gets lost on the way: {remedy}"
    )
