"""Messages of image_transport's plugins `compressed` and `compressedDepth` -> NumPy."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from wildseg3d_ros.core.errors import ErrorCode, InputError

_DEPTH_HEAD = struct.Struct("<iff")
"""Before the PNG: kind of compression, and the two numbers of the inverse quantisation."""


def rgb_from_compressed(message: CompressedImage, who: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a JPEG or PNG message.

    Args:
        message: of the plugin ``compressed``.
        who: what the image is, for error text: "camera 'left'".

    Raises:
        InputError: data that cannot be decoded.
    """
    data = np.frombuffer(memoryview(message.data), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if decoded is None:
        raise InputError(
            f"{who}: compressed image of format '{message.format}' ({data.size} bytes) cannot be "
            "decoded; expected JPEG or PNG"
        )
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def depth_from_compressed(message: CompressedImage, who: str) -> NDArray[np.float32]:
    """(H, W) float32 metres of a depth message; 0 where nothing was measured.

    16UC1 is a PNG of millimetres. 32FC1 is a PNG of quantised inverse depth, which is finer close
    to the camera: z = a / (value - b).

    Args:
        message: of the plugin ``compressedDepth``.
        who: what the image is, for error text.

    Raises:
        InputError: another plugin's format, or data that cannot be decoded (BAD_DEPTH).
    """
    encoding, _, plugin = message.format.partition(";")
    encoding, plugin = encoding.strip(), plugin.strip()
    if encoding not in ("16UC1", "32FC1") or plugin not in (
        "compressedDepth",
        "compressedDepth png",
    ):
        raise InputError(
            f"{who}: unsupported format '{message.format}' of compressed depth; supported are "
            "'16UC1; compressedDepth png' and '32FC1; compressedDepth png'",
            ErrorCode.BAD_DEPTH,
        )
    raw = memoryview(message.data)
    pixels = None
    if len(raw) > _DEPTH_HEAD.size:
        _, a, b = _DEPTH_HEAD.unpack(raw[: _DEPTH_HEAD.size])
        packed = np.frombuffer(raw[_DEPTH_HEAD.size :], np.uint8)
        pixels = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise InputError(
            f"{who}: {len(raw)} bytes of format '{message.format}' hold no 16-bit PNG after "
            f"{_DEPTH_HEAD.size} bytes of parameters",
            ErrorCode.BAD_DEPTH,
        )
    if encoding == "16UC1":
        return pixels.astype(np.float32) * np.float32(0.001)
    distance = pixels.astype(np.float32) - np.float32(b)
    measured = (pixels > 0) & (distance > 0)
    return np.where(measured, np.float32(a) / np.where(measured, distance, 1), 0).astype(
        np.float32
    )
