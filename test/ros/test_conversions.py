"""Messages and arrays, there and back, and what is said of messages that make no sense."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.ros.messages import conversions as c
from wildseg3d_ros.ros.topics.scene import as_mono16
from wildseg3d_ros.streams import images, messages
from wildseg3d_ros.streams.camera_info import lens_from_info
from wildseg3d_ros.streams.compressed import rgb_from_compressed

WHO = "camera 'left'"
rng = np.random.default_rng(3)


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def make_image(pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> Image:
    """An image as a driver might publish it; written independently of the code under test."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).reshape(height, -1)
    raw = b"".join(row.tobytes() + bytes([0xEE]) * padding for row in rows)
    step = len(raw) // height if height else 0
    return Image(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=big,
        step=step,
        data=array.array("B", raw),
    )


@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize(
    ("encoding", "channels", "order"),
    [
        ("rgb8", 3, [0, 1, 2]),
        ("bgr8", 3, [2, 1, 0]),
        ("rgba8", 4, [0, 1, 2]),
        ("bgra8", 4, [2, 1, 0]),
    ],
)
def test_rgb_from_image_color_encodings(encoding, channels, order, padding):
    """Color encodings become RGB."""
    pixels = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    message = over_the_wire(make_image(pixels, encoding, padding))
    rgb = images.rgb_from_image(message, WHO)
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, pixels[..., order])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("rgb16", [0, 1, 2]), ("bgr16", [2, 1, 0]), ("rgba16", [0, 1, 2]), ("bgra16", [2, 1, 0])],
)
def test_rgb_from_image_16_bits(encoding, order, big):
    pixels = rng.integers(0, 65536, (5, 7, 4 if "a" in encoding else 3), dtype=np.uint16)
    rgb = images.rgb_from_image(over_the_wire(make_image(pixels, encoding, 2, big)), WHO)
    np.testing.assert_array_equal(rgb, (pixels // 256).astype(np.uint8)[..., order])


def studio_yuv(rgb):
    """ITU-R BT.601 with limited range, by its definition."""
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    blue, red = (b - luma) / 1.772, (r - luma) / 1.402
    planes = 16 + 219 * luma, 128 + 224 * blue, 128 + 224 * red
    return tuple(np.rint(plane).astype(np.uint8) for plane in planes)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    "encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "UYVY", "nv12", "nv21"]
)
def test_rgb_from_image_yuv(encoding, padding):
    """Blocks of colour, of 2x2 pixels as the colours are sampled."""
    blocks = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    rgb = blocks.repeat(2, axis=0).repeat(2, axis=1)
    y, u, v = studio_yuv(rgb)
    if encoding.startswith("nv"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        color = np.stack([plane[::2, ::2] for plane in pair], axis=-1).reshape(4, 10)
        message = make_image(np.vstack([y, color]), encoding, padding)
        message.height = 8
    else:
        first = encoding in ("yuv422_yuy2", "yuyv")
        packed = np.empty((8, 10, 2), np.uint8)
        packed[..., 0 if first else 1] = y
        packed[:, ::2, 1 if first else 0] = u[:, ::2]
        packed[:, 1::2, 1 if first else 0] = v[:, ::2]
        message = make_image(packed, encoding, padding)
    found = images.rgb_from_image(over_the_wire(message), WHO)
    assert np.abs(found.astype(int) - rgb).max() <= 4


@pytest.mark.parametrize("encoding", images.UNNAMED_ORDER)
def test_rgb_from_image_unnamed_order(encoding):
    """OpenCV's order unless the camera is said to have the other."""
    kind = np.uint16 if encoding.startswith("16") else np.uint8
    pixels = rng.integers(0, np.iinfo(kind).max, (5, 7, int(encoding[-1])), kind)
    message, upper = make_image(pixels, encoding), pixels >> (8 * (pixels.itemsize - 1))
    np.testing.assert_array_equal(images.rgb_from_image(message, WHO), upper[..., 2::-1])
    np.testing.assert_array_equal(images.rgb_from_image(message, WHO, "rgb"), upper[..., :3])


@pytest.mark.parametrize(
    ("encoding", "size"), [("yuyv", (4, 5, 2)), ("nv12", (4, 5)), ("nv21", (3, 6))]
)
def test_rgb_from_image_yuv_of_odd_size(encoding, size):
    message = make_image(np.zeros(size, np.uint8), encoding)
    message.data = array.array("B", bytes(200))
    with pytest.raises(InputError, match=rf"left.*{encoding} shares colours.*got {size[1]}x"):
        images.rgb_from_image(message, WHO)


@pytest.mark.parametrize("big", [False, True])
def test_rgb_from_image_grey(big):
    """Grey images become RGB."""
    grey = rng.integers(0, 256, (4, 6), dtype=np.uint8)
    np.testing.assert_array_equal(
        images.rgb_from_image(make_image(grey, "mono8", 2, big), WHO),
        np.stack([grey] * 3, axis=-1),
    )
    deep = rng.integers(0, 65536, (4, 6), dtype=np.uint16)
    expected = np.stack([(deep // 256).astype(np.uint8)] * 3, axis=-1)
    np.testing.assert_array_equal(
        images.rgb_from_image(make_image(deep, "mono16", 3, big), WHO), expected
    )


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_rgb_from_image_bayer(pattern):
    """A mosaic of a plain colour gives that colour: red and blue are not swapped."""
    color = {"r": 200, "g": 120, "b": 40}
    mosaic = np.empty((16, 16), np.uint8)
    for i, letter in enumerate(pattern):
        mosaic[i // 2 :: 2, i % 2 :: 2] = color[letter]
    rgb = images.rgb_from_image(make_image(mosaic, f"bayer_{pattern}8"), WHO)
    np.testing.assert_array_equal(rgb[4:12, 4:12], np.broadcast_to([200, 120, 40], (8, 8, 3)))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 4])
def test_depth_from_image_units(big, padding):
    """Depth is in metres."""
    millimetres = rng.integers(0, 65535, (5, 6), dtype=np.uint16)
    depth = images.depth_from_image(make_image(millimetres, "16UC1", padding, big), WHO)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, millimetres / 1000.0, rtol=1e-6)
    millimetres[2, 3] = 65535  # saturated: it may be anything
    found = images.depth_from_image(make_image(millimetres, "16UC1", padding, big), WHO)
    assert found[2, 3] == 0
    metres = rng.uniform(0, 9, (5, 6)).astype(np.float32)
    metres[1, 2] = np.nan
    depth = images.depth_from_image(make_image(metres, "32FC1", padding, big), WHO)
    np.testing.assert_array_equal(depth, metres)


def test_depth_from_image_scale():
    steps = rng.integers(0, 65535, (5, 6), dtype=np.uint16)
    quarters = images.depth_from_image(make_image(steps, "16UC1"), WHO, 0.00025)
    np.testing.assert_allclose(quarters, steps * 0.00025, rtol=1e-6)
    millimetres = images.depth_from_image(
        make_image(steps.astype(np.float32), "32FC1"), WHO, 0.001
    )
    np.testing.assert_allclose(millimetres, steps * 0.001, rtol=1e-6)


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [
        ("rgb8", np.uint8, 3),
        ("bgra8", np.uint8, 4),
        ("mono8", np.uint8, 1),
        ("mono16", np.uint16, 1),
        ("16UC1", np.uint16, 1),
        ("32FC1", np.float32, 1),
    ],
)
def test_image_from_array_round_trip(encoding, dtype, channels):
    """Images survive the wire."""
    shape = (9, 11) if channels == 1 else (9, 11, channels)
    pixels = (rng.uniform(0, 250, shape)).astype(dtype)
    for source in (pixels, pixels[::-2, 1::3], np.asfortranarray(pixels)):
        message = over_the_wire(c.image_from_array(source, encoding, "eye", 12_345_678_901))
        assert (message.header.frame_id, messages.nanoseconds(message.header.stamp)) == (
            "eye",
            12_345_678_901,
        )
        np.testing.assert_array_equal(images.array_from_image(message, WHO), source)


def test_image_from_array_big_endian():
    """Big endian arrays are sent in this machine's order."""
    pixels = np.arange(12, dtype=">u2").reshape(3, 4)
    np.testing.assert_array_equal(
        images.array_from_image(c.image_from_array(pixels, "mono16"), WHO), pixels
    )


def test_image_from_mask_values():
    """Masks are 0 and 255."""
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:] = True
    message = c.image_from_mask(mask)
    assert message.encoding == "mono8"
    np.testing.assert_array_equal(images.array_from_image(message, WHO), np.where(mask, 255, 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "nv24"}, ["unsupported", "'nv24'", "rgb8", "bayer_grbg8", "32FC1"]),
        ({"encoding": ""}, ["unsupported", "''"]),
        ({"height": 0}, ["empty", "5x0"]),
        ({"width": 0}, ["empty", "0x4"]),
        ({"step": 14}, ["15 bytes", "step is 14"]),
        ({"height": 5}, ["5x5", "75", "60"]),
        ({"data": array.array("B")}, ["60", "holds 0"]),
    ],
)
def test_array_from_image_inconsistent(change, words):
    """Images that make no sense."""
    message = make_image(np.zeros((4, 5, 3), np.uint8), "rgb8")
    for field, value in change.items():
        setattr(message, field, value)
    if "encoding" in change:
        with pytest.raises(InputError) as unreadable:
            images.array_from_image(message, WHO)
    else:
        with pytest.raises(InputError) as unreadable:
            images.rgb_from_image(message, WHO)
    for word in [WHO, *words]:
        assert word in str(unreadable.value)


def test_array_from_image_last_row_unpadded():
    """Padding after the last row may be left out."""
    pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    message = make_image(pixels, "rgb8", padding=3)
    message.data = message.data[:-3]
    np.testing.assert_array_equal(images.rgb_from_image(message, WHO), pixels)


def test_rgb_and_depth_from_image_confused():
    """Depth as colour and colour as depth are refused."""
    depth = make_image(np.zeros((4, 5), np.float32), "32FC1")
    with pytest.raises(InputError, match=r"32FC1.*not a colour image.*rgb8"):
        images.rgb_from_image(depth, WHO)
    color = make_image(np.zeros((4, 5, 3), np.uint8), "rgb8")
    with pytest.raises(InputError, match=r"rgb8.*16UC1.*32FC1") as refused:
        images.depth_from_image(color, WHO)
    assert refused.value.code == ErrorCode.BAD_DEPTH


def test_image_from_array_misfit():
    """Arrays that do not fit their encoding."""
    for pixels, encoding in [
        (np.zeros((4, 5, 3), np.uint8), "mono8"),
        (np.zeros((4, 5), np.float64), "32FC1"),
        (np.zeros((4, 5), np.uint8), "nonsense"),
        (np.zeros(4, np.uint8), "mono8"),
    ]:
        with pytest.raises(ValueError, match=encoding):
            c.image_from_array(pixels, encoding)


def test_rgb_from_compressed_unreadable():
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[..., 0] = 200
    png = cv2.imencode(".png", rgb[..., ::-1])[1]
    message = CompressedImage(format="png", data=array.array("B", png.tobytes()))
    np.testing.assert_array_equal(rgb_from_compressed(over_the_wire(message), WHO), rgb)
    for data in (b"", b"no picture at all"):
        with pytest.raises(InputError, match=r"left.*'jpeg'.*cannot be decoded"):
            rgb_from_compressed(CompressedImage(format="jpeg", data=array.array("B", data)), WHO)


# ---- transforms and time -----------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.7, 3.0, np.pi])
def test_matrix_from_transform_round_trip(angle):
    """Transforms survive the wire."""
    axis = np.array([0.36, -0.48, 0.8])
    pose = make_transform(rotation_from_vector(angle * axis), [1.5, -2.0, 0.25])
    message = over_the_wire(c.transform_from_matrix(pose, "base", "eye", 5))
    assert (message.header.frame_id, message.child_frame_id) == ("base", "eye")
    np.testing.assert_allclose(messages.matrix_from_transform(message), pose, atol=1e-12)


def test_matrix_from_transform_no_pose():
    """Transforms that make no pose."""
    message = c.transform_from_matrix(np.eye(4), "base", "eye")
    for norm in (0.0, 0.9, float("nan")):
        message.transform.rotation.w = norm
        with pytest.raises(ValueError, match=f"quaternion of norm {norm:g};"):
            messages.matrix_from_transform(message)
    message.transform.rotation.w = 0.999  # as a driver that rounds
    np.testing.assert_allclose(messages.matrix_from_transform(message), np.eye(4))
    message = c.transform_from_matrix(np.eye(4), "base", "eye")
    message.transform.translation.y = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        messages.matrix_from_transform(message)


@pytest.mark.parametrize("stamp_ns", [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_nanoseconds_round_trip(stamp_ns):
    assert messages.nanoseconds(c.time_message(stamp_ns)) == stamp_ns


def test_as_mono16_large_id():
    """An id that a label image cannot carry is no object and not another."""
    labels = np.array([[0, 1, 65535, 65536, 65537]], np.int32)
    np.testing.assert_array_equal(as_mono16(labels), [[0, 1, 65535, 0, 0]])
    assert as_mono16(labels).dtype == np.uint16


@pytest.mark.parametrize(("count", "fisheye"), [(0, False), (5, False), (8, False), (4, True)])
def test_info_from_lens_round_trip(count, fisheye):
    """The calibration that is published is the one that was heard."""
    K = np.array([[600.0, 0, 319.5], [0, 610, 239.5], [0, 0, 1]])
    lens = Lens(K, (480, 640), np.linspace(0.1, 0.01, count), fisheye)
    info = c.info_from_lens(lens, "optical", 7)
    again = lens_from_info(info, lens.size, "camera 'a'", "a/camera_info")
    np.testing.assert_array_equal(again.K, K)
    np.testing.assert_array_equal(again.coefficients, lens.coefficients)
    assert again.fisheye == fisheye
    assert info.header == c.header("optical", 7)
