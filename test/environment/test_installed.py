"""What comes with the package and is no Python is found from the sources and from what they are installed in."""

import shutil
import subprocess
import sys

import pytest

from esam_perception.environment import installed
from test.conftest import ROOT


@pytest.mark.parametrize("name", ["config/fastdds.xml", "msg", "msg/MatchArray.msg", "launch/esam.launch.py"])
def test_beside_the_sources(name):
    assert installed.installed(name) == ROOT / name


@pytest.mark.parametrize("folder", ["lib/python3.12/site-packages", "local/lib/python3.10/dist-packages"])
def test_in_the_prefix_it_is_installed_in_and_nowhere_else(folder, tmp_path):
    """The layouts of pip, colcon and apt, and of Humble's Ubuntu."""
    share = tmp_path / "share" / "esam_perception" / "config"
    share.mkdir(parents=True)
    (share / "fastdds.xml").touch()
    module = tmp_path / folder / "esam_perception" / "environment" / "installed.py"
    module.parent.mkdir(parents=True)
    shutil.copy(installed.__file__, module)
    code = "import runpy, sys; found = runpy.run_path(sys.argv[1])['installed']; print(found('config/fastdds.xml'), found('x'))"
    told = subprocess.check_output([sys.executable, "-c", code, str(module)], text=True)
    assert told.split() == [str(share / "fastdds.xml"), "None"]
