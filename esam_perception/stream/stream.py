"""What is remembered from frame to frame of one stream: whose turn it is, verdicts, labels."""

from __future__ import annotations

from dataclasses import replace

from esam_perception.stream.rotation import QueryRotation
from esam_perception.stream.tracking import SegmentTracker, VerdictHysteresis, relabelled
from esam_perception.types import Located, Query, Timing


class Stream:
    """One from activate to deactivate. Not thread-safe: the worker's."""

    def __init__(self) -> None:
        self._rotation, self._hysteresis, self._tracker = QueryRotation(), VerdictHysteresis(), SegmentTracker()

    @property
    def degradation(self) -> str:
        """What the machine is spared, for people; "none" where it is asked everything."""
        return self._rotation.text

    def questions(self, active: tuple[Query, ...], budget: float, margin: float) -> tuple[Query, ...]:
        """The queries of this frame, with the thresholds that hold for them now. active: with those that hold without
        hysteresis; budget: seconds (see QueryRotation); margin: of the hysteresis, 0 for none."""
        asked = self._rotation.choose(active, budget)
        if not margin:
            return asked
        return tuple(
            self._hysteresis.adjusted(query, query.match_threshold, query.reject_threshold, margin) for query in asked
        )

    def answers(self, located: Located, active: tuple[Query, ...], stable_labels: bool) -> Located:
        """The matches with the labels that they have in the stream; verdicts are remembered."""
        self._hysteresis.note(located.matches, active)
        if stable_labels:
            return replace(located, matches=tuple(self._tracker.labelled(located.matches, active)))
        if len(located.matches) < len(active):
            return replace(located, matches=tuple(relabelled(located.matches, active)))
        return located

    def note(self, timing: Timing, asked: int, active: int, budget: float) -> None:
        """Learn what the frame cost."""
        self._rotation.note(timing, asked, active, budget)
