"""The real node over a pipeline of no cost: answers are ready made. ESAM_BENCH_SEGMENTS: how many segments each has."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.registry import load_profile
from esam_perception.ros import node
from esam_perception.types import Located, Match, Provenance, Query, Segment, Timing, Verdict

GRID = 24


class StubPipeline:
    """What the node asks of a Pipeline. The matches of an image size are made once."""

    def __init__(self, segments: int) -> None:
        self.profile = dataclasses.replace(load_profile("tabletop"), name="stub")
        self.device, self.precision = "cpu", "none"
        self.provenance = Provenance(self.profile.name, "", self.device, self.precision)
        self._segments = segments
        self._ready: dict[tuple, tuple[Match, ...]] = {}

    def warm_up(self) -> None:
        """Nothing is cold."""

    def check_text(self, text: str) -> None:
        """Every text will do."""

    thresholds = Pipeline.thresholds

    def locate_timed(self, image: np.ndarray, queries: Sequence[Query | str], **options: object) -> Located:
        """The same answer to the same queries about images of the same size."""
        key = (image.shape, tuple(queries))
        if key not in self._ready:
            asked = [Query(query) if isinstance(query, str) else query for query in queries]
            self._ready = {key: tuple(self._match(query, i, image.shape[:2]) for i, query in enumerate(asked))}
        return Located(self._ready[key], Timing())

    def _match(self, query: Query, index: int, size: tuple[int, int]) -> Match:
        heat = np.linspace(0, 1, GRID * GRID, dtype=np.float32).reshape(GRID, GRID)
        segments = []
        for rank in range(self._segments):
            mask = np.zeros(size, bool)
            box = (size[1] // 4, size[0] // 4, size[1] // 4, size[0] // 4)
            mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
            points = np.array([[size[1] / 3, size[0] / 3]], np.float32)
            segments.append(Segment(1 + index, mask, mask.astype(np.float32), 0.9, box, points))
        verdict = Verdict.MATCH if segments else Verdict.NO_MATCH
        return Match(query, verdict, (0.0, 0.0), 0.5, 0.0, float("nan"), heat, heat, (1.0, 1.0), tuple(segments))


def main() -> int:
    stub = StubPipeline(int(os.environ["ESAM_BENCH_SEGMENTS"]))
    Pipeline.from_profile = classmethod(lambda cls, *args, **options: stub)
    return node.main()
