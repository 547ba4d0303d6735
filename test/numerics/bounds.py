"""How far float32 may lie from the goldens on any processor, argued once.

A golden is float32 arithmetic itself. It lies e = |golden - exact| from the exact value of its formulas; exact is the
same network in float64 on the same weights and pixels. e is a property of the committed numbers, the same on every
machine: REFERENCE_ERROR holds it, `python -m test.numerics.exact` prints it anew, and a test (marker `long`) compares.

Another processor adds the same products in another order. Over n terms in k running sums, rounding errors walk at
random and grow as sqrt(n / k): from a scalar loop (k = 1) to AVX-512 with four registers (k = 64) by 8. So, whatever was run,

    |ours - golden| <= |ours - exact| + |exact - golden| <= (8 + 1) e.

What else differs is less: PyTorch's coarsest exp (flash attention, AVX-512) is good to 20 units in the last place of
each weight, of either sign, over hundreds of weights. (As much noise in every softmax left the portraits and the eps
set within 2 e.) That a real fault lies far outside is shown by the mutations
(test_mutations.py beside the goldens' tests), which must fail under these very bounds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

UNIT = 2.0**-24  # the rounding error of one float32 operation, relative
ORDERS = 8  # of a sum: how much more rounding error another order has, see above
# The largest |golden - exact| over all goldens, in UNITs of the largest value of its array; rounded up.
REFERENCE_ERROR = {
    "image_embeds": 13.0,
    "itm_logits": 30.0,
    "itc": 1.2,
    "gradcam": 95.0,
    "word": 140.0,
    "attn_headmean": 90.0,
    "grad_headmean": 61.0,
    "embedding": 39.0,
    "iou": 62.0,
    "low": 58.0,
    "full": 44.0,
    "low_sum": 21.0,
}
# (pixel / 255 - mean) / std: three roundings of values up to 4.2, the largest of 1 / std
NORMALISE = 3 * UNIT * 4.2
# Pillow multiplies by weights of 22 bits: over the 8 pixels under a bicubic kernel that shrinks by up to 2, that is
# 8 * 255 * 2^-23 of a grey level. Within so much of a half, above or below, a value may be rounded to the other side;
# each of the two passes rounds.
OTHER_GREY_LEVEL = 2 * 2 * 8 * 255 * 2.0**-23


def rounding(terms: int, depth: int) -> float:
    """How far two float32 runs of one network may lie apart (in other orders, or one of them exact), relative to the
    largest value, where there is no golden to say so.

    A sum of `terms` products errs by at most sqrt(terms / 2) UNITs of its own size (one running sum, the worst order),
    at random; `depth` of them one after the other add like a random walk; two runs err, sqrt(2); 6 standard deviations
    are not reached by any of a million values.
    """
    return 6 * UNIT * (terms * depth) ** 0.5


# The networks of test/tiny.py: the longest sums are over a patch (3 x 16 x 16 values), about 50 products in a row.
TINY = rounding(3 * 16 * 16, 50)
# A map scaled to 0..1 by its own lowest and highest value: the error of each of the three, of a range of at least a
# third of the highest value (a map is attention times gradient, which is 0 or more).
TINY_MAP = 3 * 3 * TINY


@dataclass(frozen=True)
class Compared:
    """Our own values (array or tensor) of some kind beside the golden's, and where in the golden these are."""

    kind: str
    where: str
    ours: object
    golden: np.ndarray


def scale(kind: str, golden: np.ndarray) -> float:
    """What the errors of a kind are relative to: cosines to 1, all else to the array's largest value."""
    return 1.0 if kind == "itc" else float(np.abs(golden).max())


def allowed(kind: str, golden: np.ndarray) -> float:
    """The largest |ours - golden| that another processor may cause."""
    return (ORDERS + 1) * REFERENCE_ERROR[kind] * UNIT * scale(kind, golden)


def check(compared: Iterable[Compared]) -> int:
    """Raise AssertionError for the first of them that lies outside its bound. Returns how many were compared."""
    count = 0
    for count, one in enumerate(compared, 1):
        ours, golden = np.asarray(one.ours), np.asarray(one.golden)
        if one.kind != "area" and ours.shape != golden.shape:
            raise ValueError(f"{one.kind} of {one.where}: {ours.shape} beside {golden.shape}")
        if one.kind == "levels":
            assert np.abs(ours - golden).max() <= 1, f"{one.where}: more than a grey level off"
            assert (ours != golden).mean() <= OTHER_GREY_LEVEL, f"{one.where}: too many values a grey level off"
        elif one.kind == "pixel_values":
            np.testing.assert_allclose(ours, golden, rtol=0, atol=NORMALISE, err_msg=one.where)
        elif one.kind == "area":
            # pixels of native logits above 0: only those within the bound of 0 may change sides
            near = (np.abs(ours) <= allowed("full", ours)).sum((-2, -1))
            assert (np.abs((ours > 0).sum((-2, -1)) - golden) <= near).all(), f"{one.where}: other areas"
        else:
            np.testing.assert_allclose(
                ours, golden, rtol=0, atol=allowed(one.kind, golden), err_msg=f"{one.kind} of {one.where}"
            )
    assert count, "nothing was compared"
    return count
