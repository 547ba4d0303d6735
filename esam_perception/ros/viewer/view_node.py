"""The node of `esam view`: listens to what esam publishes and hands it to the scene."""

from __future__ import annotations

import time

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from esam_perception import msg
from esam_perception.recordings.rerun_scene import RerunScene
from esam_perception.ros.wire import qos

SILENCE = 5.0  # seconds without matches after which a person is told


class ViewNode(Node):
    """Subscribes to a node's topics. frames: MatchArrays seen."""

    def __init__(self, scene: RerunScene, namespace: str, image: str, context: Context | None = None) -> None:
        super().__init__("esam_view", context=context)
        self.frames = 0
        self._scene = scene
        own = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
        self.matches_topic = f"{own}/esam/matches"
        kind = CompressedImage if image.endswith("/compressed") else Image
        camera = image.removesuffix("/compressed").rpartition("/")[0]
        self.create_subscription(kind, image, scene.image, qos.SENSOR)
        self.create_subscription(CameraInfo, f"{camera}/camera_info", scene.camera_info, qos.SENSOR)
        self.create_subscription(msg.MatchArray, self.matches_topic, self._on_matches, qos.RELIABLE)
        self.create_subscription(Image, f"{own}/esam/heatmap", scene.heatmap, 1)
        self.create_subscription(PointCloud2, f"{own}/esam/points", scene.points, 1)

    def _on_matches(self, message: msg.MatchArray) -> None:
        self.frames += 1
        self._scene.matches(message)


def watch(scene: RerunScene, namespace: str, image: str, seconds: float | None, domain_id: int | None = None) -> int:
    """Show what a node publishes until Ctrl-C, or for some seconds; returns the number of frames with matches."""
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = ViewNode(scene, namespace, image, context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    end = None if seconds is None else time.monotonic() + seconds
    told = time.monotonic() + SILENCE
    try:
        while end is None or time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
            if not node.frames and time.monotonic() > told:
                told = float("inf")
                node.get_logger().warning(
                    f"nothing on {node.matches_topic} yet: is the node running and active? ros2 topic hz {image}"
                )
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return node.frames
