"""Messages of image_transport's plugins, written here as the plugins write them."""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.ros.messages.compressed import depth_from_compressed, rgb_from_compressed

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
    for layout in ("16UC1; compressedDepth", "16UC1; compressedDepth png"):
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
