"""Compressed images, honest and hostile: decoded, or refused with a reason before they cost memory."""

import struct
import zlib
from array import array

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esam_perception.images.compressed import MAX_PIXELS, CodecError, claimed_size, decode_rgb, encode_jpeg
from esam_perception.images.encodings import RefusedImage, message_to_rgb
from esam_perception.images.files import ImageFileError, read_rgb
from test.images.plain_messages import CompressedImage

HEIGHT, WIDTH = 12, 20
SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tiff", ".ppm", ".pgm")


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Slow gradients, which JPEG keeps; RGB."""
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + 3 * x % 99, 200 - 4 * y % 99, 90 + x % 50], 2).astype(np.uint8)


def encoded(suffix: str, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    rgb = picture(height, width)
    pixels = rgb[..., 0] if suffix == ".pgm" else rgb[..., ::-1]
    return cv2.imencode(suffix, pixels)[1].tobytes()


def with_crc(png: bytes) -> bytes:
    return png[:29] + struct.pack(">I", zlib.crc32(png[12:29])) + png[33:]


def lying(suffix: str, width: int, height: int) -> bytes:
    """A small file whose header claims that size, right in everything else."""
    data = bytearray(encoded(suffix))
    if suffix == ".png":
        data[16:24] = struct.pack(">II", width, height)
        return with_crc(bytes(data))
    if suffix == ".bmp":
        data[18:26] = struct.pack("<ii", width, -height)  # negative: its rows begin at the top
        return bytes(data)
    if suffix in (".ppm", ".pgm"):
        return bytes(data).replace(f"{WIDTH} {HEIGHT}".encode(), f"{width} {height}".encode(), 1)
    if suffix == ".jpg":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
        return bytes(data)
    if suffix == ".webp":
        extended = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + extended + bytes(data[12:])
        return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        tag = struct.unpack_from("<H", data, at)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", data, at + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


# the largest that the format can claim, at most 60000 x 60000
CLAIMS = {".webp": (16384, 16384)}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", [bytes, lambda data: array("B", data), lambda data: np.frombuffer(data, np.uint8)])
def test_what_is_taken(suffix, kind):
    seen = decode_rgb(kind(encoded(suffix)))
    assert seen.shape == (HEIGHT, WIDTH, 3) and seen.dtype == np.uint8
    expected = picture()
    # lossy formats keep slow gradients to some grey levels
    limit = 12 if suffix in (".jpg", ".webp") else 0
    if suffix == ".pgm":
        expected = np.repeat(expected[..., :1], 3, 2)
    assert np.abs(seen.astype(int) - expected).max() <= limit


@settings(deadline=None)
@given(st.sampled_from(SUFFIXES), st.integers(1, 70), st.integers(1, 70))
def test_the_header_says_the_size_that_comes_out(suffix, height, width):
    data = encoded(suffix, height, width)
    assert claimed_size(data) == (width, height) == decode_rgb(data).shape[1::-1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_small_image_that_claims_to_be_huge_is_refused_before_it_is_decoded(suffix, tmp_path, monkeypatch):
    width, height = CLAIMS.get(suffix, (60000, 60000))
    data = lying(suffix, width, height)
    assert claimed_size(data) == (width, height) and width * height > MAX_PIXELS
    monkeypatch.setattr(cv2, "imdecode", None)  # whoever asks OpenCV all the same fails with a TypeError
    with pytest.raises(RefusedImage, match=f"{width} x {height}") as refused:
        message_to_rgb(CompressedImage(format=suffix[1:], data=data))
    assert refused.value.reason == "bad_compression"
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(data)
    with pytest.raises(ImageFileError, match=f"bomb.*{width} x {height}"):
        read_rgb(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_header_that_lies_within_the_limit_is_refused_or_filled_never_an_error_of_opencv(suffix):
    message = CompressedImage(format=suffix[1:], data=lying(suffix, 3000, 2000))
    try:
        assert message_to_rgb(message).shape == (2000, 3000, 3)
    except RefusedImage as error:
        assert error.reason == "bad_compression"


@settings(max_examples=300, deadline=None)
@given(
    suffix=st.sampled_from(SUFFIXES),
    changes=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6),
    size=st.none() | st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
    cut=st.none() | st.integers(0, 400),
)
@example(".png", [], (60000, 60000), None)
@example(".png", [], (2**31 - 1, 1), None)
@example(".png", [], (1, 2**31 - 1), None)
def test_whatever_a_header_says_there_is_an_image_of_bounded_size_or_a_reason(suffix, changes, size, cut):
    data = bytearray(encoded(suffix))
    for at, value in changes:
        if at < len(data):
            data[at] = value
    if suffix == ".png" and size is not None:
        data[16:24] = struct.pack(">II", *size)
        data = bytearray(with_crc(bytes(data)))
    message = CompressedImage(format=suffix[1:], data=bytes(data[:cut]))
    try:
        seen = message_to_rgb(message)
    except RefusedImage as error:
        assert error.reason == "bad_compression" and str(error) and "\n" not in str(error)
    else:
        assert seen.ndim == 3 and seen.shape[2] == 3 and seen.shape[0] * seen.shape[1] <= MAX_PIXELS


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_what_is_no_image_is_refused(data):
    with pytest.raises(CodecError, match="no image"):
        decode_rgb(b"x" + data)
    assert claimed_size(b"x" + data) is None


def test_opencvs_own_refusal_is_one_line(monkeypatch):
    def fail(*given):
        raise cv2.error("OpenCV(4) error: (-4:Insufficient memory)\n> two lines in function 'x'")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(RefusedImage) as refused:
        message_to_rgb(CompressedImage(format="png", data=encoded(".png")))
    assert refused.value.reason == "bad_compression" and "\n" not in str(refused.value)


def test_an_exif_turn_is_no_other_size():
    """Told by the header: the size before it is turned."""
    jpeg = encoded(".jpg")
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + orientation + bytes(4)
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    assert claimed_size(turned) == (WIDTH, HEIGHT) and decode_rgb(turned).shape == (WIDTH, HEIGHT, 3)


def test_what_is_written_can_be_read_and_what_jpeg_cannot_hold_is_refused():
    assert np.abs(decode_rgb(encode_jpeg(picture(), 95)).astype(int) - picture()).max() <= 12
    with pytest.raises(CodecError, match="70000 x 1 pixels"):
        encode_jpeg(np.zeros((1, 70_000, 3), np.uint8), 90)
