import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esam_perception.prompting import PromptingOptions, prompt_points

HEATMAPS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24), elements=st.floats(0, 1, width=32)
)


@given(
    HEATMAPS,
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.integers(1, 6),
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 3),
)
def test_points_are_distinct_patch_centres_inside_the_image(heatmap, height, width, count, sigma, suppression):
    options = PromptingOptions(count, sigma, suppression, 0.3)
    points = prompt_points(heatmap, (height, width), options)
    assert 1 <= len(points) <= count
    assert points.dtype == np.float32 and np.isfinite(points).all()
    assert (points > 0).all() and (points[:, 0] < width).all() and (points[:, 1] < height).all()
    assert len(np.unique(points, axis=0)) == len(points)


def test_the_first_point_is_the_peak_at_the_patch_centre():
    heatmap = np.zeros((24, 24), np.float32)
    heatmap[5, 17] = 1
    points = prompt_points(heatmap, (480, 640), PromptingOptions(sigma=1.0))
    np.testing.assert_allclose(points[0], ((17 + 0.5) * 640 / 24, (5 + 0.5) * 480 / 24))


def test_separate_peaks_in_order_and_weak_ones_left_out():
    heatmap = np.zeros((16, 16), np.float32)
    heatmap[3, 3], heatmap[12, 12], heatmap[3, 12] = 1.0, 0.8, 0.2
    points = prompt_points(heatmap, (160, 160), PromptingOptions(6, 0.0, 1, 0.5))
    np.testing.assert_allclose(points, [(35, 35), (125, 125)])


def test_a_flat_map_points_at_the_centre():
    np.testing.assert_allclose(
        prompt_points(np.full((8, 8), 0.3, np.float32), (100, 60), PromptingOptions()), [(30, 50)]
    )


@pytest.mark.parametrize("wrong", [{"max_points": 0}, {"max_points": 7}, {"sigma": -1.0}, {"min_share": 1.5}])
def test_options_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError):
        PromptingOptions(**wrong)
