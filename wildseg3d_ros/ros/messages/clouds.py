"""Point clouds as messages and back: columns of NumPy arrays <-> sensor_msgs/PointCloud2."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.ros.messages.conversions import bytes_field, header

_FIELD_TYPES = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}
_TYPE_CODES = {np.dtype(kind): code for code, kind in _FIELD_TYPES.items()}
NORMAL_FIELDS = ("normal_x", "normal_y", "normal_z")
"""Names of a normal's fields, as PCL has them."""


def cloud_message(
    columns: Mapping[str, NDArray],
    frame_id: str,
    stamp_ns: int,
    size: tuple[int, int] | None = None,
) -> PointCloud2:
    """Message of columns, copied once into the layout of the wire.

    Args:
        columns: (M,) or (H, W) by field name, in the order of the fields; a field ``rgb`` is given
            as uint32 0x00RRGGBB and declared as float32, as PCL expects it.
        frame_id, stamp_ns: of the header.
        size: (height, width) of an organised cloud, which may hold NaN.
    """
    dtype = np.dtype(
        [(name, column.dtype.newbyteorder("<")) for name, column in columns.items()], align=True
    )
    count = next(iter(columns.values())).size
    packed = np.zeros(count, dtype)  # zeros: what the alignment leaves between fields goes out too
    for name, column in columns.items():
        packed[name] = column.reshape(-1)
    height, width = size or (1, count)
    offsets = {name: offset for name, (_, offset, *_) in (dtype.fields or {}).items()}
    return PointCloud2(
        header=header(frame_id, stamp_ns),
        height=height,
        width=width,
        fields=[
            PointField(
                name=name,
                offset=offsets[name],
                datatype=PointField.FLOAT32
                if name == "rgb"
                else _TYPE_CODES[column.dtype.newbyteorder("=")],
                count=1,
            )
            for name, column in columns.items()
        ],
        is_bigendian=False,
        point_step=dtype.itemsize,
        row_step=width * dtype.itemsize,
        data=bytes_field(packed),
        is_dense=size is None,
    )


def colored_columns(points: NDArray[np.float32], colors: NDArray[np.uint8]) -> dict[str, NDArray]:
    """Columns x, y, z, rgb of (..., 3) points and RGB colours."""
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return {**xyz_columns(points), "rgb": (red << 16) | (green << 8) | blue}


def xyz_columns(points: NDArray[np.float32]) -> dict[str, NDArray]:
    """Columns x, y, z of (..., 3) points."""
    return {name: points[..., axis] for axis, name in enumerate("xyz")}


def normal_columns(normals: NDArray[np.float32]) -> dict[str, NDArray]:
    """Columns normal_x, normal_y, normal_z of (..., 3) normals."""
    return {name: normals[..., axis] for axis, name in enumerate(NORMAL_FIELDS)}


def columns_from_cloud(message: PointCloud2) -> dict[str, NDArray]:
    """(M,) columns of all fields with one value a point, in this machine's byte order.

    A field ``rgb`` or ``rgba`` is read as the unsigned integer that its bits are.

    Raises:
        InputError: data that does not fit its layout.
    """
    order = ">" if message.is_bigendian else "<"
    height, width, step = message.height, message.width, message.point_step
    needed = message.row_step * (height - 1) + step * width if height * width else 0
    if len(message.data) < needed:
        raise InputError(
            f"a cloud of {width}x{height} points of {step} bytes needs {needed} bytes, but data "
            f"holds {len(message.data)}"
        )
    columns = {}
    for field in message.fields:
        if field.count > 1 or field.datatype not in _FIELD_TYPES:
            continue
        kind = "u4" if field.name in ("rgb", "rgba") else _FIELD_TYPES[field.datatype]
        dtype = np.dtype(order + kind)
        if not needed:
            columns[field.name] = np.zeros(0, dtype.newbyteorder("="))
            continue
        if field.offset + dtype.itemsize > step:
            raise InputError(f"field '{field.name}' ends beyond point_step {step}")
        column: NDArray = np.ndarray(
            (height, width),
            dtype,
            buffer=memoryview(message.data),
            offset=field.offset,
            strides=(message.row_step, step),
        )
        columns[field.name] = column.reshape(-1).astype(dtype.newbyteorder("="))
    return columns


def points_from_cloud(message: PointCloud2) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(M, 3) points and (M, 3) RGB colours of a cloud; colours are zero where it has none.

    Raises:
        InputError: no x, y, z, or data that does not fit its layout.
    """
    columns = columns_from_cloud(message)
    missing = [name for name in "xyz" if name not in columns]
    if missing:
        raise InputError(
            f"the cloud has no field {', '.join(missing)}; its fields are {sorted(columns)}"
        )
    points = np.stack([columns[name] for name in "xyz"], axis=-1).astype(np.float32)
    packed = columns.get("rgb", columns.get("rgba"))
    if packed is None:
        return points, np.zeros((len(points), 3), np.uint8)
    colors = np.stack([(packed >> shift) & 0xFF for shift in (16, 8, 0)], axis=-1)
    return points, colors.astype(np.uint8)
