"""Clouds as messages: the layout that others expect, and foreign layouts."""

from __future__ import annotations

import array

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.ros.messages import clouds as c

rng = np.random.default_rng(0)


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_cloud_message_round_trip(count):
    """Clouds survive the wire."""
    points = rng.normal(size=(count, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (count, 3), dtype=np.uint8)
    sent = c.cloud_message(c.colored_columns(points, colors), "base", 2_000_000_007)
    assert isinstance(sent.data, array.array)
    message = over_the_wire(sent)
    assert (message.width, message.height, message.point_step) == (count, 1, 16)
    assert [f.name for f in message.fields] == ["x", "y", "z", "rgb"]
    assert (message.header.frame_id, message.header.stamp.sec) == ("base", 2)
    assert message.header.stamp.nanosec == 7
    again, again_colors = c.points_from_cloud(message)
    np.testing.assert_array_equal(again, points)
    np.testing.assert_array_equal(again_colors, colors)


def test_cloud_message_not_contiguous():
    """Arrays need not be contiguous."""
    points = rng.normal(size=(3, 40)).astype(np.float32).T[::2]
    colors = rng.integers(0, 256, (40, 6), dtype=np.uint8)[::2, ::2]
    again, again_colors = c.points_from_cloud(
        c.cloud_message(c.colored_columns(points, colors), "base", 0)
    )
    np.testing.assert_array_equal(again, points)
    np.testing.assert_array_equal(again_colors, colors)


def test_packed_rgb_layout_of_pcl():
    """Rgb is packed as PCL reads it."""
    columns = c.colored_columns(np.zeros((1, 3), np.float32), np.array([[1, 2, 3]], np.uint8))
    message = c.cloud_message(columns, "", 0)
    assert message.data.tobytes()[12:] == bytes([3, 2, 1, 0])
    assert message.fields[3].datatype == PointField.FLOAT32


def test_points_from_cloud_foreign_layouts():
    """Big-endian doubles with padding, two rows, no colour."""
    row = np.zeros(
        3,
        np.dtype(
            {
                "names": ["z", "x", "y"],
                "formats": [">f8"] * 3,
                "offsets": [0, 8, 20],
                "itemsize": 32,
            }
        ),
    )
    row["x"], row["y"], row["z"] = [1, 2, 3], [4, 5, 6], [7, 8, 9]
    message = PointCloud2(
        height=2,
        width=3,
        is_bigendian=True,
        point_step=32,
        row_step=100,
        fields=[
            PointField(name=name, offset=offset, datatype=PointField.FLOAT64, count=1)
            for name, offset in (("z", 0), ("x", 8), ("y", 20))
        ],
        data=array.array("B", (row.tobytes() + bytes(4)) * 2),
    )
    points, colors = c.points_from_cloud(message)
    np.testing.assert_array_equal(points[3:], [[1, 4, 7], [2, 5, 8], [3, 6, 9]])
    assert not colors.any()
    message.height = 3
    with pytest.raises(InputError, match=r"296 bytes.*holds 200"):
        c.points_from_cloud(message)
    message.height = 2
    message.fields = message.fields[1:]
    with pytest.raises(InputError, match="no field z"):
        c.points_from_cloud(message)


def test_columns_from_cloud_all_types():
    """All kinds of fields."""
    count = 7
    columns = {
        **c.colored_columns(np.ones((count, 3), np.float32), np.full((count, 3), 9, np.uint8)),
        **c.normal_columns(rng.normal(size=(count, 3)).astype(np.float32)),
        "views": rng.integers(0, 2**32, count, dtype=np.uint32),
        "view_count": np.arange(count, dtype=np.uint8),
    }
    message = over_the_wire(c.cloud_message(columns, "base", 0))
    assert [f.name for f in message.fields] == list(columns)
    assert message.fields[-1].datatype == PointField.UINT8
    assert message.point_step % 4 == 0
    again = c.columns_from_cloud(message)
    for name, column in columns.items():
        np.testing.assert_array_equal(again[name], column)


def test_normal_columns_fields_of_gpd():
    """A cloud with normals has exactly the six fields that GPD reads."""
    points = rng.normal(size=(5, 3)).astype(np.float32)
    message = c.cloud_message({**c.xyz_columns(points), **c.normal_columns(points)}, "", 0)
    names = [(f.name, f.offset, f.datatype) for f in message.fields]
    assert names == [
        (name, 4 * i, PointField.FLOAT32)
        for i, name in enumerate(("x", "y", "z", "normal_x", "normal_y", "normal_z"))
    ]
    assert message.point_step == 24


def test_cloud_message_organised():
    """Organised clouds keep their rows."""
    points = rng.normal(size=(3, 4, 3)).astype(np.float32)
    points[1, 2] = np.nan
    colors = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    message = over_the_wire(c.cloud_message(c.colored_columns(points, colors), "f", 0, (3, 4)))
    assert (message.height, message.width, message.is_dense) == (3, 4, False)
    assert message.row_step == 4 * message.point_step
    again, again_colors = c.points_from_cloud(message)
    np.testing.assert_array_equal(again.reshape(3, 4, 3), points)
    np.testing.assert_array_equal(again_colors.reshape(3, 4, 3), colors)
