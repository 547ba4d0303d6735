import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esam_perception.pipeline.prompting import KINDS, PromptingOptions, make_prompts
from esam_perception.types import PromptLabel

POINT, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = PromptLabel.POINT, PromptLabel.BOX_TOP_LEFT, PromptLabel.BOX_BOTTOM_RIGHT

HEATMAPS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24), elements=st.floats(0, 1, width=32)
)


@given(
    HEATMAPS, st.integers(1, 2000), st.integers(1, 2000), st.sampled_from(KINDS), st.integers(1, 4),
    st.sampled_from([0.0, 1.0]), st.integers(0, 3), st.integers(1, 4),
)  # fmt: skip
def test_prompts_are_distinct_patch_centres_in_boxes_inside_the_image(
    heatmap, height, width, kind, count, sigma, suppression, regions
):
    options = PromptingOptions(kind, count, sigma, suppression, 0.3, regions)
    prompts = make_prompts(heatmap, (height, width), options)
    assert 1 <= len(prompts) <= regions
    all_points = []
    for prompt in prompts:
        assert prompt.points.dtype == np.float32 and prompt.points.shape == (len(prompt.labels), 2)
        assert 1 <= len(prompt.labels) <= 6 and np.isfinite(prompt.points).all()
        points = prompt.points[prompt.labels == POINT]
        assert (points > 0).all() and (points[:, 0] < width).all() and (points[:, 1] < height).all()
        all_points.append(points)
        corners = prompt.points[prompt.labels != POINT]
        if len(corners):
            assert prompt.labels[:2].tolist() == [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
            low, high = corners
            assert (low >= 0).all() and (low < high).all() and (high <= np.array([width, height]) * (1 + 1e-5)).all()
            assert (points >= low).all() and (points <= high).all()
    all_points = np.concatenate(all_points)
    assert len(np.unique(all_points, axis=0)) == len(all_points)


def test_the_first_point_is_the_peak_at_the_patch_centre():
    heatmap = np.zeros((24, 24), np.float32)
    heatmap[5, 17] = 1
    (prompt,) = make_prompts(heatmap, (480, 640), PromptingOptions(sigma=1.0))
    np.testing.assert_allclose(prompt.points[0], ((17 + 0.5) * 640 / 24, (5 + 0.5) * 480 / 24))


@pytest.fixture
def two_things():
    """A thing of 3x2 patches, a fainter one apart from it, and a hint of a third."""
    heatmap = np.zeros((16, 16), np.float32)
    heatmap[3:6, 2:4] = 0.9
    heatmap[4, 3] = 1.0
    heatmap[11:13, 12] = 0.8
    heatmap[3, 12] = 0.2
    return heatmap


def test_every_separate_region_gets_its_own_prompt_the_peak_first(two_things):
    options = PromptingOptions("box_and_points", 2, 0.0, 0, 0.5, max_regions=6)
    first, second = make_prompts(two_things, (160, 320), options)
    # patches are 20 px wide and 10 px high
    np.testing.assert_allclose(first.points[:3], [(40, 30), (80, 60), (70, 45)])
    np.testing.assert_allclose(second.points[:2], [(240, 110), (260, 130)])
    assert first.labels.tolist() == [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, POINT, POINT]


def test_one_prompt_never_spans_two_regions(two_things):
    (prompt,) = make_prompts(two_things, (160, 160), PromptingOptions("points", 6, 0.0, 0, 0.5))
    assert len(prompt.points) == 6 and (prompt.points[:, 0] < 50).all()


def test_a_box_alone_is_two_corners(two_things):
    (prompt,) = make_prompts(two_things, (160, 160), PromptingOptions("box", sigma=0.0))
    assert prompt.labels.tolist() == [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]


def test_a_flat_map_points_at_the_centre():
    (prompt,) = make_prompts(np.full((8, 8), 0.3, np.float32), (100, 60), PromptingOptions("box"))
    np.testing.assert_allclose(prompt.points, [(30, 50)])
    assert prompt.labels.tolist() == [POINT]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_points": 0},
        {"max_points": 7},
        {"max_points": 5, "kind": "box_and_points"},
        {"kind": "scribble"},
        {"sigma": -1.0},
        {"min_share": 1.5},
        {"min_share": 0.0},
        {"max_regions": 0},
    ],
)
def test_options_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError):
        PromptingOptions(**wrong)


def hills(*hills_: tuple[int, int, float]) -> np.ndarray:
    """A 24 x 24 map of round hills (row, column, height)."""
    rows, columns = np.mgrid[:24, :24]
    return np.max([h * np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 8) for r, c, h in hills_], 0).astype(np.float32)


def test_further_regions_stand_by_themselves():
    options = PromptingOptions(max_points=1, sigma=0.0, max_regions=4, further_share=0.3)
    apart = hills((5, 5, 1.0), (5, 18, 0.4), (18, 5, 0.2))
    first, second = make_prompts(apart, (240, 240), options)  # the third hill is too low
    assert first.points.tolist() == [[55, 55]] and second.points.tolist() == [[185, 55]]
    assert second.salience == pytest.approx(0.4, abs=0.01)
    assert len(make_prompts(apart, (240, 240), dataclasses.replace(options, further_share=0.5))) == 1
    # the same hill on the slope of the highest one is its shoulder
    assert len(make_prompts(hills((5, 5, 1.0), (5, 8, 0.6)), (240, 240), options)) == 1
