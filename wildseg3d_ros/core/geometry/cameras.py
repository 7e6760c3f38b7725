"""Pinhole projection: pixels (u, v) at pixel centres, z forward."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pixel_grid(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row coordinates of all pixels, each (H, W) float32."""
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    return u, v


def window(row: int, column: int, radius: int) -> tuple[slice, slice]:
    """Rows and columns of the square about a pixel, as far as they are not negative."""
    rows, columns = (slice(max(x - radius, 0), max(x + radius + 1, 0)) for x in (row, column))
    return rows, columns


def rays_of(u: NDArray, v: NDArray, K: NDArray) -> NDArray:
    """(..., 3) points at depth 1 of the pixels u, v (...), in their floating type."""
    K = K.astype(u.dtype)
    y = (v - K[1, 2]) / K[1, 1]
    x = (u - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def rays(K: NDArray, height: int, width: int) -> NDArray[np.float32]:
    """(H, W, 3) float32: the point of each pixel at depth 1."""
    return rays_of(*pixel_grid(height, width), K)


def back_project(depth: NDArray[np.float32], K: NDArray) -> NDArray[np.float32]:
    """(H, W, 3) float32 points in the camera's frame; zero where depth is 0."""
    return rays(K, *depth.shape) * depth[..., None]


def project(points: NDArray, K: NDArray) -> tuple[NDArray, NDArray]:
    """Pixels ``uv`` (..., 2) and depths (...) of points in the camera's frame.

    Points at or behind the camera's plane get NaN pixels.
    """
    z = points[..., 2]
    safe = np.where(z > 1e-9, z, np.nan)
    u = (points[..., 0] * K[0, 0] + points[..., 1] * K[0, 1]) / safe + K[0, 2]
    v = points[..., 1] * K[1, 1] / safe + K[1, 2]
    return np.stack([u, v], axis=-1).astype(points.dtype), z
