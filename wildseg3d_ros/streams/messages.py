"""The fields of ROS messages that are read, as rclpy and rosbags both have them."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_quaternion

_QUATERNION_TOLERANCE = 0.01
"""By which the squared norm may differ from 1: tf2 ignores other transforms, in all nodes."""


@runtime_checkable
class ImageMessage(Protocol):
    """sensor_msgs/Image."""

    @property
    def header(self) -> Any:
        """Stamp and frame."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def encoding(self) -> str:
        """Of the pixels."""
        ...

    @property
    def is_bigendian(self) -> int:
        """Order of the bytes."""
        ...

    @property
    def step(self) -> int:
        """Bytes of a row."""
        ...

    @property
    def data(self) -> Any:
        """Bytes."""
        ...


@runtime_checkable
class CompressedMessage(Protocol):
    """sensor_msgs/CompressedImage."""

    @property
    def header(self) -> Any:
        """Stamp and frame."""
        ...

    @property
    def format(self) -> str:
        """Of the data."""
        ...

    @property
    def data(self) -> Any:
        """Bytes."""
        ...


class CameraInfoMessage(Protocol):
    """sensor_msgs/CameraInfo."""

    @property
    def header(self) -> Any:
        """Stamp and frame."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def distortion_model(self) -> str:
        """Of the lens."""
        ...

    @property
    def d(self) -> Any:
        """Coefficients of distortion."""
        ...

    @property
    def k(self) -> Any:
        """Intrinsics, 9 numbers."""
        ...

    @property
    def p(self) -> Any:
        """Projection, 12 numbers."""
        ...

    @property
    def binning_x(self) -> int:
        """Pixels in one."""
        ...

    @property
    def binning_y(self) -> int:
        """Pixels in one."""
        ...

    @property
    def roi(self) -> Any:
        """Region of interest."""
        ...


class TransformMessage(Protocol):
    """geometry_msgs/TransformStamped."""

    @property
    def header(self) -> Any:
        """Stamp and frame."""
        ...

    @property
    def child_frame_id(self) -> str:
        """The frame that is placed."""
        ...

    @property
    def transform(self) -> Any:
        """Translation and rotation."""
        ...


Picture = ImageMessage | CompressedMessage


def nanoseconds(stamp: Any) -> int:
    """Integer nanoseconds of a message's stamp (builtin_interfaces/Time)."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def matrix_from_transform(message: TransformMessage) -> NDArray[np.float64]:
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
