"""Matched flags from geometry, for back ends without descriptors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree


def mutual_matches(
    points_a: NDArray,
    valid_a: NDArray[np.bool_],
    points_b: NDArray,
    valid_b: NDArray[np.bool_],
    pixels_a: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which pixels of map a have a reciprocal nearest neighbour in map b.

    The nearest point of b to a point of a has its own nearest point of a; where that lies within
    two grid cells of the pixel one started from, the pixel is matched. It needs no camera and no
    scale: only pixels are compared.

    Args:
        points_a, points_b: (H, W, 3) in one frame.
        valid_a, valid_b: (H, W).
        pixels_a: (M, 2) rows and columns in a that flags are wanted of.

    Returns:
        (M,) bool; False where a has no point.
    """
    out = np.zeros(len(pixels_a), dtype=bool)
    cloud_a, grid_a, cell = _grid_points(points_a, valid_a)
    cloud_b, _, _ = _grid_points(points_b, valid_b)
    asked = valid_a[pixels_a[:, 0], pixels_a[:, 1]]
    if len(cloud_a) < 3 or len(cloud_b) < 3 or not asked.any():
        return out
    pixels = pixels_a[asked]
    nearest_b = KDTree(cloud_b).query(points_a[pixels[:, 0], pixels[:, 1]])[1]
    back = KDTree(cloud_a).query(cloud_b[nearest_b])[1]
    apart = np.abs(grid_a[back] - pixels).max(axis=1)
    out[asked] = apart <= 2 * cell
    return out


def _grid_points(
    points: NDArray, valid: NDArray[np.bool_]
) -> tuple[NDArray, NDArray[np.int64], int]:
    """Points of a grid of about 64 rows or columns, their pixels, and the grid's step: a cell is
    the resolution of a match."""
    height, width = valid.shape
    step = max(1, min(height, width) // 64)
    rows, cols = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    keep = valid[rows, cols]
    pixels = np.stack([rows[keep], cols[keep]], axis=1)
    return points[pixels[:, 0], pixels[:, 1]], pixels, step
