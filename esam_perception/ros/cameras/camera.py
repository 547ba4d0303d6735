"""What both camera nodes publish: image, camera_info, depth where there is one, the truth where it is known, and where the
optical frame lies in the camera."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Quaternion, Transform, TransformStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from esam_perception.ros.wire import qos
from esam_perception.ros.wire.messages import ROS

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # comes with apt's ROS, not with the PyPI wheels: the transform is published where it is installed
    TFMessage = None

FRAME_ID = "camera_optical_frame"
LINK_FRAME_ID = "camera_link"


class CameraPublishers:
    """Publishers below `camera/` of a node's namespace, and of /tf_static, so that viewers know the camera's frame."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._image = node.create_publisher(Image, "camera/image_raw", qos.CAMERA)
        self._info = node.create_publisher(CameraInfo, "camera/camera_info", qos.CAMERA)
        self._depth = node.create_publisher(Image, "camera/depth/image_raw", qos.CAMERA)
        self._instances = node.create_publisher(Image, "camera/truth/instances", qos.CAMERA)
        self._scene = node.create_publisher(String, "camera/truth/scene", qos.LATCHED)
        self._scene_text = ""
        if TFMessage is not None:
            self._tf = node.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
            self._tf.publish(TFMessage(transforms=[optical_transform(node.get_clock().now().to_msg())]))

    def publish(
        self,
        image: np.ndarray,
        camera_matrix: np.ndarray,
        depth: np.ndarray | None = None,
        instances: np.ndarray | None = None,
        scene: str = "",
    ) -> None:
        """Publish one frame, everything under one stamp: now.

        image: uint8 [H, W, 3] RGB. camera_matrix: float64 [3, 3]. depth: float32 [H, W] metres. instances: uint8
        [H, W]. scene: JSON of the truth, published when it changes.
        """
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=FRAME_ID)
        # the truth first: whoever matches it to a result by its stamp then has it in time
        if scene and scene != self._scene_text:
            self._scene.publish(String(data=scene))
            self._scene_text = scene
        if instances is not None:
            self._instances.publish(ROS.image(instances, "mono8", header))
        if depth is not None:
            self._depth.publish(ROS.image(depth, "32FC1", header))
        self._info.publish(camera_info(camera_matrix, image.shape[1], image.shape[0], header))
        self._image.publish(ROS.image(image, "rgb8", header))


def optical_transform(stamp: Any) -> TransformStamped:
    """Where the optical frame (z ahead, x right) lies in the camera's own (x ahead, z up), by REP 103; as camera drivers
    publish it. stamp: builtin_interfaces/Time. Nothing is said of the world, in which the simulated camera moves."""
    made = TransformStamped(header=Header(stamp=stamp, frame_id=LINK_FRAME_ID), child_frame_id=FRAME_ID)
    made.transform = Transform(rotation=Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5))
    return made


def camera_info(matrix: np.ndarray, width: int, height: int, header: Header) -> CameraInfo:
    """A sensor_msgs/CameraInfo without distortion."""
    info = CameraInfo(header=header, width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [float(value) for value in matrix.ravel()]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [float(value) for value in np.hstack([matrix, np.zeros((3, 1))]).ravel()]
    return info


def spin_camera(make_node: Callable[[], Node], args: list[str] | None) -> int:
    """Run a camera node until it is interrupted or says that it is done (SystemExit)."""
    rclpy.init(args=args)
    node = None
    try:
        node = make_node()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        # launch and a terminal may both send SIGINT: the second must not break the first one's clean end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
