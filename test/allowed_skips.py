"""Every skip that is allowed, and on which machines; any other fails the suite (test/skip_guard.py)."""

import shutil
import sys
import tempfile
from collections.abc import Callable
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

from test.places import GOLDENS
from test.skip_guard import Allowed


def missing(*modules: str) -> Callable[[], bool]:
    """Whether one of them is not installed at all: one that is there and broken is no excuse."""
    return lambda: any(find_spec(name) is None for name in modules)


def not_installed_by_esam(module: str) -> Callable[[], bool]:
    """Whether it is missing from a Python that ./esam did not set up. In .venv it must be there."""
    return lambda: not (Path(sys.prefix) / ".esam").is_dir() and missing(module)()


def no_gl() -> bool:
    """Whether there is neither an EGL driver nor OSMesa, of which MuJoCo needs one to render off screen."""
    drivers = [path for folder in ("/usr/share", "/etc") for path in Path(folder, "glvnd/egl_vendor.d").glob("*.json")]
    return not (drivers and find_library("EGL")) and not find_library("OSMesa")


ALLOWED = (
    Allowed("", "the goldens are not at hand", "they are not there", lambda: not GOLDENS.is_dir()),
    Allowed("", "off-screen GL is missing", "no GL driver is installed", no_gl),
    Allowed("/test_timm", "timm", "timm or torchvision is not installed", missing("timm", "torchvision")),
    Allowed("/test_view", "rerun-sdk", "it is not installed", missing("rerun")),
    Allowed("/test_parallel", "Ray", "it is not installed", missing("ray")),
    Allowed("/test_launch_real", "launch_ros", "it is not installed", missing("launch_ros")),
    Allowed("/test_target_start", "tf2_ros is installed", "it is", lambda: find_spec("tf2_ros") is not None),
    Allowed("", "GB free|disk space", "the disk is nearly full", lambda: shutil.disk_usage(tempfile.gettempdir()).free < 6e9),
    Allowed("", "ROS 2 is not installed|ROS' own", "it is not, outside of .venv", not_installed_by_esam("rclpy")),
    Allowed("", "rosbags is not installed", "it is not, outside of .venv", not_installed_by_esam("rosbags")),
)  # fmt: skip
