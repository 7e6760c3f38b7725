"""ROS messages <-> NumPy, nothing else. What crosses the ROS border crosses it here.

Clouds do in :mod:`wildseg3d_ros.ros.messages.clouds`.

``cv_bridge`` is not available without an apt ROS, and all that is needed is a reshape with checks.
Images are checked for length, row padding and byte order, and errors say what to change.

Filling a ``data`` field goes through ``array.array``: assigning a NumPy array or a list makes
rclpy visit every byte (8 MB: 3.5 s against 4 ms).
"""

from __future__ import annotations

import array
import math
import sys
from typing import Any, Literal

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.depth import unsaturated
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    quaternion_from_rotation,
    rotation_from_quaternion,
)

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
_LAYOUT = {name: (kind, channels) for name, (kind, channels, _) in _COLOR.items()}
_LAYOUT |= {"16uc1": ("u2", 1), "32fc1": ("f4", 1)}
_LAYOUT |= {name.lower(): _LAYOUT[orders["rgb"]] for name, orders in UNNAMED_ORDER.items()}
COLOR_ENCODINGS = (*(name for name in _COLOR if name != "8uc1"), *UNNAMED_ORDER)
"""Encodings that :func:`rgb_from_image` reads."""
DEPTH_ENCODINGS = ("16UC1", "32FC1")
"""Encodings that :func:`depth_from_image` reads: millimetres and metres (REP 118)."""
_QUATERNION_TOLERANCE = 0.01
"""By which the squared norm may differ from 1: tf2 ignores other transforms, in all nodes."""


def nanoseconds(stamp: Time) -> int:
    """Integer nanoseconds of a message's stamp."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def time_message(stamp_ns: int) -> Time:
    """Stamp of integer nanoseconds."""
    sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def header(frame_id: str, stamp_ns: int) -> Header:
    """Header of a frame and integer nanoseconds."""
    return Header(frame_id=frame_id, stamp=time_message(stamp_ns))


def array_from_image(message: Image, who: str) -> NDArray:
    """(H, W) or (H, W, C) pixels of an image message in this machine's byte order.

    Of nv12 and nv21 they are (3 H / 2, W): the two colours, each of 2x2 pixels, lie below.

    Args:
        message: any encoding that this module knows.
        who: what the image is, for error text: "camera 'left'".

    Raises:
        InputError: unknown encoding, no pixels, or data that does not fit height, width and step.
    """
    key = message.encoding.lower()
    if key not in _LAYOUT:
        raise InputError(
            f"{who}: unsupported image encoding '{message.encoding}'; supported are "
            f"{', '.join(COLOR_ENCODINGS)} for colour and {', '.join(DEPTH_ENCODINGS)} for depth"
        )
    kind, channels = _LAYOUT[key]
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
    message: Image, who: str, unnamed_order: ChannelOrder = "bgr"
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
            f"{who}: encoding '{message.encoding}' is not a colour image; supported are "
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


def depth_from_image(message: Image, who: str, scale: float = 0.0) -> NDArray[np.float32]:
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
            f"{who}: unsupported depth encoding '{message.encoding}'; supported are 16UC1 "
            "(millimetres) and 32FC1 (metres)",
            ErrorCode.BAD_DEPTH,
        )
    return metres(array_from_image(message, who), scale)


def metres(pixels: NDArray, scale: float) -> NDArray[np.float32]:
    """Depth in metres of uint16 or float32 pixels; with a scale of 0, as REP 118 has their units:
    integers are millimetres, floats are metres."""
    scale = scale or (0.001 if pixels.dtype == np.uint16 else 1.0)
    return unsaturated(pixels).astype(np.float32) * np.float32(scale)


def image_from_array(
    pixels: NDArray, encoding: str, frame_id: str = "", stamp_ns: int = 0
) -> Image:
    """Image message of (H, W) or (H, W, C) pixels; the array need not be contiguous.

    Raises:
        ValueError: the encoding is unknown or does not fit the array.
    """
    layout = _LAYOUT.get(encoding.lower())
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if layout is None or pixels.ndim not in (2, 3):
        raise ValueError(f"encoding '{encoding}' for an array of shape {pixels.shape}")
    if (np.dtype(layout[0]), layout[1]) != (pixels.dtype.newbyteorder("="), channels):
        raise ValueError(
            f"encoding '{encoding}' takes {layout[1]} channel(s) of {np.dtype(layout[0])}, got "
            f"shape {pixels.shape} of {pixels.dtype}"
        )
    pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    return Image(
        header=header(frame_id, stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=sys.byteorder == "big",
        step=pixels.shape[1] * channels * pixels.itemsize,
        data=bytes_field(pixels),
    )


def image_from_mask(mask: NDArray[np.bool_], frame_id: str = "", stamp_ns: int = 0) -> Image:
    """mono8 message of an (H, W) mask: 255 on the object."""
    return image_from_array(mask.astype(np.uint8) * np.uint8(255), "mono8", frame_id, stamp_ns)


def matrix_from_transform(message: TransformStamped) -> NDArray[np.float64]:
    """(4, 4) ``parent_from_child``: parent is ``header.frame_id``, child ``child_frame_id``.

    Raises:
        ValueError: numbers that are not finite, or a quaternion whose length is not 1.
    """
    t, q = message.transform.translation, message.transform.rotation
    translation = np.array([t.x, t.y, t.z])
    if not np.isfinite(translation).all():
        raise ValueError(f"translation {translation.tolist()} is not finite")
    norm = math.hypot(q.x, q.y, q.z, q.w)
    if not abs(norm**2 - 1) < _QUATERNION_TOLERANCE:
        raise ValueError(f"quaternion of norm {norm:.3g}; TF takes those of norm 1")
    return make_transform(rotation_from_quaternion([q.x, q.y, q.z, q.w]), translation)


def transform_from_matrix(
    parent_from_child: NDArray, parent: str, child: str, stamp_ns: int = 0
) -> TransformStamped:
    """Message of a rigid (4, 4) transform."""
    transform = Transform(
        translation=vector_message(parent_from_child[:3, 3]),
        rotation=quaternion_message(parent_from_child[:3, :3]),
    )
    return TransformStamped(
        header=header(parent, stamp_ns), child_frame_id=child, transform=transform
    )


def matrix_from_pose(message: Pose) -> NDArray[np.float64]:
    """(4, 4) ``frame_from_body`` of a pose.

    Raises:
        ValueError: a quaternion without length.
    """
    p, q = message.position, message.orientation
    return make_transform(rotation_from_quaternion([q.x, q.y, q.z, q.w]), [p.x, p.y, p.z])


def point_message(point: NDArray) -> Point:
    """Message of (3,) coordinates."""
    x, y, z = (float(value) for value in point)
    return Point(x=x, y=y, z=z)


def vector_message(vector: NDArray) -> Vector3:
    """Message of (3,) components."""
    x, y, z = (float(value) for value in vector)
    return Vector3(x=x, y=y, z=z)


def quaternion_message(rotation: NDArray) -> Quaternion:
    """Message of a (3, 3) rotation."""
    x, y, z, w = (float(value) for value in quaternion_from_rotation(rotation))
    return Quaternion(x=x, y=y, z=z, w=w)


def bytes_field(contiguous: NDArray) -> Any:
    """Value of a field ``data`` with the bytes of an array, structured or not."""
    data = array.array("B")
    if contiguous.size:
        # A structured array has no plain buffer format, its bytes have.
        data.frombytes(contiguous.reshape(-1).view(np.uint8).data)
    return data
