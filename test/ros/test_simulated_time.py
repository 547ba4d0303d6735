"""`use_sim_time`: the node under a clock that somebody else publishes, as `ros2 bag play --clock` does."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rosgraph_msgs.msg import Clock

from esam_perception.contract import to_nanoseconds
from esam_perception.ros.wire.messages import ROS
from test.ros.client import running_node

RECORDED = 1_000_000_000 * 1_600_000_000  # years ago, as recordings are
MAX_AGE = 0.5


@pytest.fixture(scope="module")
def running(tiny_profile, tmp_path_factory):
    parameters = {"model": str(tiny_profile), "use_sim_time": True, "max_age": MAX_AGE, "queries": "a mug"}
    with running_node(tmp_path_factory.mktemp("node") / "node.log", parameters) as running:
        yield running


def test_it_starts_and_reports_before_the_clock_does(running):
    client, _ = running
    client.wait_until_active()
    assert client.status()["message"]


def test_ages_are_of_the_published_clock(running, clip):
    client, _ = running
    client.wait_until_active()
    clock = client.node.create_publisher(Clock, "/clock", 10)
    client.wait(lambda: clock.get_subscription_count() > 0, "the node to listen to /clock")

    def play(stamp: int, until) -> None:
        """The clock stands at RECORDED; a frame of `stamp` again and again until it is dealt with."""
        message = ROS.image(clip[0].image, "rgb8", ROS.header(stamp, "some_camera"))

        def dealt_with():
            clock.publish(Clock(clock=ROS.header(RECORDED, "").stamp))
            client.image_publisher.publish(message)
            client.spin(0.2)
            return until()

        client.wait(dealt_with, "the frame to be dealt with")

    def answer(stamp: int):
        return [a for a in client.arrays if to_nanoseconds(a.header.stamp) == stamp]

    fresh, stale = RECORDED - 100_000_000, RECORDED - 2_000_000_000
    play(fresh, lambda: answer(fresh))
    assert answer(fresh)[-1].timing.age_at_start == pytest.approx(100, abs=1)
    before = int(client.status()["frames_dropped_stale"])
    play(stale, lambda: int(client.status()["frames_dropped_stale"]) > before)
    assert not answer(stale)


def test_a_clock_that_stands_still_does_not_silence_it(running):
    client, _ = running
    client.wait_until_active()
    client.diagnostics.clear()
    client.wait(lambda: len(client.diagnostics) >= 2, "two diagnostics")
