"""The table that the bounds rest on, computed anew."""

import pytest

from test.matching.goldens import SETS as BLIP
from test.numerics.bounds import REFERENCE_ERROR
from test.numerics.exact import reference_errors
from test.segmentation.goldens import SETS as SAM


@pytest.mark.long
def test_the_goldens_lie_as_far_from_the_exact_values_as_the_table_says(goldens, golden_weights, tmp_path):
    largest = dict.fromkeys(REFERENCE_ERROR, 0.0)
    for name in (*BLIP, *SAM):
        for kind, error in reference_errors(name, goldens, golden_weights, tmp_path).items():
            largest[kind] = max(largest[kind], error)
    # float64 says the same everywhere; the table is rounded up, by less than a tenth
    for kind, error in largest.items():
        assert 0.9 * REFERENCE_ERROR[kind] <= error <= REFERENCE_ERROR[kind], (kind, error)
