"""What differs between ROS distributions: which one this is, what it reads. (rclpy's private members: ros/node/private.)

Imports nothing of ROS and nothing large: launch files and the demo ask it before ROS runs. The names that the package
uses of ROS, by distribution, are in docs/ros_api.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# The supported ones, oldest first, by the first number of rclpy's version there.
RCLPY_MAJORS = {3: "humble", 7: "jazzy", 9: "kilted", 10: "lyrical"}
DISTROS = tuple(RCLPY_MAJORS.values())
# How an installed rclpy is named: apt's and a source build's, PyPI's Kilted, PyPI's Jazzy.
RCLPY_DISTRIBUTIONS = ("rclpy", "ros-rclpy", "ros-jazzy-rclpy")
# Where Fast DDS looks for its profile: version 2 reads the first name alone, version 3 the second alone.
FASTDDS_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
FASTDDS_2 = ("humble", "iron", "jazzy")
# Large images: keep freed memory instead of giving it back and asking for it again with every frame.
ALLOCATION = {
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TOP_PAD_": "67108864",
}


def distro_name(environment: Mapping[str, str] = os.environ) -> str:
    """The ROS distribution: what ROS_DISTRO says, else what the installed rclpy is of (PyPI's wheels set no variable).

    Empty where there is no rclpy, or one of a version that is none of the supported ones; all else here then takes it
    for a newer one than these."""
    return environment.get("ROS_DISTRO") or RCLPY_MAJORS.get(_rclpy_major(), "")


def _rclpy_major() -> int:
    """The first number of the installed rclpy's version, by its metadata (importing it costs a second); 0: none."""
    from importlib.metadata import PackageNotFoundError, version

    for name in RCLPY_DISTRIBUTIONS:
        try:
            return int(version(name).split(".")[0])
        except PackageNotFoundError:
            continue
    return 0


def fastdds_variable(distro: str) -> str:
    """The environment variable in which that distribution's Fast DDS looks for its profile."""
    return FASTDDS_VARIABLES[0 if distro in FASTDDS_2 else 1]


def profile_in_use(environment: Mapping[str, str] = os.environ) -> str:
    """The Fast DDS profile that processes with this environment read; empty: none is named, or another DDS is used."""
    if not (environment.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        return ""
    return environment.get(fastdds_variable(distro_name(environment)), "")


def transport_environment(profile: Path | str | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables to add to `environment` for processes that pass large images on; what the user has set stays.

    profile: Fast DDS' XML with shared memory for large images; None or empty: none. A user's own profile counts under
    either name: where it is given under the one that this distribution does not read, it is handed on under the other.
    """
    known = fastdds_variable(distro_name(environment))
    users = next((environment[name] for name in FASTDDS_VARIABLES if environment.get(name)), "")
    wanted = dict(ALLOCATION)
    if users or profile:
        wanted[known] = users or str(profile)
    return {name: value for name, value in wanted.items() if not environment.get(name)}


def loopback_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variable to add to `environment` to keep ROS on this machine; what the user has set stays.

    Humble knows the older name alone; newer ones warn of it and then ignore the newer name."""
    older, newer = "ROS_LOCALHOST_ONLY", "ROS_AUTOMATIC_DISCOVERY_RANGE"
    if distro_name(environment) == "humble":
        return {} if environment.get(older) else {older: "1"}
    return {} if environment.get(newer) or environment.get(older) else {newer: "LOCALHOST"}
