"""Image files of users."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from esam_perception.errors import EsamError


class ImageFileError(EsamError):
    """A file that is no image that can be read; the text names it."""


def read_rgb(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB of an image file, turned as its EXIF says. Raises ImageFileError.

    Read by Python, decoded by OpenCV, whose own reader writes its complaints to stderr.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise ImageFileError(f"{path}: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageFileError(f"{path}: cannot be read as an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
