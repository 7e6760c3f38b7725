"""Which pixels of a view show the robot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.core.types import View
from wildseg3d_ros.robot.solids import LinkSolid

_NEAREST = 0.01
"""Metres before the camera below which a solid's corners have no place in the image."""


def robot_pixels(
    view: View, solids: Sequence[LinkSolid], cam_from_link: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.bool_]:
    """(H, W) bool, the pixels that show the robot or whose point lies in one of its solids.

    Where depth is measured it decides: what stands before the robot, or is seen past it through
    the padding, is not the robot. Where it is not, all pixels of the solids' silhouettes are.

    Args:
        view: with intrinsics.
        solids: of the links, with their padding; those of links without a pose are passed over.
        cam_from_link: (4, 4) pose of each link in the camera's frame at the image's time.

    Raises:
        InputError: a view without intrinsics.
    """
    K = view.intrinsics_for("robot self-filter")
    height, width = view.size
    directions = rays(K, height, width)
    found = np.zeros((height, width), np.bool_)
    for solid in solids:
        pose = cam_from_link.get(solid.link)
        if pose is None:
            continue
        window = _window(solid.corners(pose), K, (height, width))
        if window is None:
            continue
        part = directions[window]
        near, far = solid.intervals(part.reshape(-1, 3).astype(np.float64), pose)
        near, far = (each.reshape(part.shape[:2]) for each in (near, far))
        hit = (near <= far) & (far > 0)
        if view.depth is not None:
            depth = view.depth[window]
            hit &= (depth == 0) | ((depth >= near) & (depth <= far))
        found[window] |= hit
    return found


def without_robot(view: View, pixels: NDArray[np.bool_]) -> View:
    """The view with these pixels (H, W) left out: without depth, and no part of the scene."""
    if not pixels.any():
        return view
    depth = view.depth
    if depth is not None:
        depth = np.where(pixels, np.float32(0.0), depth)
    return replace(view, depth=depth, ignored=pixels)


def _window(
    corners: NDArray[np.float64], K: NDArray[np.float64], size: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Rows and columns of an image about what has these corners (8, 3); None outside of it."""
    height, width = size
    if (corners[:, 2] <= 0).all():
        return None
    if (corners[:, 2] < _NEAREST).any():
        return np.s_[0:height, 0:width]
    uv = corners @ K.T
    uv = uv[:, :2] / uv[:, 2:]
    u0, v0 = np.maximum(np.floor(uv.min(axis=0)), 0).astype(int).tolist()
    u1, v1 = np.minimum(np.ceil(uv.max(axis=0)) + 1, [width, height]).astype(int).tolist()
    return np.s_[v0:v1, u0:u1] if u0 < u1 and v0 < v1 else None
