"""rclpy's private members: used where they are, done without where they are not."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from esam_perception.ros.node import private


def test_the_state_machine_is_given_back_where_rclpy_has_it():
    done = []
    private.destroy_state_machine(
        SimpleNamespace(_state_machine=SimpleNamespace(destroy_when_not_in_use=lambda: done.append(1)))
    )
    assert done == [1]
    for other in (
        SimpleNamespace(),
        SimpleNamespace(_state_machine=None),
        SimpleNamespace(_state_machine=SimpleNamespace()),
    ):
        private.destroy_state_machine(other)
