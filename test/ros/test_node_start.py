"""Other ways to start the node, each in a process of its own."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition


def test_without_autostart_it_waits_and_keeps_queries_and_drops_stale_frames(start, tiny_profile, clip):
    client, _ = start({"model": str(tiny_profile), "autostart": False, "max_age": 5.0})
    assert client.state() == "unconfigured"
    client.wait(lambda: client.query_publisher.get_subscription_count() > 0, "the node")
    client.ask("the red mug")  # before any image, before any model
    assert client.change_state(Transition.TRANSITION_CONFIGURE) and client.change_state(Transition.TRANSITION_ACTIVATE)
    client.wait_until_active()
    # the client's stamps are years old: every frame is stale
    from esam_perception.ros.wire.messages import ROS

    def stale():
        client.image_publisher.publish(ROS.image(clip[0].image, "rgb8", client.next_header()))
        return int(client.status()["frames_dropped_stale"]) > 0

    client.wait(stale, "a stale frame to be dropped")
    assert not client.arrays
    client.stamp = client.node.get_clock().now().nanoseconds
    assert [m.text for m in client.show(clip[0].image).matches] == ["the red mug"]


def test_a_model_that_is_not_there_is_an_error_that_names_it_and_the_node_stays(start, tmp_path):
    client, _ = start({"model": str(tmp_path / "nothing")})
    status = client.wait(
        lambda: (s := client.status())["level"] == DiagnosticStatus.ERROR and s, "the error in diagnostics"
    )
    assert "configure failed" in status["message"] and "no profile" in status["message"]
    assert client.state() == "unconfigured"
