"""A camera node that renders the simulated tabletop live, with depth, intrinsics and the truth."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from esam_perception.errors import EsamError, InvalidInput
from esam_perception.ros.cameras.camera import CameraPublishers, spin_camera
from esam_perception.tabletop.needs import CANNOT_RENDER_EXIT_CODE, PACKAGES, PACKAGES_HINT, OffscreenGLError

if TYPE_CHECKING:
    from esam_perception.tabletop import Tabletop


class SimulatedCamera(Node):
    """Publishes camera/image_raw, camera/depth/image_raw, camera/camera_info and camera/truth/*."""

    def __init__(self) -> None:
        super().__init__("simulated_camera")
        self._table: Tabletop | None = None  # ROS destroys the node also where what follows fails
        for name, default, description in (
            ("seed", 900_000, "which scene; test scenes begin at 900000"),
            ("rate", 5.0, "images a second"),
            ("width", 640, "pixels"),
            ("height", 480, "pixels"),
            ("orbit_speed", 0.05, "radians a second that the camera turns around the table; 0: it stands still"),
            ("scene_period", 0.0, "seconds after which the next seed's scene is shown; 0: never"),
        ):
            self.declare_parameter(name, default, ParameterDescriptor(description=description))
        self._rate = self.get_parameter("rate").value
        if not 0 < self._rate <= 1000:
            raise InvalidInput(f"parameter rate must be in 0..1000 images a second, got {self._rate}")
        self._publishers_of_camera = CameraPublishers(self)
        # not with this module: where its packages are missing main() says so in one line
        from esam_perception.tabletop import Tabletop

        table = self._table = Tabletop(self.get_parameter("width").value, self.get_parameter("height").value)
        self._frames = 0
        self.create_timer(1.0 / self._rate, lambda: self._publish(table))
        self.get_logger().info(f"rendering scene {self.get_parameter('seed').value} at {self._rate:g} Hz")

    def _publish(self, table: Tabletop) -> None:
        # frames are counted, not timed: the same seed gives the same sequence on any machine
        seconds = self._frames / self._rate
        period = self.get_parameter("scene_period").value
        seed = self.get_parameter("seed").value + (int(seconds / period) if period > 0 else 0)
        orbit = self.get_parameter("orbit_speed").value * seconds
        seen = table.render(table.sample(seed), orbit=orbit)
        self._publishers_of_camera.publish(
            seen.image, seen.camera_matrix, seen.depth, seen.instances, seen.truth_json()
        )
        self._frames += 1

    def destroy_node(self) -> None:
        """Free the GL context before ROS."""
        if self._table is not None:
            self._table.close()
        super().destroy_node()


def main(args: list[str] | None = None) -> int:
    """Run the camera. Exit code 3 and one line where nothing can be rendered: no off-screen GL, or a package is missing."""
    try:
        return spin_camera(SimulatedCamera, args)
    except OffscreenGLError as error:
        print(f"simulated_camera: {error}", file=sys.stderr)
        return CANNOT_RENDER_EXIT_CODE
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PACKAGES:
            raise
        print(f"simulated_camera: {error.name} is not installed; {PACKAGES_HINT}", file=sys.stderr)
        return CANNOT_RENDER_EXIT_CODE
    except EsamError as error:
        print(f"simulated_camera: {error}", file=sys.stderr)
        return 2
