"""Where things lie that tests need."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# reference outputs of the official code; not part of this repository
GOLDENS = Path(os.environ.get("ESAM_GOLDENS", ROOT.parent / "shared" / "goldens"))
