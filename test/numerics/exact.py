"""How far the goldens lie from the exact values: `python -m test.numerics.exact` prints the table of bounds.py."""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from test.matching import goldens as blip
from test.numerics.bounds import REFERENCE_ERROR, UNIT, Compared, scale
from test.numerics.weights import GoldenWeights
from test.segmentation import goldens as sam


def largest(compared: Iterable[Compared]) -> dict[str, float]:
    """Of each kind with an error of its own, the largest difference, in UNITs of what it is relative to."""
    found: dict[str, float] = {}
    for one in compared:
        if one.kind in REFERENCE_ERROR:
            error = float(np.abs(np.asarray(one.ours, np.float64) - one.golden).max())
            found[one.kind] = max(found.get(one.kind, 0.0), error / scale(one.kind, one.golden) / UNIT)
    return found


def reference_errors(name: str, goldens: Path, weights: GoldenWeights, work_dir: Path) -> dict[str, float]:
    """Those of one golden (a name of either SETS), computed in float64."""
    if name in blip.SETS:
        golden = blip.load_golden(goldens / "blip_itm", name, weights, work_dir)
        return largest(blip.everything_beside(golden.in_double()))
    return largest(sam.everything_beside(sam.load_golden(goldens / "efficient_sam", name, weights).in_double()))


def main() -> None:
    goldens = Path(os.environ.get("ESAM_GOLDENS", Path(__file__).resolve().parents[3] / "shared" / "goldens"))
    if not goldens.is_dir():
        sys.exit(f"the goldens are not at hand ({goldens}); set ESAM_GOLDENS to their folder")
    with tempfile.TemporaryDirectory() as files:
        weights = GoldenWeights(goldens, Path(files))
        for name in (*blip.SETS, *sam.SETS):
            errors = reference_errors(name, goldens, weights, Path(files))
            print(name, {kind: round(error, 2) for kind, error in errors.items()}, flush=True)


if __name__ == "__main__":
    main()
