import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.images.masks import bounding_box
from esam_perception.pipeline.labels import label_table
from esam_perception.pipeline.regions import masked_crop
from esam_perception.pipeline.verdict import decide
from esam_perception.stream.tracking import FORGOTTEN_AFTER, SegmentTracker, VerdictHysteresis, relabelled
from esam_perception.types import Match, Query, Segment, Verdict

MUG, BALL = Query("the red mug"), Query("a ball")


def segment(x, label=1, width=64):
    mask = np.zeros((48, width), bool)
    mask[10:30, x : x + 12] = True
    return Segment(label, mask, mask.astype(np.float32), 0.9, bounding_box(mask), np.zeros((0, 2), np.float32))


def match(query, *segments, verdict=Verdict.MATCH, score=0.9):
    empty = np.zeros((4, 4), np.float32)
    return Match(query, verdict, (0.0, 1.0), score, 0.0, float("nan"), empty, empty, (0.0, 0.0), segments)


def labels(matches):
    return [[s.label for s in m.segments] for m in matches]


def test_a_thing_keeps_its_label_when_another_one_becomes_the_best():
    tracker = SegmentTracker()
    assert labels(tracker.labelled([match(MUG, segment(5), segment(40))], [MUG])) == [[1, 2]]
    # both moved a little, and the second is the stronger one now
    assert labels(tracker.labelled([match(MUG, segment(42), segment(7))], [MUG])) == [[2, 1]]
    # the first is hidden for a while: its label is not given away, and it comes back under it
    assert labels(tracker.labelled([match(MUG, segment(43))], [MUG])) == [[2]]
    assert labels(tracker.labelled([match(MUG, segment(43), segment(22))], [MUG])) == [[2, 3]]
    assert labels(tracker.labelled([match(MUG, segment(8))], [MUG])) == [[1]]


def test_labels_tell_the_query_and_are_free_again_when_a_thing_is_gone_for_long():
    tracker = SegmentTracker()
    active = [MUG, BALL]
    assert labels(tracker.labelled([match(MUG, segment(5)), match(BALL, segment(30), segment(48))], active)) == [
        [1],
        [2, 4],
    ]
    for _ in range(FORGOTTEN_AFTER + 1):
        tracker.labelled([match(MUG), match(BALL)], active)
    assert labels(tracker.labelled([match(MUG, segment(30)), match(BALL, segment(5))], active)) == [[1], [2]]
    # other queries: labels mean other things
    assert labels(tracker.labelled([match(BALL, segment(5))], [BALL])) == [[1]]


@given(
    st.lists(st.lists(st.integers(0, 50), max_size=6, unique=True), min_size=1, max_size=24),
    st.sampled_from([1, 2, 20, 63, 64, 130, 300]),
)
def test_every_segment_has_a_label_of_its_query_in_every_frame_as_far_as_there_are_any(frames, queries):
    active = [Query(f"thing {i}") for i in range(queries)]
    table = dict(label_table(active))
    tracker = SegmentTracker()
    for places in frames:
        found = tracker.labelled([match(query, *map(segment, places)) for query in active[-2:]], active)
        given_labels = [label for row in labels(found) for label in row]
        assert len(set(given_labels)) == len(given_labels)
        for query, row, kept in zip(active[-2:], labels(found), found):
            assert all(table[label] == query.key for label in row)
            published = min(len(places), list(table.values()).count(query.key))
            assert [s.box[0] for s in kept.segments] == places[:published]  # the best ones, in their order


@pytest.mark.parametrize("queries", [1, 20, 64])
def test_a_fast_thing_never_loses_its_segment_to_things_that_are_remembered(queries):
    active = [Query(f"thing {i}") for i in range(queries)]
    tracker = SegmentTracker()
    # never where it was before
    found = [labels(tracker.labelled([match(active[-1], segment(15 * i, width=640))], active)) for i in range(40)]
    assert [frame for frame, rows in enumerate(found) if rows == [[]]] == []


def test_what_is_missing_for_longest_is_forgotten_first():
    active = [Query(f"thing {i}") for i in range(64)]
    tracker = SegmentTracker()
    # the first query has four labels: 1, 65, 129, 193
    seen = [labels(tracker.labelled([match(active[0], segment(x))], active)) for x in (0, 13, 26, 39)]
    assert seen == [[[1]], [[65]], [[129]], [[193]]]
    # a fifth thing takes the label of the first; the others come back under theirs
    assert labels(tracker.labelled([match(active[0], segment(52))], active)) == [[1]]
    assert labels(tracker.labelled([match(active[0], segment(39), segment(13), segment(26))], active)) == [
        [193, 65, 129]
    ]


def test_a_part_of_the_queries_has_the_labels_of_the_whole():
    asked = [match(BALL, segment(5, 1), segment(40, 2))]
    assert labels(relabelled(asked, [MUG, BALL])) == [[2, 4]]


def test_verdicts_stay_until_the_score_leaves_the_margin():
    hysteresis = VerdictHysteresis()
    verdicts = []
    for score in (0.55, 0.62, 0.55, 0.51, 0.49, 0.55, 0.28, 0.35, 0.45):
        query = hysteresis.adjusted(MUG, 0.6, 0.3, 0.1)
        verdict = decide(score, query.match_threshold, query.reject_threshold)
        hysteresis.note([match(MUG, verdict=verdict, score=score)], [MUG])
        verdicts.append(verdict)
    unsure, yes, no = Verdict.UNSURE, Verdict.MATCH, Verdict.NO_MATCH
    assert verdicts == [unsure, yes, yes, yes, unsure, unsure, no, no, unsure]
    hysteresis.note([match(MUG, verdict=yes)], [MUG])
    hysteresis.note([], [BALL])  # not active any more: forgotten
    assert hysteresis.adjusted(MUG, 0.6, 0.3, 0.1).match_threshold == 0.6


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.sampled_from(list(Verdict)))
def test_adjusted_thresholds_stay_in_order(a, b, margin, last):
    reject, threshold = sorted((a, b))
    hysteresis = VerdictHysteresis()
    hysteresis.note([match(MUG, verdict=last)], [MUG])
    query = hysteresis.adjusted(MUG, max(threshold, 1e-6), reject, margin)
    assert 0 < query.reject_threshold <= max(query.match_threshold, 1e-9) <= 1


@pytest.mark.parametrize("x", [0, 20, 52])
def test_a_masked_crop_shows_the_thing_and_nothing_else(x):
    image = np.full((48, 64, 3), 200, np.uint8)
    one = segment(x)
    crop = masked_crop(image, one, 0.0)
    assert crop.shape == (24, 24, 3) and (crop == 200).all(-1).sum() == one.mask.sum()
    assert (crop[0, 0] == (123, 117, 104)).all()
    assert masked_crop(image, one, 1.0).shape == (64, 64, 3)
    wide = dataclasses.replace(one, mask=np.ones((48, 64), bool), box=(0, 0, 64, 48))
    assert (masked_crop(image, wide, 0.0) == 200).all(-1).sum() == 48 * 64
