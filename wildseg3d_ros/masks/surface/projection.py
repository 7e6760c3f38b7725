"""Labelled points drawn into a view with a z-buffer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert


def splat(
    points: NDArray[np.float32],
    point_size: float,
    world_from_cam: NDArray[np.float64],
    K: NDArray[np.float64],
    size: tuple[int, int],
    max_splat: int = 15,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Draws points as squares of their true size; the nearest one wins a pixel.

    Args:
        points: (M, 3) world points.
        point_size: edge of the square that a point stands for, scene units.
        world_from_cam, K: the camera, K at the resolution of the drawing.
        size: (h, w) of the drawing.
        max_splat: largest edge of a drawn square [px].

    Returns:
        (h, w) int32 index of the point that each pixel shows, -1 for none, and its (h, w) float32
        depth, infinite for none.
    """
    height, width = size
    index = np.full(height * width, -1, np.int32)
    buffer = np.full(height * width, np.inf, np.float32)
    uv, z = project(apply(invert(world_from_cam), points.astype(np.float32)), K)
    with np.errstate(invalid="ignore"):
        margin = max_splat
        seen = np.nonzero(
            (z > 0)
            & (uv > -margin).all(axis=1)
            & (uv[:, 0] < width + margin)
            & (uv[:, 1] < height + margin)
        )[0]
    # Far points first: of several writes to one pixel NumPy keeps the last, the nearest.
    seen = seen[np.argsort(-z[seen], kind="stable")]
    uv, z = uv[seen], z[seen]
    edge = np.clip(np.ceil(point_size * K[0, 0] / z), 1, max_splat).astype(np.int64)
    col = np.rint(uv[:, 0] - (edge - 1) / 2).astype(np.int64)
    row = np.rint(uv[:, 1] - (edge - 1) / 2).astype(np.int64)
    for dy in range(int(edge.max(initial=0))):
        for dx in range(int(edge.max(initial=0))):
            part = (edge > dy) & (edge > dx)
            r, c = row[part] + dy, col[part] + dx
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            flat = r[inside] * width + c[inside]
            depth, point = z[part][inside], seen[part][inside]
            nearer = depth < buffer[flat]
            flat, depth, point = flat[nearer], depth[nearer], point[nearer]
            buffer[flat] = depth
            index[flat] = point
    return index.reshape(size), buffer.reshape(size)
