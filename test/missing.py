"""Python processes on a machine that lacks packages."""

import os
from pathlib import Path

from test.conftest import ROOT

# what requirements-tabletop.txt brings and apt's steps in README.md do not
SIMULATOR = ("mujoco", "trimesh", "mapbox_earcut", "shapely", "networkx", "scipy", "matplotlib")
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {names!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def environment_without(folder: Path, names) -> dict[str, str]:
    """Environment variables for a Python process in which these top-level packages are not to be found."""
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "hidden" / "sitecustomize.py").write_text(HIDE.format(names=tuple(names)))
    return {**os.environ, "PYTHONPATH": f"{folder / 'hidden'}:{ROOT}"}
