"""Matches made by hand, of a frame of 8 x 10 pixels."""

import numpy as np

from esam_perception.types import Match, Query, Segment, Verdict


def make_match(label: int, verdict: Verdict, rows: slice, certainty: float) -> Match:
    """A match of "the red mug"; where it is a MATCH, with a segment of that label over whole rows, that sure of them."""
    mask = np.zeros((8, 10), bool)
    mask[rows] = True
    probability = np.where(mask, certainty, 0.1).astype(np.float32)
    segment = Segment(
        label, mask, probability, 0.7, (0, rows.start, 10, rows.stop - rows.start), np.array([[2.5, 3.5]], np.float32)
    )
    maps = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    segments = (segment,) if verdict is Verdict.MATCH else ()
    return Match(
        Query("the red mug", "mug"),
        verdict,
        (-1.0, 2.0),
        0.95,
        0.3,
        float("nan"),
        maps,
        maps[::-1].copy(),
        (1.0, 2.0),
        segments,
    )
