"""Compressed images <-> arrays: of compressed topics and of image files.

A header is asked how large its image is before OpenCV decodes it, so that a small file cannot ask for gigabytes. What has no
such header is refused, never guessed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from esam_perception.errors import EsamError

# 8192 x 8192: beyond the cameras of robots, and 200 MB as RGB.
MAX_PIXELS = 1 << 26
FORMATS = "PNG, JPEG, WebP, BMP, TIFF, GIF and PNM"


class CodecError(EsamError):
    """Bytes that are no image, one that is too large, or pixels that a format cannot hold; one line that says which."""


def decode_rgb(data: Any) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a compressed image (bytes, or anything with its buffer), turned as its EXIF says.

    Raises CodecError.
    """
    return cv2.cvtColor(_decoded(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def decode_unchanged(data: Any) -> np.ndarray:
    """[H, W] or [H, W, C] as the image has them: its own depth of bits, channels in OpenCV's order (BGR).

    Raises CodecError.
    """
    return _decoded(data, cv2.IMREAD_UNCHANGED)


def encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """JPEG of uint8 [H, W, 3] RGB. quality: 1..100. Raises CodecError where the format cannot hold it."""
    try:
        written, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:  # which of both it is depends on OpenCV's version
        written = False
    if not written:
        height, width = rgb.shape[:2]
        raise CodecError(f"JPEG cannot hold an image of {width} x {height} pixels: its sides have at most 65500")
    return data.tobytes()


def _decoded(data: Any, flags: int) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8)
    size = claimed_size(raw.data)
    if size is None:
        raise CodecError(f"{raw.size} bytes that are no image; {FORMATS} are read")
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        raise CodecError(f"an image of {width} x {height} pixels; 1 to {MAX_PIXELS >> 20} Mi are read: make it smaller")
    try:
        image: np.ndarray | None = cv2.imdecode(raw, flags)
    except cv2.error as error:
        raise CodecError(f"OpenCV cannot decode it: {' '.join(str(error).split())}") from error
    if image is None:
        raise CodecError(f"{raw.size} bytes that are no image that OpenCV can decode")
    return image


def claimed_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """(width, height) by the header of a compressed image; None where there is none of these formats."""
    for signature, read in _READERS:
        if re.match(signature, bytes(data[:16]), re.DOTALL):
            try:
                return read(data)
            except (struct.error, OverflowError):  # it ends within its header, or points beyond any end
                return None
    return None


_Size = tuple[int, int]


def _png(data: bytes | memoryview) -> _Size | None:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes | memoryview) -> _Size | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes | memoryview) -> _Size | None:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # a negative height: its rows begin at the top


def _webp(data: bytes | memoryview) -> _Size | None:
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return (low_w | high_w << 16) + 1, (low_h | high_h << 16) + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF  # the upper two bits are a scale for showing it


def _jpeg(data: bytes | memoryview) -> _Size | None:
    """Of the first start of frame, SOF0 to SOF15; segments before it are skipped by their lengths, as libjpeg does."""
    content, at = bytes(data), 2
    while (at := content.find(b"\xff", at)) >= 0:
        while content[at : at + 1] == b"\xff":
            at += 1
        (marker,) = struct.unpack_from("B", content, at)
        at += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            continue
        if marker in (0xD9, 0xDA):  # the end, or pixels, without a frame
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 3)
            return width, height
        at += struct.unpack_from(">H", content, at)[0]
    return None


def _tiff(data: bytes | memoryview) -> _Size | None:
    """The larger of the image and of one of its tiles, which are decoded whole."""
    order = "<" if bytes(data[:1]) == b"I" else ">"
    if struct.unpack_from(f"{order}H", data, 2)[0] == 43:  # BigTIFF: offsets of eight bytes
        (start,) = struct.unpack_from(f"{order}Q", data, 8)
        counted, step, value_at = f"{order}Q", 20, 12
    else:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        counted, step, value_at = f"{order}H", 12, 8
    (count,) = struct.unpack_from(counted, data, start)
    found: dict[int, int] = {}
    first = start + struct.calcsize(counted)
    for at in range(first, first + step * count, step):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag in _TIFF_SIDES:
            if kind not in _TIFF_NUMBERS:
                return None
            (value,) = struct.unpack_from(order + _TIFF_NUMBERS[kind], data, at + value_at)
            found[tag] = max(value, found.get(tag, 0))  # given twice, decoders differ in which one counts
    width, height, tile_width, tile_height = (found.get(tag, 0) for tag in _TIFF_SIDES)
    return (max(width, tile_width), max(height, tile_height)) if width and height else None


_TIFF_SIDES = (256, 257, 322, 323)  # ImageWidth, ImageLength, TileWidth, TileLength
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}


def _pnm(data: bytes | memoryview) -> _Size | None:
    found = re.match(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s", bytes(data[:4096]))
    return (int(found[1]), int(found[2])) if found else None


# (how its bytes begin, the reader of its size)
_READERS: tuple[tuple[bytes, Callable[[bytes | memoryview], _Size | None]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"RIFF....WEBPVP8[ LX]", _webp),
    (rb"BM", _bmp),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", _tiff),
    (rb"GIF8[79]a", _gif),
    (rb"P[1-6][\s#]", _pnm),
)
