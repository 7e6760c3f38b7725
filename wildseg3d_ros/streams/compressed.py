"""Messages of image_transport's plugins `compressed` and `compressedDepth` -> NumPy."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.files.pictures import decode_image
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.core.geometry.depth import EVERY_STEP, looked_up
from wildseg3d_ros.streams.images import MOST_DEPTH, bayer_code, check_depth_size, metres
from wildseg3d_ros.streams.messages import CompressedMessage
from wildseg3d_ros.streams.rvl import decode_rvl

_KINDS = ("PNG", "JPEG", "TIFF")
_DEPTH_HEAD = struct.Struct("<iff")
"""Before the picture: kind of compression, and the two numbers of the inverse quantisation."""
_RVL_HEAD = struct.Struct("<II")
"""Before RVL: width and height."""


def rgb_from_compressed(message: CompressedMessage, who: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a JPEG, PNG or TIFF message.

    Args:
        message: of the plugin ``compressed``.
        who: what the image is, for error text: "camera 'left'".

    Raises:
        InputError: data that cannot be decoded.
    """
    # The plugin takes a Bayer image for one of greys.
    mosaic = bayer_code(message.format.partition(";")[0].strip())
    flags = cv2.IMREAD_COLOR if mosaic is None else cv2.IMREAD_UNCHANGED
    try:
        decoded = decode_image(memoryview(message.data), who, flags, kinds=_KINDS)
    except InputError as error:
        raise InputError(
            f"{who}: compressed image of format '{shown(message.format)}' "
            f"({len(message.data)} bytes) cannot be decoded; expected JPEG, PNG or TIFF: {error}"
        ) from error
    if decoded.dtype == np.uint16:
        decoded = (decoded >> 8).astype(np.uint8)
    if mosaic is None or decoded.ndim == 3:
        return np.asarray(cv2.cvtColor(decoded[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, mosaic), np.uint8)


def depth_from_compressed(
    message: CompressedMessage, who: str, scale: float = 0.0
) -> NDArray[np.float32]:
    """(H, W) float32 metres of a depth message; 0 where nothing was measured.

    16UC1 is stored as it is. 32FC1 is stored as quantised inverse depth, which is finer close to
    the camera: z = a / (value - b). Either is a PNG or, after its width and height, RVL.

    Args:
        message: of the plugin ``compressedDepth``.
        who: what the image is, for error text.
        scale: metres per unit; 0 for that of the encoding.

    Raises:
        InputError: another plugin's format, or data that cannot be decoded (BAD_DEPTH).
    """
    encoding, _, plugin = message.format.partition(";")
    encoding, plugin = encoding.strip(), plugin.strip()
    coders = {"compressedDepth": _png, "compressedDepth png": _png, "compressedDepth rvl": _rvl}
    if encoding not in ("16UC1", "mono16", "32FC1") or plugin not in coders:
        raise InputError(
            f"{who}: unsupported format '{shown(message.format)}' of compressed depth; supported "
            "are '16UC1; compressedDepth png', '32FC1; compressedDepth png' and both with rvl",
            ErrorCode.BAD_DEPTH,
        )
    raw = memoryview(message.data)
    try:
        _, a, b = _DEPTH_HEAD.unpack_from(raw)
        pixels = coders[plugin](raw[_DEPTH_HEAD.size :], "the picture")
    except (struct.error, ValueError, InputError) as error:
        raise InputError(
            f"{who}: {len(raw)} bytes of format '{shown(message.format)}' hold no 16-bit depth "
            f"after {_DEPTH_HEAD.size} bytes of parameters: {error}",
            ErrorCode.BAD_DEPTH,
        ) from error
    if encoding != "32FC1":
        return metres(pixels, scale)
    distance = EVERY_STEP.astype(np.float32) - np.float32(b)
    measured = (EVERY_STEP > 0) & (distance > 0)
    table = np.where(measured, np.float32(a) / np.where(measured, distance, 1), 0)
    return looked_up(pixels, metres(table.astype(np.float32), scale))


def _png(data: memoryview, who: str) -> NDArray[np.uint16]:
    kinds = _KINDS[:1]
    pixels = decode_image(data, who, cv2.IMREAD_UNCHANGED, keeps=4, kinds=kinds, most=MOST_DEPTH)
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ValueError(f"a picture of shape {pixels.shape} and type {pixels.dtype}")
    return pixels


def _rvl(data: memoryview, who: str) -> NDArray[np.uint16]:
    width, height = _RVL_HEAD.unpack_from(data)
    check_depth_size(height, width, who)
    return decode_rvl(data[_RVL_HEAD.size :], width * height).reshape(height, width)
