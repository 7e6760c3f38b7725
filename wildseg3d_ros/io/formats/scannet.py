"""Scenes as ScanNet's exporter writes them (Dai et al., CVPR 2017).

``color/0.jpg``, ``depth/0.png`` in millimetres, ``pose/0.txt`` (4x4 camera-to-world, OpenCV's
axes, infinite where tracking was lost) and ``intrinsic/intrinsic_color.txt`` with
``intrinsic_depth.txt`` (4x4 or 3x3). Both cameras have one optical centre: depth, which is smaller
than colour, is carried into the colour image by the two intrinsics, of the nearest pixel.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.io.formats.base import (
    Format,
    Frame,
    Frames,
    frame_of,
    images_in,
    read_matrix,
    required,
)
from wildseg3d_ros.io.images import read_color, read_depth

_TITLE = "a scene of ScanNet's layout"
_MILLIMETRE = 0.001


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    colors = images_in(folder / "color", f"the folder 'color' of {_TITLE}")
    for part in ("pose", "intrinsic"):
        required(folder / part, _TITLE)
    path = required(folder / "intrinsic" / "intrinsic_color.txt", _TITLE)
    K = read_matrix(path, "intrinsics", (4, 4), (3, 3))[:3, :3]
    depths = images_in(required(folder / "depth", _TITLE), "the depth folder")
    path = required(folder / "intrinsic" / "intrinsic_depth.txt", _TITLE)
    depth_K = read_matrix(path, "intrinsics", (4, 4), (3, 3))[:3, :3]
    names = list(colors)

    def pose_of(i: int) -> NDArray[np.float64]:
        pose = read_matrix(folder / "pose" / f"{names[i]}.txt", "pose", (4, 4))
        if not np.isfinite(pose).all():
            raise InputError(
                f"camera '{names[i]}': its pose is not finite: tracking was lost there",
                ErrorCode.BAD_CALIBRATION,
            )
        return pose

    def read(i: int) -> Frame:
        name, pose = names[i], pose_of(i)
        image = read_color(colors[name], upright=False)
        path = depths.get(name, folder / "depth" / f"{name}.png")
        depth = registered(read_depth(path, _MILLIMETRE), depth_K, K, image.shape[:2])
        return frame_of(name, image, Lens(K, image.shape[:2]), pose, depth)

    return Frames(len(names), read, check=pose_of)


def registered(
    depth: NDArray[np.float32],
    depth_K: NDArray[np.float64],
    K: NDArray[np.float64],
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """(H, W) depth of another camera with the same optical centre and axes; 0 outside of it.

    Args:
        depth: metres, of a camera with intrinsics ``depth_K``.
        K: intrinsics of the image.
        size: (height, width) of the image.
    """
    try:
        depth_from_image = depth_K @ np.linalg.inv(K)
    except np.linalg.LinAlgError:
        raise InputError(
            f"intrinsics that no camera has: {K.tolist()}", ErrorCode.BAD_CALIBRATION
        ) from None
    u = depth_from_image[0, 0] * np.arange(size[1]) + depth_from_image[0, 2]
    v = depth_from_image[1, 1] * np.arange(size[0]) + depth_from_image[1, 2]
    map_u, map_v = np.meshgrid(u.astype(np.float32), v.astype(np.float32))
    return np.asarray(cv2.remap(depth, map_u, map_v, cv2.INTER_NEAREST), np.float32)


def _found(folder: Path) -> bool:
    return (folder / "color").is_dir() and any(
        (folder / part).is_dir() for part in ("pose", "intrinsic")
    )


FORMAT = Format("scannet", _TITLE, "color/ with pose/, intrinsic/", _found, list_frames)
