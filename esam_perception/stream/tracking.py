"""From frame to frame: verdicts that do not flicker, and labels that stay with their things. No ROS, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from esam_perception.images.masks import mask_iou
from esam_perception.pipeline.labels import query_labels, segment_label
from esam_perception.types import Match, Query, Segment, Verdict

SAME_THING_IOU = 0.2  # of its masks in two frames: cameras and things move, but not by their whole size
FORGOTTEN_AFTER = 15  # frames; a thing that was hidden for less comes back under its label
COMPARED_WIDTH = 160  # masks are compared at about this width


class VerdictHysteresis:
    """A query that matched goes on matching down to `margin` below its threshold, and one that was rejected stays so up to
    `margin` above: scores that move around a threshold do not make a gripper open and close."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], Verdict] = {}

    def adjusted(self, query: Query, match_threshold: float, reject_threshold: float, margin: float) -> Query:
        """The query with the thresholds that hold for it now. The given ones are those without hysteresis, in 0..1."""
        last = self._last.get((query.key, query.text))
        if last is Verdict.MATCH:
            # 0 would mean: the default
            match_threshold = max(match_threshold - margin, 1e-6)
            reject_threshold = min(reject_threshold, match_threshold)
        elif last is Verdict.NO_MATCH:
            reject_threshold = min(reject_threshold + margin, match_threshold)
        return replace(query, match_threshold=match_threshold, reject_threshold=max(reject_threshold, 1e-9))

    def note(self, matches: Sequence[Match], active: Sequence[Query]) -> None:
        """Remember the verdicts of a frame; forget queries that are not active any more."""
        keys = {(query.key, query.text) for query in active}
        self._last = {key: verdict for key, verdict in self._last.items() if key in keys}
        self._last.update({(match.query.key, match.query.text): match.verdict for match in matches})


@dataclass
class _Track:
    """A thing that a query found: the rank that its label comes from, how it looked last, for how long it is gone."""

    rank: int
    mask: np.ndarray
    missed: int = 0


class SegmentTracker:
    """Gives a query's segments the labels that their things had in the frames before (see labels.segment_label: a label
    tells the query whatever its rank). Labels are few where queries are many: a thing in view never goes without one for
    the sake of things that are remembered."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str], list[_Track]] = {}
        self._places: tuple[str, ...] = ()

    def labelled(self, matches: Sequence[Match], active: Sequence[Query]) -> list[Match]:
        """The matches with labels that stay; `active`: all queries, of which the frame may have asked a part."""
        places = tuple(query.key for query in active)
        if places != self._places:
            # labels mean other queries now
            self._tracks, self._places = {}, places
        return [
            replace(match, segments=self._of_query(match, places.index(match.query.key), len(places)))
            for match in matches
        ]

    def _of_query(self, match: Match, place: int, queries: int) -> tuple[Segment, ...]:
        tracks = self._tracks.setdefault((match.query.key, match.query.text), [])
        labels = query_labels(place, queries)
        # a frame with more segments than the query has labels: the best ones
        segments = match.segments[: len(labels)]
        small = [_smaller(segment.mask) for segment in segments]
        pairs = sorted(
            ((_overlap(mask, track.mask), i, t) for i, mask in enumerate(small) for t, track in enumerate(tracks)),
            key=lambda pair: -pair[0],
        )
        chosen: dict[int, _Track] = {}
        taken: set[int] = set()
        for iou, i, t in pairs:
            if iou > SAME_THING_IOU and i not in chosen and t not in taken:
                chosen[i] = tracks[t]
                taken.add(t)
        for track in tracks:
            track.missed += 1
        for i, track in chosen.items():
            track.mask, track.missed = small[i], 0
        for i, mask in enumerate(small):
            if i not in chosen:
                chosen[i] = _Track(_free_rank(tracks, len(labels)), mask)
                tracks.append(chosen[i])
        tracks[:] = [track for track in tracks if track.missed <= FORGOTTEN_AFTER]
        return tuple(replace(segment, label=labels[chosen[i].rank]) for i, segment in enumerate(segments))


def _free_rank(tracks: list[_Track], ranks: int) -> int:
    """The lowest rank that no track has; where there is none, that of the track that is missing for longest, which is
    forgotten. At least one of them is missing, or a rank is free."""
    used = {track.rank for track in tracks}
    if len(used) < ranks:
        return next(rank for rank in range(ranks) if rank not in used)
    longest = max(tracks, key=lambda track: track.missed)
    tracks.remove(longest)
    return longest.rank


def relabelled(matches: Sequence[Match], active: Sequence[Query]) -> list[Match]:
    """The matches of a part of the active queries with the labels that they have among all of them."""
    places = {query.key: place for place, query in enumerate(active)}
    return [
        replace(
            match,
            segments=tuple(
                replace(segment, label=label)
                for rank, segment in enumerate(match.segments)
                if (label := segment_label(places[match.query.key], rank, len(active))) is not None
            ),
        )
        for match in matches
    ]


def _smaller(mask: np.ndarray) -> np.ndarray:
    step = max(1, mask.shape[1] // COMPARED_WIDTH)
    # a view would keep the whole mask for as long as its thing is remembered
    return np.ascontiguousarray(mask[::step, ::step])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    # another shape: another camera mode
    return mask_iou(a, b) if a.shape == b.shape else 0.0
