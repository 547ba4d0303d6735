"""Targets in another frame, by TF at the image's stamp. tf2_ros comes with apt's ROS, not with the PyPI wheels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from esam_perception.errors import EsamError
from esam_perception.targets.measure import transformed
from esam_perception.types import Target3D


class NoTransform(EsamError):
    """Targets cannot be brought to the frame that was asked for; the text says why. may_come: whether TF may know it later."""

    def __init__(self, detail: str, may_come: bool = False) -> None:
        super().__init__(detail)
        self.may_come = may_come


class TargetTransform:
    """Listens to TF, for one target frame. news: called whenever a transform has come, in the thread that brought it.

    Raises NoTransform where tf2_ros is not installed.
    """

    def __init__(self, node, target_frame: str, news: Callable[[], None] = lambda: None) -> None:
        try:
            import tf2_ros
        except ImportError as error:
            raise NoTransform(
                f"parameter target_frame is '{target_frame}', but tf2_ros is not installed: "
                "sudo apt-get install -y ros-$ROS_DISTRO-tf2-ros-py, or leave target_frame empty"
            ) from error
        from rclpy.time import Time

        self.frame = target_frame
        self._time, self._errors = Time, tf2_ros.TransformException

        class TellingBuffer(tf2_ros.Buffer):
            def set_transform(self, transform, authority) -> None:
                super().set_transform(transform, authority)
                news()

            def set_transform_static(self, transform, authority) -> None:
                super().set_transform_static(transform, authority)
                news()

        self._buffer = TellingBuffer()
        # no thread of its own: the node's executor brings the transforms
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def lookup(self, stamp, frame_id: str) -> tuple[np.ndarray, np.ndarray]:
        """(rotation [3, 3], translation [3] metres) from a frame to the target frame, at the very stamp of the image
        (builtin_interfaces/Time); never waits. Raises NoTransform where TF does not know it."""
        if stamp.sec == 0 and stamp.nanosec == 0:
            raise NoTransform("the image has no stamp, and TF takes that for 'the latest'")
        try:
            found = self._buffer.lookup_transform(self.frame, frame_id, self._time.from_msg(stamp))
        except self._errors as error:
            raise NoTransform(f"{type(error).__name__}: {error}", may_come=True) from error
        q, t = found.transform.rotation, found.transform.translation
        return rotation_matrix(q.x, q.y, q.z, q.w), np.array([t.x, t.y, t.z])

    def apply(self, targets: list[Target3D], stamp, frame_id: str) -> list[Target3D]:
        """The targets in the target frame. Raises NoTransform."""
        if frame_id == self.frame or not targets:
            return targets
        rotation, translation = self.lookup(stamp, frame_id)
        return [transformed(target, rotation, translation) for target in targets]


def rotation_matrix(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Of a quaternion, float64 [3, 3]. Raises NoTransform for one of length zero or not finite."""
    q = np.array([x, y, z, w], float)
    length = np.linalg.norm(q)
    if not np.isfinite(length) or length < 1e-9:
        raise NoTransform(f"the rotation ({x:g}, {y:g}, {z:g}, {w:g}) is none")
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
