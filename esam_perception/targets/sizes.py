"""Two sizes of one view: by which whole factor a camera's binning, decimation or enlargement made one of the other."""

from __future__ import annotations

from fractions import Fraction


def whole_factor(size: tuple[int, int], other: tuple[int, int]) -> Fraction | None:
    """What both sides of `size` are multiplied with to give `other`: n, or 1 / n, n whole and the same for both sides.

    Both in pixels, in the same order (width and height, or height and width). None where there is no such factor, or a
    side is 0.
    """
    if not all(side > 0 for side in (*size, *other)):
        return None
    factor = Fraction(other[0], size[0])
    if factor != Fraction(other[1], size[1]) or 1 not in (factor.numerator, factor.denominator):
        return None
    return factor
