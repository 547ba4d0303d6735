"""The whole factor between two sizes of one view."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.targets.sizes import whole_factor

SIDES = st.integers(1, 4000)


@given(SIDES, SIDES, st.integers(1, 12))
def test_a_multiple_has_its_factor_and_the_way_back_is_one_over_it(width, height, n):
    small, large = (width, height), (n * width, n * height)
    assert whole_factor(small, large) == n and whole_factor(large, small) == Fraction(1, n)


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_factor_that_is_named_is_one(width, height, other_width, other_height):
    factor = whole_factor((width, height), (other_width, other_height))
    if factor is None:
        along = (other_width % width, other_height % height, width % other_width, height % other_height)
        assert other_width * height != other_height * width or (any(along[:2]) and any(along[2:]))
    else:
        assert (width * factor, height * factor) == (other_width, other_height)
        assert 1 in (factor.numerator, factor.denominator)


@pytest.mark.parametrize(
    "size, other",
    [
        ((640, 480), (640, 240)),  # another factor of each side
        ((640, 480), (1280, 1440)),
        ((640, 480), (600, 480)),
        ((640, 480), (960, 720)),  # one and a half
        ((640, 480), (641, 480)),
        ((0, 480), (0, 480)),
        ((640, 480), (0, 0)),
    ],
)
def test_sizes_without_one(size, other):
    assert whole_factor(size, other) is None and whole_factor(other, size) is None
