import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

from esam_perception import msg
from esam_perception.contract import to_nanoseconds
from esam_perception.pipeline.frame_maps import joint_heatmap, label_image
from esam_perception.ros.wire.messages import ROS
from esam_perception.types import Match, Query, Segment, Timing, Verdict


def make_match(label: int, verdict: Verdict, rows: slice, certainty: float) -> Match:
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


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_survive(nanoseconds):
    assert to_nanoseconds(ROS.header(nanoseconds, "x").stamp) == nanoseconds


def test_a_match_becomes_its_message():
    header = ROS.header(5_000_000_007, "optical")
    told = ROS.match(make_match(3, Verdict.MATCH, slice(2, 5), 0.9), header)
    assert (told.query_id, told.text, told.verdict) == ("mug", "the red mug", msg.Match.MATCH)
    assert list(told.itm_logits) == [-1, 2] and told.itm_score == pytest.approx(0.95) and np.isnan(told.confidence)
    for image in (told.heatmap, told.gradcam):
        assert (image.encoding, image.height, image.width, image.step, image.header) == ("32FC1", 4, 4, 16, header)
    np.testing.assert_allclose(np.frombuffer(told.gradcam.data, np.float32), np.linspace(0, 1, 16), atol=1e-6)
    (segment,) = told.segments
    assert segment.label == 3 and not segment.has_target and np.isnan(segment.region_score)
    assert (segment.box.y_offset, segment.box.height, segment.box.width) == (2, 3, 10)
    assert (segment.prompt_points[0].x, segment.prompt_points[0].y) == (2.5, 3.5)
    mask = np.frombuffer(segment.mask.data, np.uint8).reshape(8, 10)
    assert segment.mask.encoding == "mono8" and segment.mask.step == 10
    np.testing.assert_array_equal(mask[2:5], 255)
    assert mask.sum() == 255 * 30


def test_verdict_constants_are_the_messages():
    assert {v.name: int(v) for v in Verdict} == {
        "UNSURE": msg.Match.UNSURE,
        "MATCH": msg.Match.MATCH,
        "NO_MATCH": msg.Match.NO_MATCH,
    }


def test_the_surer_segment_wins_a_shared_pixel():
    matches = [make_match(1, Verdict.MATCH, slice(0, 5), 0.6), make_match(2, Verdict.MATCH, slice(3, 8), 0.9)]
    labels, confidence = label_image(matches, 8, 10)
    assert (labels[:3] == 1).all() and (labels[3:] == 2).all()
    np.testing.assert_array_equal(np.unique(confidence), [153, 230])
    labels, confidence = label_image([make_match(1, Verdict.NO_MATCH, slice(0, 5), 0.6)], 8, 10)
    assert not labels.any() and not confidence.any()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_the_joint_heatmap_is_in_range_at_any_size(height, width):
    assert not joint_heatmap([], 0.5, height, width).any()
    joint = joint_heatmap([make_match(1, Verdict.NO_MATCH, slice(0, 5), 0.6)], 0.5, height, width)
    assert joint.shape == (height, width) and joint.min() >= 0 and joint.max() <= 1


def test_every_stage_of_the_timing_is_told():
    values = {name: float(i) for i, name in enumerate(Timing.__dataclass_fields__)}
    told = ROS.timing(Timing(**values))
    assert {name: getattr(told, name) for name in msg.Timing.get_fields_and_field_types()} == values
