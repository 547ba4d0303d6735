"""What the node says and does when it starts: room in /dev/shm, the level of its log."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.environment.distro import profile_in_use, transport_environment
from esam_perception.environment.domains import claimed_domain
from esam_perception.environment.processes import ros_environment
from esam_perception.environment.shared_memory import FOLDER, segment_bytes, shortage
from test.conftest import ROOT

PROFILE = ROOT / "config" / "fastdds.xml"
MEGABYTE = 1 << 20
SEGMENT = 32 * MEGABYTE  # of config/fastdds.xml


def room(total: int, free: int | None = None):
    """A statvfs of a /dev/shm of that many bytes."""
    return lambda folder: SimpleNamespace(
        f_frsize=4096, f_blocks=total // 4096, f_bavail=(total if free is None else free) // 4096
    )


def test_the_segment_is_the_profiles(tmp_path):
    assert segment_bytes(PROFILE) == SEGMENT
    for text in ("", "no XML", "<profiles/>", "<a><segment_size>many</segment_size></a>"):
        (tmp_path / "other.xml").write_text(text)
        assert segment_bytes(tmp_path / "other.xml") == 0
    assert segment_bytes(tmp_path / "nowhere.xml") == 0
    (tmp_path / "users.xml").write_text('<p xmlns="urn:x"><t><segment_size> 1048576 </segment_size></t></p>')
    assert segment_bytes(tmp_path / "users.xml") == MEGABYTE


def test_dockers_default_is_too_small_and_what_is_advised_is_enough():
    told = shortage(PROFILE, room(64 * MEGABYTE))
    assert "/dev/shm has 64 MB" in told and "--shm-size=512m" in told and "--ipc=host" in told and "\n" not in told
    assert shortage(PROFILE, room(512 * MEGABYTE)) == ""


@given(total=st.integers(0, 1 << 36), free=st.integers(0, 1 << 36))
def test_it_is_said_where_three_segments_do_not_fit_or_not_one_more(total, free):
    free = min(free, total)
    pages = [4096 * (size // 4096) for size in (total, free)]
    assert bool(shortage(PROFILE, room(total, free))) == (pages[0] < 3 * SEGMENT or pages[1] < SEGMENT)


def test_no_shared_memory_at_all_is_said_and_no_profile_needs_none():
    def missing(folder):
        raise FileNotFoundError(2, "No such file or directory", folder)

    assert f"{FOLDER}: No such file or directory" in shortage(PROFILE, missing)
    assert shortage("", missing) == ""


def test_another_dds_reads_no_such_profile():
    environment = {"ROS_DISTRO": "kilted", **transport_environment(PROFILE, {"ROS_DISTRO": "kilted"})}
    assert profile_in_use(environment) == str(PROFILE)
    for name in ("", "rmw_fastrtps_dynamic_cpp"):  # empty is the default, Fast DDS
        assert profile_in_use({**environment, "RMW_IMPLEMENTATION": name}) == str(PROFILE)
    assert profile_in_use({**environment, "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}) == ""


CODE = """
import sys, rclpy
from types import SimpleNamespace
from esam_perception.ros.node import node as module
from esam_perception.environment.shared_memory import shortage
rclpy.init(args=sys.argv)
small = lambda folder: SimpleNamespace(f_frsize=4096, f_blocks=16384, f_bavail=16384)
module.shortage = lambda profile: shortage(profile, small)
node = module.EsamNode()
print("warnings:", node._state().warnings)
levels = [int(logger.get_effective_level()) for logger in (node.get_logger(), rclpy.logging.get_logger("rcl"))]
print("levels:", node.get_logger().name, *levels)
node.destroy_node()
rclpy.try_shutdown()
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    """The lines that a node says at its start, in a process of its own: where /dev/shm is small, and with a level as
    esam.launch.py hands it over (test_launch.py)."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    arguments = ["-p", "autostart:=false", "-r", "__ns:=/robot/front", "--log-level", "robot.front.esam:=debug"]
    command = [sys.executable, "-c", CODE, "--ros-args", *arguments]
    with claimed_domain() as domain_id:
        environment = ros_environment(domain_id)
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


def test_a_node_in_a_small_container_says_so_once_in_its_log_and_on_diagnostics(said):
    (logged,) = [line for line in said if "[WARN]" in line]
    (told,) = [line for line in said if line.startswith("warnings:")]
    for line in (logged, told):
        assert "/dev/shm has 64 MB" in line and "--shm-size=512m" in line


def test_a_level_with_the_loggers_name_is_of_the_node_alone(said):
    """10 is debug, 20 info: rcl and rmw go on as they were."""
    assert "levels: robot.front.esam 10 20" in said
    assert not [line for line in said if "[DEBUG]" in line and "[robot.front.esam]" not in line]
