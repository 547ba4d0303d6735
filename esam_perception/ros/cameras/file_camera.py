"""A camera node that replays a folder of images, one image, a video file, or the recorded clip of the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from esam_perception.errors import EsamError
from esam_perception.images.files import ImageFileError, read_depth, read_rgb
from esam_perception.ros.cameras.camera import CameraPublishers, spin_camera

CLIP = "clip"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
DEPTH_SUFFIX = ".depth.png"


class SourceError(EsamError):
    """A source that cannot be replayed; the text says why."""


def frames_of(source: str, field_of_view: float) -> Iterator[tuple[Any, ...]]:
    """The frames of a source, once: arguments of CameraPublishers.publish.

    source: `clip`, an image, a folder of images (in the order of their names; NAME.depth.png beside NAME.png is depth,
    16 bit, millimetres), or a video file. field_of_view: horizontal, radians, for the intrinsics of what has none.
    Raises SourceError.
    """
    if source == CLIP:
        from esam_perception.tabletop.clip import load_clip

        for seen in load_clip():
            yield seen.image, seen.camera_matrix, seen.depth, seen.instances, seen.truth_json()
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(
            p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.endswith(DEPTH_SUFFIX)
        )
        if not files:
            raise SourceError(f"{path}: has no images ({', '.join(IMAGE_SUFFIXES)})")
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        files = [path]
    elif path.is_file():
        yield from _video_frames(path, field_of_view)
        return
    else:
        raise SourceError(f"{path}: is neither an image, a folder of images nor a video file")
    for file in files:
        try:
            image = read_rgb(file)
            depth_file = file.with_name(file.stem + DEPTH_SUFFIX)
            depth = read_depth(depth_file) if depth_file.exists() else None
        except ImageFileError as error:
            raise SourceError(str(error)) from error
        yield image, guessed_matrix(image, field_of_view), depth


def _video_frames(path: Path, field_of_view: float) -> Iterator[tuple[Any, ...]]:
    video = cv2.VideoCapture(str(path))
    try:
        read, image = video.read()
        if not read:
            raise SourceError(f"{path}: cannot be read as a video")
        while read:
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), guessed_matrix(image, field_of_view)
            read, image = video.read()
    except cv2.error as error:
        raise SourceError(f"{path}: OpenCV cannot read it: {' '.join(str(error).split())}") from error
    finally:
        video.release()


def guessed_matrix(image: np.ndarray, field_of_view: float) -> np.ndarray:
    """Intrinsics of a camera of that horizontal field of view, its axis through the centre: float64 [3, 3]."""
    height, width = image.shape[:2]
    focal = width / 2 / np.tan(field_of_view / 2)
    return np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])


class FileCamera(Node):
    """Publishes camera/image_raw and camera/camera_info; camera/depth/image_raw and camera/truth/* where there are."""

    def __init__(self) -> None:
        super().__init__("file_camera")
        for name, default, description in (
            (
                "source",
                CLIP,
                "an image, a folder of images, a video file, or 'clip' (recorded, comes with the package)",
            ),
            ("rate", 5.0, "images a second"),
            ("loop", True, "begin again at the end; false: exit there"),
            ("field_of_view", 60.0, "horizontal, degrees: an assumption, for the intrinsics of what has none"),
        ):
            self.declare_parameter(name, default, ParameterDescriptor(description=description))
        self._publishers_of_camera = CameraPublishers(self)
        self._frames = self._open()
        self._next = next(self._frames)  # a bad source fails here, at once
        rate = self.get_parameter("rate").value
        if not 0 < rate <= 1000:
            raise SourceError(f"parameter rate must be in 0..1000 images a second, got {rate}")
        self.create_timer(1.0 / rate, self._publish)
        self.get_logger().info(f"replaying {self.get_parameter('source').value} at {rate:g} Hz")

    def _open(self) -> Iterator[tuple[Any, ...]]:
        return frames_of(self.get_parameter("source").value, np.radians(self.get_parameter("field_of_view").value))

    def _publish(self) -> None:
        self._publishers_of_camera.publish(*self._next)
        following = next(self._frames, None)
        if following is None:
            if not self.get_parameter("loop").value:
                self.get_logger().info("the end")
                raise SystemExit(0)
            self._frames = self._open()
            following = next(self._frames)
        self._next = following


def main(args: list[str] | None = None) -> int:
    """Run the camera. Exit code 2 and one line for a source that cannot be replayed."""
    try:
        return spin_camera(FileCamera, args)
    except SourceError as error:
        print(f"file_camera: {error}", file=sys.stderr)
        return 2
