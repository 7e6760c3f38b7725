"""Messages of image_transport's plugins, written here as the plugins write them."""

from __future__ import annotations

import array
import contextlib
import resource
import struct

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.streams import rvl as rvl_module
from wildseg3d_ros.streams.compressed import depth_from_compressed, rgb_from_compressed

WHO = "camera 'left'"
DEPTH = np.random.default_rng(3).uniform(0.3, 4.0, (20, 30)).astype(np.float32)
DEPTH[:5, :5] = 0


def message(layout: str, pixels: np.ndarray, a: float = 0.0, b: float = 0.0) -> CompressedImage:
    png = cv2.imencode(".png", pixels)[1].tobytes()
    return CompressedImage(
        format=layout, data=array.array("B", struct.pack("<iff", 0, a, b) + png)
    )


def test_depth_from_compressed_millimetres():
    pixels = np.rint(1000 * DEPTH).astype(np.uint16)
    for layout in (
        "16UC1; compressedDepth", "16UC1; compressedDepth png", "mono16; compressedDepth png",
    ):  # fmt: skip
        found = depth_from_compressed(message(layout, pixels), WHO)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, DEPTH, atol=0.00051)


def test_depth_from_compressed_inverse_depth():
    """As compressed_depth_image_transport with depth_max 10 and depth_quantization 100."""
    quantization, largest = 100.0, 10.0
    a = quantization * (quantization + 1.0)
    b = 1.0 - a / largest
    measured = DEPTH > 0
    inverse = np.where(measured, a / np.where(measured, DEPTH, 1) + b, 0).astype(np.uint16)
    found = depth_from_compressed(message("32FC1; compressedDepth png", inverse, a, b), WHO)
    np.testing.assert_array_equal(found > 0, measured)
    # One step of the value is z^2 / a metres.
    assert (np.abs(found - DEPTH) <= DEPTH**2 / a + 1e-6).all()


def rvl(values: np.ndarray) -> bytes:
    """Wilson's coder, number by number, as the plugin runs it."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            more = number >> 3
            nibbles.append(number & 7 | (8 if more else 0))
            number = more
            if not number:
                return

    flat, at, last = values.ravel().tolist(), 0, 0
    while at < len(flat):
        start = at
        while at < len(flat) and flat[at] == 0:
            at += 1
        put(at - start)
        start = at
        while at < len(flat) and flat[at]:
            at += 1
        put(at - start)
        for value in flat[start:at]:
            step = value - last
            put((step << 1) ^ (step >> 31))
            last = value
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in
             range(0, len(nibbles), 8)]  # fmt: skip
    height, width = values.shape
    return struct.pack("<II", width, height) + struct.pack(f"<{len(words)}I", *words)


def rvl_message(layout: str, pixels: np.ndarray, a: float = 0.0, b: float = 0.0):
    return CompressedImage(
        format=layout, data=array.array("B", struct.pack("<iff", 0, a, b) + rvl(pixels))
    )


@pytest.mark.parametrize("kind", ["smooth", "noise", "none", "all", "jumps"])
def test_depth_from_compressed_rvl(kind):
    rng = np.random.default_rng(5)
    pixels = {
        "smooth": np.rint(1000 * DEPTH).astype(np.uint16),
        "noise": rng.integers(0, 3, (31, 17)).astype(np.uint16),
        "none": np.zeros((20, 30), np.uint16),
        "all": rng.integers(1, 65535, (8, 9)).astype(np.uint16),
        "jumps": np.array([[65534, 1, 0, 65534], [0, 0, 1, 65534]], np.uint16),
    }[kind]
    found = depth_from_compressed(rvl_message("16UC1; compressedDepth rvl", pixels), WHO)
    np.testing.assert_allclose(found, pixels * 0.001, rtol=1e-6)
    png = depth_from_compressed(message("32FC1; compressedDepth png", pixels, 9.0, -3.0), WHO)
    found = depth_from_compressed(
        rvl_message("32FC1; compressedDepth rvl", pixels, 9.0, -3.0), WHO
    )
    np.testing.assert_array_equal(found, png)


def test_depth_from_compressed_damaged_rvl():
    """Whatever the bytes are: depth of the size that they say, or an InputError."""
    good = rvl_message("16UC1; compressedDepth rvl", np.rint(1000 * DEPTH).astype(np.uint16))
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(good.data)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(20, len(data))] = rng.integers(256)
        data = data[: rng.integers(20, len(data))] if rng.integers(2) else data
        spoilt = CompressedImage(format=good.format, data=array.array("B", bytes(data)))
        try:
            assert depth_from_compressed(spoilt, WHO).shape == DEPTH.shape
        except InputError:
            refused += 1
    assert refused > 100
    huge = struct.pack("<iffII", 0, 0.0, 0.0, 60000, 60000) + bytes(64)
    with pytest.raises(InputError, match="60000x60000 pixels"):
        depth_from_compressed(
            CompressedImage(format=good.format, data=array.array("B", huge)), WHO
        )


@pytest.mark.parametrize("count", [2, 10, 50])
def test_depth_from_compressed_rvl_is_read_in_parts(count, monkeypatch):
    """Numbers of two nibbles, some of which lie on either side of a part's end."""
    monkeypatch.setattr(rvl_module, "_PART", 4)
    pixels = np.tile(np.array([9, 21], np.uint16), count // 2)[None]
    steps = np.diff(pixels[0].astype(np.int64), prepend=0)
    nibbles = [0, *groups(pixels.size)]
    body = np.stack([((steps << 1) ^ (steps >> 63)) & 7 | 8, ((steps << 1) ^ (steps >> 63)) >> 3])
    nibbles = np.concatenate([nibbles, body.T.ravel()]).astype(np.uint8)
    nibbles = np.pad(nibbles, (0, -len(nibbles) % 8)).reshape(-1, 4, 2)
    words = (nibbles[..., 0] << 4 | nibbles[..., 1])[:, ::-1]
    data = struct.pack("<iffII", 0, 0.0, 0.0, pixels.size, 1) + words.tobytes()
    made = CompressedImage(format="16UC1; compressedDepth rvl", data=array.array("B", data))
    np.testing.assert_array_equal(np.rint(1000 * depth_from_compressed(made, WHO)), pixels)


def groups(number: int) -> list[int]:
    """The nibbles of a number."""
    found = [number & 7]
    while number := number >> 3:
        found[-1] |= 8
        found.append(number & 7)
    return found


def test_depth_from_compressed_rvl_of_more_bytes_than_pixels():
    """What follows the last pixel is not read: of 20 MB it would take a gigabyte."""
    data = struct.pack("<iffII", 0, 0.0, 0.0, 1, 1) + bytes([0x10, 0, 0, 0]) + bytes(2 * 10**7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = CompressedImage(format="16UC1; compressedDepth rvl", data=array.array("B", data))
    with contextlib.suppress(InputError):
        depth_from_compressed(made, WHO)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_texts_of_messages_are_shown_short():
    made = CompressedImage(format="16UC1\n; zstd\0" * 1000, data=array.array("B", bytes(40)))
    with pytest.raises(InputError) as error:
        depth_from_compressed(made, WHO)
    assert len(str(error.value)) < 600
    assert str(error.value).isprintable()


def test_depth_from_compressed_scale():
    pixels = np.rint(1000 * DEPTH).astype(np.uint16)
    for made in (message("16UC1; compressedDepth png", pixels),
                 rvl_message("16UC1; compressedDepth rvl", pixels)):  # fmt: skip
        found = depth_from_compressed(made, WHO, 0.00025)
        np.testing.assert_allclose(found, pixels * 0.00025, rtol=1e-6)


def test_compressed_is_of_the_plugins_kinds():
    """JPEG, PNG and TIFF for colour, PNG for depth."""
    colors = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    bmp, tiff = (cv2.imencode(end, colors)[1].tobytes() for end in (".bmp", ".tiff"))
    with pytest.raises(InputError, match="it is BMP; expected PNG"):
        rgb_from_compressed(CompressedImage(format="bmp", data=array.array("B", bmp)), WHO)
    sent = CompressedImage(format="bgr8; tiff compressed bgr8", data=array.array("B", tiff))
    np.testing.assert_array_equal(rgb_from_compressed(sent, WHO), colors[..., ::-1])
    depth = array.array("B", bytes(12) + tiff)
    with pytest.raises(InputError, match="it is TIFF; expected PNG"):
        depth_from_compressed(
            CompressedImage(format="16UC1; compressedDepth png", data=depth), WHO
        )


def test_compressed_image_bomb():
    """A PNG of 30,000 x 30,000 pixels is refused before it is decoded."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBBBBB", 13, b"IHDR", 30000, 30000, 8, 2, 0, 0, 0
    )
    bomb = CompressedImage(format="png", data=array.array("B", head + bytes(100)))
    with pytest.raises(InputError, match="30000x30000 pixels.*at most 85 megapixels"):
        rgb_from_compressed(bomb, WHO)


@pytest.mark.parametrize("coder", ["png", "rvl"])
def test_depth_from_compressed_of_more_pixels_than_a_camera_has(coder):
    """As large as an image that is read, and refused before it is decoded."""
    sizes = {
        "png": b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 4097, 3200, 16, 0, 0, 0, 0),
        "rvl": struct.pack("<II", 4097, 3200),
    }
    data = array.array("B", bytes(12) + sizes[coder] + bytes(100))
    bomb = CompressedImage(format=f"32FC1; compressedDepth {coder}", data=data)
    with pytest.raises(InputError, match="4097x3200 pixels.*at most 13 megapixels"):
        depth_from_compressed(bomb, WHO)


@pytest.mark.parametrize(
    ("layout", "data"),
    [
        ("16UC1; compressedDepth rvl", b"\x00" * 40),
        ("rgb8; jpeg compressed bgr8", b"\x00" * 40),
        ("", b""),
        ("16UC1; compressedDepth png", b""),
        ("16UC1; compressedDepth png", b"\x00" * 40),
        (
            "16UC1; compressedDepth png",
            bytes(12) + cv2.imencode(".png", DEPTH[..., None].astype(np.uint8))[1].tobytes(),
        ),
    ],
)
def test_depth_from_compressed_unreadable(layout, data):
    """Depth that cannot be read."""
    with pytest.raises(InputError, match="camera 'left'") as refused:
        depth_from_compressed(CompressedImage(format=layout, data=array.array("B", data)), WHO)
    assert refused.value.code == ErrorCode.BAD_DEPTH


def test_rgb_from_compressed_jpeg_and_png():
    smooth = np.stack(np.meshgrid(np.arange(0, 240, 4), np.arange(0, 160, 4)), axis=-1)
    rgb = np.dstack([smooth, np.full(smooth.shape[:2], 90)]).astype(np.uint8)
    for kind, tolerance in ((".png", 0), (".jpg", 12)):
        data = array.array("B", cv2.imencode(kind, rgb[..., ::-1])[1].tobytes())
        found = rgb_from_compressed(CompressedImage(format=kind, data=data), WHO)
        assert np.abs(found.astype(int) - rgb).max() <= tolerance


@pytest.mark.parametrize("deep", [False, True])
def test_rgb_from_compressed_bayer(deep):
    """The plugin compresses the mosaic as a picture of greys."""
    mosaic = np.full((16, 16), 120, np.uint8)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 200, 40
    pixels = mosaic.astype(np.uint16) * 257 if deep else mosaic
    data = array.array("B", cv2.imencode(".png", pixels)[1].tobytes())
    layout = f"bayer_rggb{16 if deep else 8}; png compressed "
    rgb = rgb_from_compressed(CompressedImage(format=layout, data=data), WHO)
    np.testing.assert_array_equal(rgb[4:12, 4:12], np.broadcast_to([200, 120, 40], (8, 8, 3)))
