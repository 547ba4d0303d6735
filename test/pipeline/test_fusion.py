import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esam_perception.pipeline.fusion import FusionOptions, choose_candidate, fuse, min_max, native_heatmap

UNIT = st.floats(0, 1, width=32)


def maps(side: int):
    return hnp.arrays(np.float32, (side, side), elements=UNIT)


@given(maps(6), maps(24), UNIT)
def test_fused_maps_stay_in_range_and_mix_linearly(gradcam, mask, alpha):
    fused = fuse(gradcam, mask, alpha)
    area = mask.reshape(6, 4, 6, 4).mean((1, 3))
    np.testing.assert_allclose(fused, alpha * gradcam + (1 - alpha) * area, atol=1e-5)
    wide = native_heatmap(gradcam, mask, alpha, 30, 50)
    assert wide.shape == (30, 50) and wide.min() >= 0 and wide.max() <= 1


@given(hnp.arrays(np.float32, (5, 5), elements=st.floats(-1e6, 1e6, width=32)))
def test_min_max_spans_the_unit_or_is_zero(values):
    scaled = min_max(values)
    assert scaled.min() == 0 and scaled.max() in (0, pytest.approx(1))


def test_min_max_works_on_the_tiny_values_of_gradcam():
    values = np.array([[1e-6, 2e-4], [1e-5, 0]], np.float32)
    assert min_max(values).max() == pytest.approx(1)


def test_candidates_by_predicted_iou_and_by_agreement():
    gradcam = np.zeros((4, 4), np.float32)
    gradcam[0, 0] = 1
    masks = np.zeros((3, 16, 16), np.float32)
    masks[0, 8:, 8:], masks[1, :6, :6] = 1, 1
    predicted = np.array([0.9, 0.8, 0.85])
    assert choose_candidate(predicted, masks, gradcam, "predicted_iou") == 0
    assert choose_candidate(predicted, masks, gradcam, "agreement") == 1


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"candidate_choice": "first"}])
def test_options_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError):
        FusionOptions(**wrong)
