"""All matches of a frame as one image."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from esam_perception.pipeline.frame_maps import joint_heatmap, label_image
from esam_perception.types import Verdict
from test.matches import make_match


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
