"""sensor_msgs/Image <-> numpy. Our own: PyPI's cv_bridge is silently wrong on padded rows and 16-bit images, apt's is not
everywhere, and an encoding must not depend on what else is installed.

Every encoding of the contract; 16-bit colours and Bayer patterns; row padding; 16-bit images of either byte order. What
cannot be read is refused with a reason, never guessed.
"""

from __future__ import annotations

import array
import sys
from typing import Any, Protocol, cast

import cv2
import numpy as np

from esam_perception.errors import InvalidImage
from esam_perception.images.compressed import CodecError, decode_rgb

# Samples a pixel of what is read as is or through one of OpenCV's colour conversions (None: already RGB).
_EIGHT_BIT: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),  # OpenCV's convention, as in cv_bridge
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    # ROS names a Bayer pattern by its first two pixels, OpenCV by the second row's second and third
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
}
_SIXTEEN_BIT: dict[str, tuple[int, int | None]] = {
    "mono16": (1, cv2.COLOR_GRAY2RGB),
    "16UC1": (1, cv2.COLOR_GRAY2RGB),
    "rgb16": (3, None),
    "bgr16": (3, cv2.COLOR_BGR2RGB),
    "16UC3": (3, cv2.COLOR_BGR2RGB),
    "rgba16": (4, cv2.COLOR_RGBA2RGB),
    "bgra16": (4, cv2.COLOR_BGRA2RGB),
    "bayer_rggb16": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": (1, cv2.COLOR_BayerGB2RGB),
}
_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
# sensor_msgs spells these two ways
_ALIASES = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}
ENCODINGS = (*_EIGHT_BIT, *_SIXTEEN_BIT, *_PLANAR, *_ALIASES)


class RefusedImage(InvalidImage):
    """An image message that cannot be read. reason: one of REASONS, for counters; the text says what and why."""

    REASONS = ("unknown_encoding", "bad_step", "bad_length", "zero_size", "odd_size", "bad_compression")

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class ImageMessage(Protocol):
    """The fields of a sensor_msgs/Image that are read: of ROS' class, of rosbags', of any other. data: a buffer."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: Any
    step: int
    data: Any


class CompressedImageMessage(Protocol):
    """The fields of a sensor_msgs/CompressedImage that are read. data: a buffer."""

    header: Any
    format: str
    data: Any


def image_to_rgb(message: ImageMessage) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a sensor_msgs/Image. A view of the message's data where no conversion is needed.

    16-bit images are scaled by their own range (min to max, of all colours together), as a camera of unknown depth leaves no
    better choice. Raises RefusedImage.
    """
    encoding = _ALIASES.get(message.encoding, message.encoding)
    height, width = message.height, message.width
    if height == 0 or width == 0:
        raise RefusedImage("zero_size", f"the image is {width} x {height}")
    if encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise RefusedImage("unknown_encoding", f"encoding '{message.encoding[:64]}' is not one of {known}")
    if encoding in _PLANAR:
        # a full-size luma plane, then a half-height plane of interleaved chroma
        if height % 2 or width % 2:
            raise RefusedImage("odd_size", f"{encoding} needs an even size, got {width} x {height}")
        return cv2.cvtColor(np.ascontiguousarray(_rows(message, height * 3 // 2, width)), _PLANAR[encoding])
    if encoding in ("yuv422", "yuv422_yuy2") and width % 2:
        raise RefusedImage("odd_size", f"{encoding} needs an even width, got {width}")
    if encoding.startswith("bayer") and (width < 2 or height < 2):
        raise RefusedImage("odd_size", f"{encoding} needs at least 2 x 2 pixels, got {width} x {height}")
    is_wide = encoding in _SIXTEEN_BIT
    samples, conversion = (_SIXTEEN_BIT if is_wide else _EIGHT_BIT)[encoding]
    rows = _rows(message, height, samples * width * (2 if is_wide else 1))
    shape = (height, width) if samples == 1 else (height, width, samples)
    if conversion is None and not is_wide:
        return rows.reshape(shape)
    pixels = np.ascontiguousarray(rows)
    if is_wide:
        pixels = pixels.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16, copy=False)
    pixels = pixels.reshape(shape)
    if is_wide and samples == 1:
        pixels, is_wide = _to_eight_bit(pixels), False  # a third of the work that it is once there are colours
    if conversion is not None:
        pixels = cv2.cvtColor(pixels, conversion)
    return _to_eight_bit(pixels) if is_wide else pixels  # after the conversion: alpha has no say in the range


def message_to_rgb(message: ImageMessage | CompressedImageMessage) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a sensor_msgs/Image or a sensor_msgs/CompressedImage; any object with the fields of one of
    them. Raises RefusedImage."""
    if hasattr(message, "encoding"):
        return image_to_rgb(cast(ImageMessage, message))
    try:
        return decode_rgb(message.data)
    except CodecError as error:
        raise RefusedImage("bad_compression", f"format '{message.format[:64]}': {error}") from error


def depth_to_metres(message: ImageMessage) -> np.ndarray:
    """float32 [H, W] metres of a depth image, 16UC1 in millimetres or 32FC1 in metres; NaN where invalid (REP 118)."""
    if message.encoding not in ("16UC1", "mono16", "32FC1"):
        raise RefusedImage("unknown_encoding", f"depth encoding '{message.encoding[:64]}' is neither 16UC1 nor 32FC1")
    if message.height == 0 or message.width == 0:
        raise RefusedImage("zero_size", f"the depth image is {message.width} x {message.height}")
    order = ">" if message.is_bigendian else "<"
    kind, size, scale = ("f4", 4, 1.0) if message.encoding == "32FC1" else ("u2", 2, 0.001)
    rows = np.ascontiguousarray(_rows(message, message.height, size * message.width))
    metres: np.ndarray = rows.view(f"{order}{kind}").astype(np.float32) * np.float32(scale)
    metres[~np.isfinite(metres) | (metres <= 0)] = np.nan
    return metres


def _rows(message: ImageMessage, rows: int, used: int) -> np.ndarray:
    """uint8 [rows, used]: the bytes of every row without its padding, as a view where they allow it."""
    if message.step < used:
        raise RefusedImage(
            "bad_step",
            f"step {message.step} is less than the {used} bytes of a row ({message.encoding}, width {message.width})",
        )
    data = np.frombuffer(message.data, np.uint8)
    # the last row may come without its padding
    needed = message.step * (rows - 1) + used
    if not needed <= data.size <= message.step * rows:
        raise RefusedImage(
            "bad_length", f"data has {data.size} bytes, step {message.step} x {rows} rows needs {message.step * rows}"
        )
    if data.size == message.step * rows:
        return data.reshape(rows, message.step)[:, :used]
    return np.lib.stride_tricks.as_strided(data, (rows, used), (message.step, 1), writeable=False)


def _to_eight_bit(pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


_OUTPUT = {"rgb8": np.uint8, "mono8": np.uint8, "32FC1": np.float32}


def fill_image(message: Any, pixels: np.ndarray, encoding: str, header: Any) -> Any:
    """Fill a sensor_msgs/Image from [H, W] or [H, W, 3], without row padding; returns it.

    encoding: rgb8, mono8 (uint8) or 32FC1 (float32). The header is taken as it is.
    """
    pixels = np.ascontiguousarray(pixels, _OUTPUT[encoding])
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = pixels.strides[0]
    # assigning an array.array is the one way that costs no per-element check in any distribution
    data = array.array("B")
    data.frombytes(pixels.reshape(-1).view(np.uint8).data)
    message.data = data
    return message


def plane(message: ImageMessage) -> np.ndarray:
    """[H, W] of a mono8 or 32FC1 image as `fill_image` makes it: uint8 or float32, a view of the message's data."""
    kind = np.float32 if message.encoding == "32FC1" else np.uint8
    return np.frombuffer(message.data, kind).reshape(message.height, message.width)
