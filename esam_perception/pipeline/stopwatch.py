"""How long the stages of an answer take."""

from __future__ import annotations

import time

from esam_perception.types import Timing


class Stopwatch:
    """Milliseconds per stage, from its making on. On CUDA, stages are measured as the host sees them. stages: by name, of
    those of Timing."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._began = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to a stage."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now

    def timing(self) -> Timing:
        """The stages, and their total up to the last lap."""
        return Timing(**self.stages, total=1000 * (self._last - self._began))
