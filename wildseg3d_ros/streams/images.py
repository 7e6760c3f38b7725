"""Image messages -> NumPy.

``cv_bridge`` is not available without an apt ROS, and all that is needed is a reshape with checks.
Images are checked for length, row padding and byte order, and errors say what to change.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.core.geometry.depth import unsaturated
from wildseg3d_ros.streams.messages import ImageMessage

ChannelOrder = Literal["bgr", "rgb"]
_COLOR: dict[str, tuple[str, int, int | None]] = {
    "rgb8": ("u1", 3, None),
    "bgr8": ("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": ("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": ("u1", 4, cv2.COLOR_BGRA2RGB),
    "mono8": ("u1", 1, cv2.COLOR_GRAY2RGB),
    "8uc1": ("u1", 1, cv2.COLOR_GRAY2RGB),
    "yuv422": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": ("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": ("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": ("u1", 1, cv2.COLOR_YUV2RGB_NV12),
    "nv21": ("u1", 1, cv2.COLOR_YUV2RGB_NV21),
}
"""Type, channels and conversion to RGB by encoding. YUV is of ITU-R BT.601 with limited range."""
_COLOR |= {
    f"{name[:-1]}16": ("u2", *_COLOR[name][1:])
    for name in ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
}
# OpenCV names a Bayer pattern by the 2x2 block one pixel down and right of the corner, ROS by the
# corner itself: its rggb is OpenCV's BG.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_COLOR |= {f"bayer_{pattern}8": ("u1", 1, code) for pattern, code in _BAYER.items()}
_COLOR |= {f"bayer_{pattern}16": ("u2", 1, code) for pattern, code in _BAYER.items()}
UNNAMED_ORDER = {
    f"{bits}UC{channels}": {
        order: f"{order}{'a' * (channels - 3)}{bits}" for order in ("bgr", "rgb")
    }
    for bits in (8, 16)
    for channels in (3, 4)
}
"""Encodings that do not say the order of their channels, and what each order makes of them."""
_PLANES = ("nv12", "nv21")
"""Encodings of an image of H rows of brightness above H / 2 rows of colour."""
LAYOUT = {name: (kind, channels) for name, (kind, channels, _) in _COLOR.items()}
LAYOUT |= {"16uc1": ("u2", 1), "32fc1": ("f4", 1)}
LAYOUT |= {name.lower(): LAYOUT[orders["rgb"]] for name, orders in UNNAMED_ORDER.items()}
"""Type and channels by encoding, in lower case."""
COLOR_ENCODINGS = (*(name for name in _COLOR if name != "8uc1"), *UNNAMED_ORDER)
"""Encodings that :func:`rgb_from_image` reads."""
MOST_DEPTH = 13_000_000
"""Pixels of depth in a message: cameras of depth have up to 8 million, and depth that a driver
brings to the largest colour image beside one has 4096x3072."""
DEPTH_ENCODINGS = ("16UC1", "32FC1")
"""Encodings that :func:`depth_from_image` reads: millimetres and metres (REP 118)."""


def array_from_image(message: ImageMessage, who: str) -> NDArray:
    """(H, W) or (H, W, C) pixels of an image message in this machine's byte order.

    Of nv12 and nv21 they are (3 H / 2, W): the two colours, each of 2x2 pixels, lie below.

    Args:
        message: any encoding that this module knows.
        who: what the image is, for error text: "camera 'left'".

    Raises:
        InputError: unknown encoding, no pixels, or data that does not fit height, width and step.
    """
    key = message.encoding.lower()
    if key not in LAYOUT:
        raise InputError(
            f"{who}: unsupported image encoding '{shown(message.encoding)}'; supported are "
            f"{', '.join(COLOR_ENCODINGS)} for colour and {', '.join(DEPTH_ENCODINGS)} for depth"
        )
    kind, channels = LAYOUT[key]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = message.height, message.width, message.step
    row = width * channels * dtype.itemsize
    if height == 0 or width == 0:
        raise InputError(f"{who}: the image is empty ({width}x{height})")
    if (channels == 2 and width % 2) or (key in _PLANES and (width % 2 or height % 2)):
        raise InputError(
            f"{who}: {message.encoding} shares colours between pixels, so that width and, where "
            f"rows share them, height are even; got {width}x{height}"
        )
    if key in _PLANES:
        height += height // 2
    if step < row:
        raise InputError(
            f"{who}: a row of {width} {message.encoding} pixels has {row} bytes but step is {step}"
        )
    # Padding after the last row may be left out.
    needed = step * (height - 1) + row
    if len(message.data) < needed:
        raise InputError(
            f"{who}: {width}x{message.height} pixels of {message.encoding} with step {step} need "
            f"{needed} bytes, but data holds {len(message.data)}"
        )
    pixels: NDArray = np.ndarray(
        (height, width, channels),
        dtype,
        buffer=memoryview(message.data),
        strides=(step, channels * dtype.itemsize, dtype.itemsize),
    )
    pixels = np.ascontiguousarray(pixels, dtype=dtype.newbyteorder("="))
    return pixels[..., 0] if channels == 1 else pixels


def rgb_from_image(
    message: ImageMessage, who: str, unnamed_order: ChannelOrder = "bgr"
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a colour image; 16 bits are scaled to 8.

    Args:
        message: of one of :data:`COLOR_ENCODINGS`.
        who: what the image is, for error text.
        unnamed_order: of the channels of 8UC3 and the like, which do not say it.

    Raises:
        InputError: as :func:`array_from_image`, or an encoding that is not a colour image.
    """
    orders = UNNAMED_ORDER.get(message.encoding.upper())
    key = orders[unnamed_order] if orders else message.encoding.lower()
    if key not in _COLOR:
        raise InputError(
            f"{who}: encoding '{shown(message.encoding)}' is not a colour image; supported are "
            f"{', '.join(COLOR_ENCODINGS)}"
        )
    pixels = array_from_image(message, who)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    code = _COLOR[key][2]
    return pixels if code is None else np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def bayer_code(encoding: str) -> int | None:
    """OpenCV's conversion to RGB of a Bayer encoding; None of others."""
    key = encoding.lower()
    return _COLOR[key][2] if key in _COLOR and key.startswith("bayer_") else None


def depth_from_image(message: ImageMessage, who: str, scale: float = 0.0) -> NDArray[np.float32]:
    """(H, W) float32 metres; not finite and 0 values are kept as they are.

    Args:
        message: of one of :data:`DEPTH_ENCODINGS`.
        who: what the image is, for error text.
        scale: metres per unit; 0 for that of the encoding.

    Raises:
        InputError: as :func:`array_from_image`, or an encoding that is not depth (BAD_DEPTH).
    """
    key = message.encoding.lower()
    if key not in ("16uc1", "mono16", "32fc1"):
        raise InputError(
            f"{who}: unsupported depth encoding '{shown(message.encoding)}'; supported are "
            "16UC1 (millimetres) and 32FC1 (metres)",
            ErrorCode.BAD_DEPTH,
        )
    check_depth_size(message.height, message.width, who)
    return metres(array_from_image(message, who), scale)


def metres(pixels: NDArray, scale: float) -> NDArray[np.float32]:
    """Depth in metres of uint16 or float32 pixels; with a scale of 0, as REP 118 has their units:
    integers are millimetres, floats are metres."""
    scale = scale or (0.001 if pixels.dtype == np.uint16 else 1.0)
    depth = unsaturated(pixels).astype(np.float32)
    depth *= np.float32(scale)
    return depth


def check_depth_size(height: int, width: int, who: str) -> None:
    """Raises InputError for depth without pixels, or of more than a depth camera has."""
    if not 0 < height * width <= MOST_DEPTH:
        raise InputError(
            f"{who}: it says that it has {width}x{height} pixels; depth in messages has at most "
            f"{MOST_DEPTH / 1e6:.0f} megapixels",
            ErrorCode.BAD_DEPTH,
        )
