"""More queries than the time allows: a part of them in every frame, in rotation."""

from __future__ import annotations

from collections.abc import Sequence

from esam_perception.types import Query, Timing

SMOOTHING = 0.3  # weight of the newest frame in the running means


class QueryRotation:
    """Chooses the queries of each frame so that it stays within `budget` seconds, as far as it can: what an image costs is
    paid in any case, what a query costs is measured. A budget of 0 is none: all queries, always."""

    def __init__(self) -> None:
        self._image_ms = self._query_ms = 0.0
        self._next = 0
        self.text = "none"

    def choose(self, queries: Sequence[Query], budget: float) -> tuple[Query, ...]:
        """The queries of this frame, in their order; the turn goes on where the last frame ended."""
        count = self._affordable(len(queries), budget)
        if count >= len(queries):
            self._next = 0
            return tuple(queries)
        turn = {(self._next + i) % len(queries) for i in range(count)}
        self._next = (self._next + count) % len(queries)
        return tuple(query for i, query in enumerate(queries) if i in turn)

    def note(self, timing: Timing, queries: int, all_queries: int, budget: float) -> None:
        """Learn what the frame cost, and say what that means for the next ones (`text`, for diagnostics)."""
        image = timing.preprocess + timing.blip_image + timing.sam_image
        self._image_ms += (SMOOTHING if self._image_ms else 1.0) * (image - self._image_ms)
        if queries:
            query = max(timing.total - image, 0.0) / queries
            self._query_ms += (SMOOTHING if self._query_ms else 1.0) * (query - self._query_ms)
        count = self._affordable(all_queries, budget)
        self.text = "none" if count >= all_queries else f"{count} of {all_queries} queries a frame, in rotation"
        if budget > 0 and all_queries and self._image_ms + count * self._query_ms > 1000 * budget:
            self.text += (
                f"; a frame with {count} of them takes {self._image_ms + count * self._query_ms:.0f} ms of "
                f"{1000 * budget:.0f} ms: the rate falls"
            )

    def _affordable(self, queries: int, budget: float) -> int:
        if budget <= 0 or not queries or not self._query_ms:
            return queries
        return max(1, min(queries, int((1000 * budget - self._image_ms) / self._query_ms)))
