"""Who is served by whom: by ROS' own rules."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.qos import DurabilityPolicy, QoSCompatibility, qos_check_compatible

from esam_perception.ros.wire import qos


def served(offered, wanted):
    # a warning: of liveliness, which is left to the system on both sides
    return qos_check_compatible(offered, wanted)[0] != QoSCompatibility.ERROR


def test_our_cameras_serve_everybody():
    wanted = [make(word) for make in (qos.image, qos.depth) for word in qos.RELIABILITY]
    for profile in (*wanted, qos.SENSOR, qos.CAMERA_INFO, qos.CAMERA):
        assert served(qos.CAMERA, profile)


def test_a_best_effort_camera_serves_whoever_asks_for_no_more():
    for profile in (qos.image("best_effort"), qos.depth("best_effort"), qos.CAMERA_INFO):
        assert served(qos.SENSOR, profile)
    assert not served(qos.SENSOR, qos.image("reliable")) and not served(qos.SENSOR, qos.depth("reliable"))


def test_what_is_latched_is_told_to_whoever_comes_later():
    assert qos.LATCHED.durability == DurabilityPolicy.TRANSIENT_LOCAL and served(qos.LATCHED, qos.LATCHED)
    assert not served(qos.RELIABLE, qos.LATCHED)


def test_results_and_queries_serve_whoever_wants_all_and_cameras_are_asked_for_the_newest():
    for profile in (qos.RELIABLE, qos.QUERY):
        assert served(profile, qos.image("reliable"))
    assert qos.image("reliable").depth == 1 and qos.depth("reliable").depth > 1
