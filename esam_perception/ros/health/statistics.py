"""What the node counts and measures, and how it says so on /diagnostics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import asdict
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from esam_perception.contract import Counts
from esam_perception.types import Timing

WINDOW = 200
# A problem is shown for this long after it last happened.
RECENT_SECONDS = 5.0


class Statistics:
    """Counters and recent latencies; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.frames_in = 0
        self.processed = 0
        self.replaced_frames = 0
        self.dropped_stale = 0
        self.refused: Counter[str] = Counter()
        self.targets = 0
        self.no_target: Counter[str] = Counter()
        self._latencies: deque[Timing] = deque(maxlen=WINDOW)
        self._finished: deque[float] = deque(maxlen=WINDOW)
        self.last_error = ""
        self._last_problem = -1e9
        self.last_frame_in = -1e9

    def frame_in(self) -> None:
        """An image arrived."""
        with self._lock:
            self.frames_in += 1
            self.last_frame_in = time.monotonic()

    def listen(self) -> None:
        """The node waits for images from now on."""
        with self._lock:
            self.last_frame_in = time.monotonic()

    def replaced(self) -> None:
        """A newer frame replaced one before its turn."""
        with self._lock:
            self.replaced_frames += 1

    def stale(self) -> None:
        """A frame was too old when its turn came."""
        with self._lock:
            self.dropped_stale += 1

    def done(self, timing: Timing) -> None:
        """A frame was processed and published."""
        with self._lock:
            self.processed += 1
            self._latencies.append(timing)
            self._finished.append(time.monotonic())

    def refuse(self, topic: str, reason: str, detail: str) -> None:
        """An input was refused, or its processing failed."""
        with self._lock:
            self.refused[f"{topic}:{reason}"] += 1
            self.last_error = f"{topic}: {reason}: {detail}"
            self._last_problem = time.monotonic()

    def measured(self, targets: int, reasons: Counter[str]) -> None:
        """Segments got 3D targets, or none, by reason."""
        with self._lock:
            self.targets += targets
            self.no_target += reasons

    def problem(self, detail: str) -> None:
        """Something else went wrong."""
        with self._lock:
            self.last_error = detail
            self._last_problem = time.monotonic()

    @property
    def recently_wrong(self) -> bool:
        """Whether the last error is a fresh one."""
        return time.monotonic() - self._last_problem < RECENT_SECONDS

    def counts(self, topic: str, finished: int = 0) -> Counts:
        """Of the frames of that topic so far. finished: those that are about to be counted."""
        with self._lock:
            refused = sum(count for key, count in self.refused.items() if key.startswith(f"{topic}:"))
            return Counts(self.processed + finished, self.replaced_frames + self.dropped_stale, refused)

    def values(self) -> dict[str, str]:
        """Everything, as text."""
        with self._lock:
            finished = [moment for moment in self._finished if time.monotonic() - moment < 10]
            span = time.monotonic() - finished[0] if len(finished) > 1 else 0.0
            told = {
                "rate_hz": f"{(len(finished) - 1) / span:.2f}" if span > 0 else "0.00",
                "frames_in": str(self.frames_in),
                "frames_processed": str(self.processed),
                "frames_dropped": str(self.replaced_frames + self.dropped_stale),
                "frames_dropped_stale": str(self.dropped_stale),
                "refused": str(sum(self.refused.values())),
            }
            told.update({f"refused/{key}": str(count) for key, count in sorted(self.refused.items())})
            told["targets"] = str(self.targets)
            told.update({f"no_target/{reason}": str(count) for reason, count in sorted(self.no_target.items())})
            latencies = [asdict(timing) for timing in self._latencies]
            last_error = self.last_error
        for stage in Timing.__dataclass_fields__ if latencies else ():
            p50, p95 = np.percentile([timing[stage] for timing in latencies], (50, 95))
            told[f"latency_ms/{stage}"] = f"p50 {p50:.1f}, p95 {p95:.1f}"
        told["last_error"] = last_error
        return told


def resident_megabytes() -> float:
    """Memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def diagnostic_message(stamp, name: str, level: bytes, text: str, values: dict[str, str]) -> DiagnosticArray:
    """One status as a message for /diagnostics."""
    status = DiagnosticStatus(level=level, name=name, message=text, hardware_id="esam_perception")
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
