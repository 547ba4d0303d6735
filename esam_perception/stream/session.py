"""What a frame is answered with: one immutable object, taken once and lived with; a change makes another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from esam_perception.pipeline.verdict import VerdictOptions
from esam_perception.stream.thresholds import resolve_all
from esam_perception.stream.turns import PipelineTurns
from esam_perception.types import Provenance, Query


@dataclass(frozen=True)
class Options:
    """How frames are worked on. Each is the node's parameter of that name; thresholds are the callers' defaults, 0 for the
    profile's."""

    match_threshold: float = 0.0
    reject_threshold: float = 0.0
    segment_always: bool = False
    region_scores: bool = False
    hysteresis: float = 0.0
    stable_labels: bool = False
    frame_budget: float = 0.0
    max_age: float = 0.0
    sync_tolerance: float = 0.02
    min_target_pixels: int = 50
    tf_wait: float = 0.3
    jpeg_quality: int = 85


@dataclass(frozen=True)
class Model:
    """A loaded profile as far as the stream is concerned. alpha: of the fusion (see pipeline.fusion)."""

    turns: PipelineTurns
    provenance: Provenance
    verdict: VerdictOptions
    alpha: float


@dataclass(frozen=True, eq=False)
class Session:
    """A model, options and queries. queries: as they were asked; asked: the same with the thresholds that hold, 0 <= reject
    <= match <= 1."""

    model: Model
    options: Options
    queries: tuple[Query, ...] = ()
    asked: tuple[Query, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Raises RefusedQuery for thresholds out of order."""
        object.__setattr__(self, "asked", self.resolve(self.queries))

    def resolve(self, queries: Sequence[Query]) -> tuple[Query, ...]:
        """The queries with the thresholds that hold in this session. Raises RefusedQuery."""
        options = self.options
        return resolve_all(queries, options.match_threshold, options.reject_threshold, self.model.verdict)

    def check(self, queries: Sequence[Query]) -> None:
        """Raise RefusedQuery for the first query that this session could not answer."""
        self.resolve(queries)
        for query in queries:
            self.model.turns.check_text(query.text)

    def with_queries(self, queries: tuple[Query, ...]) -> Session:
        """The same about other queries. Raises RefusedQuery."""
        return Session(self.model, self.options, queries)
