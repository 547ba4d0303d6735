import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esam_perception.images.encodings import ENCODINGS, RefusedImage, depth_to_metres, fill_image, image_to_rgb, plane
from test.images.plain_messages import Image

SIDES = st.integers(1, 20)


def message(
    data: np.ndarray, encoding: str, width: int, height: int, padding: int = 0, bigendian: bool = False
) -> Image:
    """An image message of raw rows (uint8 [rows, bytes]), with padding of a value that must never be seen."""
    rows = np.pad(data, ((0, 0), (0, padding)), constant_values=77)
    built = Image(height=height, width=width, encoding=encoding, step=rows.shape[1], is_bigendian=int(bigendian))
    built.data = rows.tobytes()
    return built


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(SIDES, SIDES, st.just(3))), st.integers(0, 9))
def test_colour_orders_and_padding(rgb, padding):
    height, width = rgb.shape[:2]
    alpha = np.full((height, width, 1), 9, np.uint8)
    orders = {
        "rgb8": rgb, "bgr8": rgb[..., ::-1], "8UC3": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], 2), "bgra8": np.concatenate([rgb[..., ::-1], alpha], 2),
    }  # fmt: skip
    for encoding, pixels in orders.items():
        raw = np.ascontiguousarray(pixels).reshape(height, -1)
        np.testing.assert_array_equal(image_to_rgb(message(raw, encoding, width, height, padding)), rgb)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(SIDES, SIDES)), st.integers(0, 9))
def test_grey(grey, padding):
    height, width = grey.shape
    for encoding in ("mono8", "8UC1"):
        seen = image_to_rgb(message(grey, encoding, width, height, padding))
        np.testing.assert_array_equal(seen, np.repeat(grey[..., None], 3, 2))


@settings(deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(SIDES, SIDES)), st.integers(0, 4), st.booleans())
def test_sixteen_bit_of_both_byte_orders(values, padding, bigendian):
    height, width = values.shape
    raw = values.astype(">u2" if bigendian else "<u2").view(np.uint8).reshape(height, 2 * width)
    span = max(int(values.max()) - int(values.min()), 1)
    expected = (values.astype(np.float64) - values.min()) * 255 / span
    for encoding in ("mono16", "16UC1"):
        seen = image_to_rgb(message(raw, encoding, width, height, 2 * padding, bigendian))
        assert (np.abs(seen[..., 0] - expected) <= 1).all() and (seen[..., 0] == seen[..., 2]).all()


WIDE_COLOURS = {
    "rgb16": (0, 1, 2),
    "bgr16": (2, 1, 0),
    "16UC3": (2, 1, 0),
    "rgba16": (0, 1, 2, 3),
    "bgra16": (2, 1, 0, 3),
}


@settings(deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(SIDES, SIDES, st.just(3))), st.integers(0, 4), st.booleans())
def test_sixteen_bit_colours_share_one_range_and_alpha_has_no_say(rgb, padding, bigendian):
    height, width = rgb.shape[:2]
    span = max(int(rgb.max()) - int(rgb.min()), 1)
    expected = (rgb.astype(np.float64) - rgb.min()) * 255 / span
    full = np.concatenate([rgb, np.full((height, width, 1), 65535, np.uint16)], 2)
    for encoding, order in WIDE_COLOURS.items():
        raw = np.ascontiguousarray(full[..., order].astype(">u2" if bigendian else "<u2")).view(np.uint8)
        seen = image_to_rgb(message(raw.reshape(height, -1), encoding, width, height, 2 * padding, bigendian))
        assert seen.dtype == np.uint8 and (np.abs(seen - expected) <= 1).all()


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_sixteen_bit_bayer_patterns_keep_red_red(pattern, bigendian):
    """A camera of 12 bits: its range is found."""
    colour = {"r": 4000, "g": 2400, "b": 0}
    mosaic = np.empty((16, 20), ">u2" if bigendian else "<u2")
    for i, letter in enumerate(pattern):
        mosaic[i // 2 :: 2, i % 2 :: 2] = colour[letter]
    raw = mosaic.view(np.uint8).reshape(16, -1)
    seen = image_to_rgb(message(raw, f"bayer_{pattern}16", 20, 16, 0, bigendian))
    np.testing.assert_array_equal(seen[8, 10], (255, 153, 0))


def smooth_picture(height: int = 32, width: int = 48) -> np.ndarray:
    """Slow gradients, which survive subsampled colour."""
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + 3 * x, 200 - 4 * y, 90 + x + y], 2).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_packed_yuv(encoding):
    rgb = smooth_picture()
    code = cv2.COLOR_RGB2YUV_UYVY if encoding in ("yuv422", "uyvy") else cv2.COLOR_RGB2YUV_YUY2
    packed = cv2.cvtColor(rgb, code).reshape(rgb.shape[0], -1)
    seen = image_to_rgb(message(packed, encoding, rgb.shape[1], rgb.shape[0], 6))
    assert np.abs(seen.astype(int) - rgb).max() <= 8


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_planar_yuv(encoding):
    rgb = smooth_picture()
    height, width = rgb.shape[:2]
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma, rest = planes[: height * width], planes[height * width :]
    u, v = rest[: rest.size // 2], rest[rest.size // 2 :]
    first, second = (u, v) if encoding == "nv12" else (v, u)
    raw = np.concatenate([luma, np.stack([first, second], 1).ravel()]).reshape(height * 3 // 2, width)
    seen = image_to_rgb(message(raw, encoding, width, height, 4))
    assert np.abs(seen.astype(int) - rgb).max() <= 8


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_keep_red_red(pattern):
    colour = {"r": 200, "g": 120, "b": 40}
    mosaic = np.empty((16, 20), np.uint8)
    for i, letter in enumerate(pattern):
        mosaic[i // 2 :: 2, i % 2 :: 2] = colour[letter]
    seen = image_to_rgb(message(mosaic, f"bayer_{pattern}8", 20, 16))
    np.testing.assert_array_equal(seen[8, 10], (200, 120, 40))


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"encoding": "tiff64"}, "unknown_encoding"),
        ({"encoding": ""}, "unknown_encoding"),
        ({"step": 5}, "bad_step"),
        ({"step": 4_000_000_000}, "bad_length"),
        ({"data": b"123"}, "bad_length"),
        ({"data": b""}, "bad_length"),
        ({"data": bytes(1000)}, "bad_length"),
        ({"width": 0}, "zero_size"),
        ({"height": 0}, "zero_size"),
        ({"width": 4_000_000_000}, "bad_step"),
        ({"encoding": "nv12", "width": 3}, "odd_size"),
        ({"encoding": "yuv422", "width": 3, "step": 12}, "odd_size"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(change, reason):
    built = message(np.zeros((4, 12), np.uint8), "rgb8", 4, 4)
    for name, value in change.items():
        setattr(built, name, value)
    with pytest.raises(RefusedImage) as error:
        image_to_rgb(built)
    assert error.value.reason == reason
    if reason == "unknown_encoding":
        assert f"'{built.encoding}'" in str(error.value)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*ENCODINGS, "x"]),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 40),
    st.binary(max_size=300),
    st.booleans(),
)
def test_any_message_gives_an_image_of_its_size_or_a_reason(encoding, width, height, step, data, bigendian):
    built = Image(encoding=encoding, width=width, height=height, step=step, is_bigendian=int(bigendian), data=data)
    try:
        seen = image_to_rgb(built)
    except RefusedImage as error:
        assert error.reason in RefusedImage.REASONS and str(error)
    else:
        assert seen.shape == (height, width, 3) and seen.dtype == np.uint8


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(SIDES, SIDES),
        elements=st.floats(-1, 10, width=32) | st.sampled_from([np.nan, np.inf, -np.inf]),
    )
)
def test_depth_in_metres_and_millimetres(metres):
    height, width = metres.shape
    invalid = ~np.isfinite(metres) | (metres <= 0)
    raw = np.ascontiguousarray(metres).view(np.uint8).reshape(height, -1)
    seen = depth_to_metres(message(raw, "32FC1", width, height, 4))
    np.testing.assert_array_equal(np.isnan(seen), invalid)
    np.testing.assert_array_equal(seen[~invalid], metres[~invalid])
    millimetres = np.where(invalid, 0, np.where(invalid, 0, metres) * 1000).astype(">u2")
    seen = depth_to_metres(message(millimetres.view(np.uint8).reshape(height, -1), "16UC1", width, height, 0, True))
    np.testing.assert_allclose(seen[millimetres > 0], millimetres[millimetres > 0] / 1000, rtol=1e-5)
    assert np.isnan(seen[millimetres == 0]).all()


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(SIDES, SIDES, st.just(3))))
def test_what_is_published_can_be_read_back(rgb):
    header = object()
    built = fill_image(Image(), rgb[:, ::-1], "rgb8", header)
    assert built.header is header and built.step == 3 * rgb.shape[1] and built.is_bigendian == (sys.byteorder == "big")
    np.testing.assert_array_equal(image_to_rgb(built), rgb[:, ::-1])
    for encoding, pixels in {"mono8": rgb[..., 1], "32FC1": rgb[..., 2].astype(np.float32) / 255}.items():
        seen = plane(fill_image(Image(), pixels, encoding, header))
        assert seen.dtype == pixels.dtype
        np.testing.assert_array_equal(seen, pixels)


def test_it_is_the_same_of_ros_own_classes():
    """Their data are array.array, and each field checks what it is given."""
    pytest.importorskip("sensor_msgs", reason="ROS 2 is not installed")
    from sensor_msgs.msg import Image as RosImage
    from std_msgs.msg import Header

    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    ours = message(rgb.reshape(5, -1), "bgr8", 7, 5, padding=3)
    ros = RosImage(height=5, width=7, encoding="bgr8", step=ours.step, data=ours.data)
    np.testing.assert_array_equal(image_to_rgb(ros), rgb[..., ::-1])
    header = Header(frame_id="camera")
    built = fill_image(RosImage(), rgb, "rgb8", header)
    assert built.header is header
    np.testing.assert_array_equal(image_to_rgb(built), rgb)


def test_an_encoding_does_not_depend_on_what_else_is_installed(monkeypatch):
    """PyPI's cv_bridge is silently wrong; apt's is on some machines only: neither is asked."""
    for module in ("cv_bridge", "cv_bridge.core"):
        monkeypatch.setitem(sys.modules, module, None)
    exotic = message(np.zeros((2, 24), np.uint8), "64FC1", 3, 2)
    with pytest.raises(RefusedImage) as before:
        image_to_rgb(exotic)
    asked = []

    class Module:
        def __getattr__(self, name):
            asked.append(name)
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "cv_bridge", Module())
    with pytest.raises(RefusedImage, match="64FC1") as after:
        image_to_rgb(exotic)
    assert str(after.value) == str(before.value) and not asked
