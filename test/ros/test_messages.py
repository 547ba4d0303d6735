import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hypothesis import given
from hypothesis import strategies as st

from esam_perception import msg
from esam_perception.contract import to_nanoseconds
from esam_perception.ros.wire.messages import ROS
from esam_perception.types import Timing, Verdict
from test.matches import make_match


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


def test_every_stage_of_the_timing_is_told():
    values = {name: float(i) for i, name in enumerate(Timing.__dataclass_fields__)}
    told = ROS.timing(Timing(**values))
    assert {name: getattr(told, name) for name in msg.Timing.get_fields_and_field_types()} == values
