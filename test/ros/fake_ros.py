"""A ROS to source, made of PyPI's wheels: what apt's /opt/ros/jazzy is to `ESAM_ROS=system`, where there is no apt's ROS.

python3 -m test.ros.fake_ros /opt/ros/jazzy          # once; that Python needs venv, and NumPy for ROS' messages
source /opt/ros/jazzy/setup.bash
ESAM_ROS=system ./esam demo
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements-ros-jazzy.txt"
BOOTSTRAPPER = "ros-wheels-bootstrapper"  # what an installed ROS must do without: it starts each Python anew
SETUP = """export ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3
export AMENT_PREFIX_PATH={prefix}${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}
export PYTHONPATH={packages}${{PYTHONPATH:+:$PYTHONPATH}}
export LD_LIBRARY_PATH={prefix}/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
export PATH={prefix}/bin:$PATH
"""


def install(prefix: Path) -> Path:
    """ROS' wheels alone into the prefix, for the Python that runs this; the folder of their Python packages."""
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    wheels = [line for line in lines if line.startswith("ros-") and not line.startswith(BOOTSTRAPPER)]
    with tempfile.TemporaryDirectory() as folder:
        # Debian's own pip would take local/lib/python3.x/dist-packages of the prefix
        venv.create(folder, with_pip=True)
        options = ["--no-deps", "--only-binary=:all:", "--no-warn-script-location", "--prefix", str(prefix)]
        subprocess.run([f"{folder}/bin/python", "-m", "pip", "install", *options, *wheels], check=True)
    (packages,) = prefix.glob("lib/python3.*/site-packages")
    return packages


def gather_libraries(prefix: Path, packages: Path) -> None:
    """Each wheel brings libraries in a folder of its own: beside ROS' own, LD_LIBRARY_PATH finds them all."""
    for library in packages.glob("*.libs/*.so*"):
        link = prefix / "lib" / library.name
        if not link.exists():
            link.symlink_to(library)


def mend_cmake(prefix: Path) -> None:
    """Some of the wheels' CMake files name a Python of the machine that built them: put this one's in its place."""
    import numpy

    include, elsewhere = sysconfig.get_paths()["include"], r"/opt/python/[^/;\"]+"
    for path in prefix.glob("share/*/cmake/*__rosidl_generator_pyExport.cmake"):
        text = path.read_text()
        numpy_include = elsewhere + r"/lib/python[\d.]+/site-packages/numpy/_?core/include"
        text = re.sub(numpy_include, lambda _: numpy.get_include(), text)
        path.write_text(re.sub(elsewhere + r"/include/python[\d.]+", lambda _: include, text))


def main(argv: list[str] | None = None) -> int:
    """Make the ROS that is named on the command line."""
    (where,) = sys.argv[1:] if argv is None else argv
    prefix = Path(where).resolve()
    packages = install(prefix)
    gather_libraries(prefix, packages)
    mend_cmake(prefix)
    (prefix / "setup.bash").write_text(SETUP.format(prefix=prefix, packages=packages))
    print(f"source {prefix}/setup.bash")
    return 0


if __name__ == "__main__":
    sys.exit(main())
