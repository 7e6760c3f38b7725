"""Bags of constructed cameras, written without ROS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from wildseg3d_ros.core.geometry.transforms import quaternion_from_rotation
from wildseg3d_ros.core.types import View

TYPES = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000


def make(kind: str, **fields: Any) -> Any:
    """A message: make("sensor_msgs/msg/Image", height=...)."""
    return TYPES.types[kind](**fields)


def header(frame: str, stamp_ns: int) -> Any:
    """std_msgs/Header."""
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image(array: NDArray, encoding: str, frame: str, stamp_ns: int) -> Any:
    """sensor_msgs/Image of (H, W) or (H, W, 3) pixels."""
    height, width = array.shape[:2]
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return make(
        "sensor_msgs/msg/Image",
        header=header(frame, stamp_ns),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=len(data) // height,
        data=data,
    )


def compressed(data: bytes, kind: str, frame: str, stamp_ns: int) -> Any:
    """sensor_msgs/CompressedImage."""
    pixels = np.frombuffer(data, np.uint8)
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=header(frame, stamp_ns),
        format=kind,
        data=pixels,
    )


def camera_info(view: View, frame: str, stamp_ns: int) -> Any:
    """sensor_msgs/CameraInfo of a pinhole."""
    K = np.eye(3) if view.K is None else view.K
    height, width = view.size
    region = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=header(frame, stamp_ns),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=np.pad(K, ((0, 0), (0, 1))).ravel(),
        binning_x=0,
        binning_y=0,
        roi=make("sensor_msgs/msg/RegionOfInterest", **region),
    )


def transforms(stamp_ns: int, *links: tuple[str, str, NDArray]) -> Any:
    """tf2_msgs/TFMessage of (parent, child, parent_from_child)."""
    found = []
    for parent, child, pose in links:
        x, y, z = (float(v) for v in pose[:3, 3])
        quat = (float(v) for v in quaternion_from_rotation(pose[:3, :3]))
        found.append(
            make(
                "geometry_msgs/msg/TransformStamped",
                header=header(parent, stamp_ns),
                child_frame_id=child,
                transform=make(
                    "geometry_msgs/msg/Transform",
                    translation=make("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
                    rotation=make(
                        "geometry_msgs/msg/Quaternion", **dict(zip("xyzw", quat, strict=True))
                    ),
                ),
            )
        )
    return make("tf2_msgs/msg/TFMessage", transforms=found)


def camera_messages(
    name: str, view: View, stamp_ns: int, frame: str = ""
) -> list[tuple[str, int, Any]]:
    """Topics, times and messages of a camera with realsense2_camera's names."""
    frame = frame or f"{name}_color_optical_frame"
    found = [
        (f"/{name}/color/camera_info", camera_info(view, frame, stamp_ns)),
        (f"/{name}/color/image_raw", image(view.image, "rgb8", frame, stamp_ns)),
    ]
    if view.depth is not None:
        depth = image(view.depth, "32FC1", frame, stamp_ns)
        found.append((f"/{name}/aligned_depth_to_color/image_raw", depth))
    return [(topic, stamp_ns, message) for topic, message in found]


def fixed_cameras(
    views: Sequence[View], moments: int = 2, world: str = "world"
) -> list[tuple[str, int, Any]]:
    """Messages of views as fixed cameras, a tenth of a second apart, with their poses on
    /tf_static."""
    links = [
        (world, f"{view.name}_color_optical_frame", view.world_from_cam_prior)
        for view in views
        if view.world_from_cam_prior is not None
    ]
    found = [("/tf_static", START_NS, transforms(START_NS, *links))] if links else []
    for moment in range(moments):
        stamp_ns = START_NS + moment * 100_000_000
        for view in views:
            found += camera_messages(view.name, view, stamp_ns)
    return found


def write_bag(
    path: Path,
    messages: Iterable[tuple[str, int, Any]],
    storage: str = "mcap",
    compression: str = "none",
) -> Path:
    """Writes (topic, nanoseconds, message) as a bag.

    Args:
        path: a folder that is not there.
        storage: mcap or sqlite3.
        compression: none, message, file, or storage (of mcap alone).
    """
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    known: dict[str, Any] = {}
    with writer:
        for topic, stamp_ns, message in messages:
            kind = message.__msgtype__
            if topic not in known:
                known[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(known[topic], stamp_ns, TYPES.serialize_cdr(message, kind))
    return path
