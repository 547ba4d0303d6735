"""The starter `./esam` for tests: as a module, and as a command on a machine that lacks something."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from test.conftest import ROOT

# Runs the real file with a changed machine: `{}` stands for the change.
MACHINE = "import os, platform, runpy, shutil, sys; {}; sys.argv[0] = 'esam'; runpy.run_path({!r}, run_name='__main__')"
# What of a shell with a ROS, or of `./esam test` itself, would decide for the starter.
DECIDING = ("ESAM_ROS", "ROS_DISTRO", "AMENT_PREFIX_PATH", "PYTHONPATH", "COLCON_PREFIX_PATH", "LD_LIBRARY_PATH")


def load_starter(folder: Path) -> ModuleType:
    """The starter as a module that takes `folder` for its checkout."""
    loader = importlib.machinery.SourceFileLoader("esam_starter", str(ROOT / "esam"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None  # of a loader that is given
    module = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    vars(module).update(ROOT=folder, OPT_ROS=folder / "opt" / "ros")
    return module


def copy_starter(folder: Path) -> Path:
    """A checkout of the starter and its requirement files alone."""
    for path in (ROOT / "esam", *ROOT.glob("requirements*.txt")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def run_starter(folder: Path, *arguments: str, change: str = "pass", **environment: str) -> list[str]:
    """What `./esam` in that checkout says before it fails, by line; `change`: statements that change the machine."""
    code = MACHINE.format(change, str(folder / "esam"))
    kept = {name: value for name, value in os.environ.items() if name not in DECIDING}
    command, changed = [sys.executable, "-c", code, *arguments], {**kept, **environment}
    run = subprocess.run(command, env=changed, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and not run.stdout, run
    return run.stderr.splitlines()


def fake_ros(prefix: Path, starter: ModuleType, minor: int = 12, layout: str = "lib/python3.{}/site-packages") -> Path:
    """The files by which the starter knows a ROS: empty ones. The folder of its Python packages."""
    index = prefix / "share" / "ament_index" / "resource_index"
    (index / "packages").mkdir(parents=True)
    (index / "rmw_typesupport").mkdir()
    (index / "rmw_typesupport" / "rmw_cyclonedds_cpp").touch()
    for name in starter.ROS_PACKAGES:
        (index / "packages" / name).touch()
    packages = prefix / layout.format(minor)
    (packages / "rclpy").mkdir(parents=True)
    return packages
