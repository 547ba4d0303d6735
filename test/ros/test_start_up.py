"""What the node says and does when it starts: room in /dev/shm, the level of its log."""

import subprocess
import sys

import pytest

from esam_perception.environment.domains import claimed_domain
from esam_perception.environment.processes import ros_environment
from test.conftest import ROOT

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
