"""NumPy -> ROS messages, nothing else; what is read of messages is in
:mod:`wildseg3d_ros.streams`.

Clouds are in :mod:`wildseg3d_ros.ros.messages.clouds`.

Filling a ``data`` field goes through ``array.array``: assigning a NumPy array or a list makes
rclpy visit every byte (8 MB: 3.5 s against 4 ms).
"""

from __future__ import annotations

import array
import sys
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    quaternion_from_rotation,
    rotation_from_quaternion,
)
from wildseg3d_ros.streams.images import LAYOUT


def time_message(stamp_ns: int) -> Time:
    """Stamp of integer nanoseconds."""
    sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def header(frame_id: str, stamp_ns: int) -> Header:
    """Header of a frame and integer nanoseconds."""
    return Header(frame_id=frame_id, stamp=time_message(stamp_ns))


def image_from_array(
    pixels: NDArray, encoding: str, frame_id: str = "", stamp_ns: int = 0
) -> Image:
    """Image message of (H, W) or (H, W, C) pixels; the array need not be contiguous.

    Raises:
        ValueError: the encoding is unknown or does not fit the array.
    """
    layout = LAYOUT.get(encoding.lower())
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


def info_from_lens(lens: Lens, frame_id: str = "", stamp_ns: int = 0) -> CameraInfo:
    """The calibration of a camera with intrinsics, of its images as they are published."""
    assert lens.K is not None
    count = len(lens.coefficients)
    model, length = "plumb_bob", 5
    if lens.fisheye and count:
        model, length = "equidistant", 4
    elif count > length:
        model, length = "rational_polynomial", count
    height, width = lens.size
    return CameraInfo(
        header=header(frame_id, stamp_ns),
        height=height,
        width=width,
        distortion_model=model,
        d=[*map(float, lens.coefficients), *[0.0] * (length - count)],
        k=lens.K.ravel(),
        r=np.eye(3).ravel(),
        p=np.pad(lens.K, ((0, 0), (0, 1))).ravel(),
    )


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
