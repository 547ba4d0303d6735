"""The least that a node can do with an image: take it and answer with its header. What DDS and rclpy cost by themselves."""

from __future__ import annotations

import time

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

IMAGE_TOPIC, ANSWER_TOPIC = "/echo/image", "/echo/answer"


class Echo(Node):
    """Answers with the image's stamp; frame_id: when the image arrived, time.monotonic_ns() of this machine."""

    def __init__(self) -> None:
        super().__init__("echo")
        self._answers = self.create_publisher(Header, ANSWER_TOPIC, 5)
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, IMAGE_TOPIC, self._on_image, qos)

    def _on_image(self, message: Image) -> None:
        self._answers.publish(Header(stamp=message.header.stamp, frame_id=str(time.monotonic_ns())))


def main() -> int:
    rclpy.init()
    try:
        rclpy.spin(Echo())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0
