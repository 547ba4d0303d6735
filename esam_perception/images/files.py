"""Image files of users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from esam_perception.errors import EsamError
from esam_perception.images.compressed import CodecError, decode_rgb, decode_unchanged


class ImageFileError(EsamError):
    """A file that is no image that can be read, or that cannot be written; the text names it."""


def read_rgb(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB of an image file, turned as its EXIF says. Raises ImageFileError."""
    return _read(path, decode_rgb)


def read_depth(path: Path) -> np.ndarray:
    """float32 [H, W] metres of a 16-bit grey image of millimetres. Raises ImageFileError."""
    millimetres = _read(path, decode_unchanged)
    if millimetres.dtype != np.uint16 or millimetres.ndim != 2:
        raise ImageFileError(f"{path}: must be a 16-bit grey PNG, in millimetres")
    return millimetres.astype(np.float32) / 1000


def write_rgb(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB, or [H, W] grey, in the format of the file's suffix. Raises ImageFileError."""
    try:
        written, data = cv2.imencode(path.suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        if not written:
            raise ImageFileError(f"{path}: {path.suffix} cannot hold {pixels.shape[1]} x {pixels.shape[0]} pixels")
        path.write_bytes(data.tobytes())
    except cv2.error as error:
        raise ImageFileError(f"{path}: cannot be written ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise ImageFileError(f"{path}: {error.strerror}") from error


def _read(path: Path, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """Read by Python, decoded by OpenCV, whose own reader writes its complaints to stderr."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise ImageFileError(f"{path}: {error.strerror}") from error
    except CodecError as error:
        raise ImageFileError(f"{path}: {error}") from error
