"""One pipeline for several threads: whoever waits longest is served next, and a stop reaches those who wait."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from esam_perception.errors import EsamError, InvalidQuery
from esam_perception.stream.query_sets import RefusedQuery
from esam_perception.types import Located, Query

if TYPE_CHECKING:
    from esam_perception.pipeline import Pipeline


class NotActive(EsamError):
    """Nothing is inferred at the moment; the text says what must happen first."""

    def __init__(self, text: str = "the node is not active: activate it first (ros2 lifecycle set)") -> None:
        super().__init__(text)


class FairLock:
    """A lock that serves whoever waits longest. threading.Lock makes no promise: a thread that takes it again at once, as
    the one that works on a stream of frames does, can keep the others out for good."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._next = self._serving = 0

    def __enter__(self) -> FairLock:
        with self._condition:
            ticket, self._next = self._next, self._next + 1
            self._condition.wait_for(lambda: self._serving == ticket)
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._serving += 1
            self._condition.notify_all()


class PipelineTurns:
    """The only way to a loaded pipeline: its callers take turns, in the order in which they came. Paused until `resume`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline: Pipeline | None = pipeline
        self._lock = FairLock()
        self._paused = True

    def locate(self, image: np.ndarray, queries: Sequence[Query], segment_always: bool, region_scores: bool) -> Located:
        """Pipeline.locate_timed when it is the caller's turn. Raises NotActive where it was paused or closed meanwhile, and
        what Pipeline.locate_timed raises."""
        with self._lock:
            if self._pipeline is None or self._paused:
                raise NotActive
            return self._pipeline.locate_timed(
                image, queries, segment_always=segment_always, region_scores=region_scores
            )

    def check_text(self, text: str) -> None:
        """Raise RefusedQuery for a text that the pipeline finds no words in. Takes no turn."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        try:
            pipeline.check_text(text)
        except InvalidQuery as error:
            raise RefusedQuery("no_words", str(error)) from error

    def resume(self) -> None:
        """Serve callers."""
        self._paused = False

    def refuse(self) -> None:
        """Refuse callers from now on, those who wait too; does not wait for the one whose turn it is."""
        self._paused = True

    def pause(self) -> None:
        """Refuse callers from now on, those who wait too; returns when nobody infers any more."""
        self.refuse()
        with self._lock:
            pass

    def close(self) -> None:
        """Let go of the pipeline, for good, as soon as nobody infers."""
        self.refuse()
        with self._lock:
            self._pipeline = None
