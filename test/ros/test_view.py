"""`esam view` beside a running graph: real topics into a scene. (What is logged: test/recordings/test_rerun_scene.py.)"""

import threading

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("rosbags", reason="rosbags is not installed")

from esam_perception.recordings.rerun_scene import RerunScene
from esam_perception.types import Provenance, Timing, Verdict
from test.matches import make_match
from test.recordings.bag_maker import START
from test.recordings.rerun_stand_in import Recording, StandIn


def test_a_running_node_is_watched_over_dds(domain_id, monkeypatch):
    """Real topics in a namespace: what a publisher sends arrives in the scene, under its stamp."""
    scene = RerunScene(StandIn(), recording := Recording())
    import rclpy
    from rclpy.context import Context
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    from esam_perception import msg
    from esam_perception.environment.distro import loopback_environment
    from esam_perception.ros.viewer.view_node import watch

    for name, value in loopback_environment().items():
        monkeypatch.setenv(name, value)

    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node, done = Node("publisher", context=context), threading.Event()
    publishers = [node.create_publisher(Image, "/front/image_raw", 5), node.create_publisher(msg.MatchArray, "/robot1/esam/matches", 5),
                  node.create_publisher(Image, "/robot1/esam/heatmap", 5)]  # fmt: skip
    from esam_perception.ros.wire.messages import ROS  # it needs ROS

    head = ROS.header(START + 9, "cam")
    sent = [
        ROS.image(np.full((6, 8, 3), 90, np.uint8), "rgb8", head),
        ROS.match_array([make_match(3, Verdict.MATCH, slice(2, 5), 0.9)], Timing(), head, Provenance("p", "")),
        ROS.image(np.full((6, 8), 0.25, np.float32), "32FC1", head),
    ]

    def publish():
        while not done.wait(0.2):
            for publisher, message in zip(publishers, sent):
                publisher.publish(message)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        frames = 0
        for seconds in (1.0, 2.0, 4.0, 8.0, 16.0):  # discovery may take seconds
            frames += watch(scene, "robot1", "/front/image_raw", seconds, domain_id)
            if frames and recording.of("camera/image") and recording.of("heatmap"):
                break
    finally:
        done.set()
        thread.join()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert frames and recording.of("camera/image") and recording.of("scores/mug")
    np.testing.assert_array_equal(recording.of("heatmap")[-1].arguments[0], np.full((6, 8), 0.25, np.float32))
    assert {stamp for stamp, _, _, static in recording.kept if not static} == {START + 9}
