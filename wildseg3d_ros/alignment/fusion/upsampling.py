"""Coarse fields at full resolution, without mixing what lies on two sides of a depth edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.surfaces.correspondences import Surface, length


def upsampled(
    field: NDArray[np.float32], grid: Surface, sight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(H, W) values at all pixels from those (h, w) at a grid's.

    Joint bilateral upsampling (Kopf et al. 2007): bilinear, each of the four grid points weighed
    by whether its distance from the camera is the pixel's.

    Args:
        sight: (H, W, 3) points relative to the camera.
    """
    # Depths that differ by more than this share are of two surfaces.
    same_surface = 0.03
    height, width = sight.shape[:2]
    if field.shape == (height, width):
        return field
    depth = length(sight)
    coarse_depth = depth[np.ix_(grid.rows, grid.cols)]
    row, row_share = _grid_position(grid.rows, height)
    col, col_share = _grid_position(grid.cols, width)
    total = np.full((height, width), np.float32(1e-6))
    out = np.zeros((height, width), dtype=np.float32)
    known = np.isfinite(coarse_depth) & np.isfinite(field)
    # What is unknown is on no pixel's surface.
    field, coarse_depth = np.where(known, field, 0), np.where(known, coarse_depth, np.float32(1e9))
    for i in (0, 1):
        for j in (0, 1):
            at = np.ix_(row + i, col + j)
            difference = depth / coarse_depth[at]
            difference -= 1.0
            difference *= difference
            difference /= np.float32(same_surface**2)
            difference *= difference
            difference += 1.0
            weight = np.outer(
                row_share if i else 1.0 - row_share, col_share if j else 1.0 - col_share
            ).astype(np.float32)
            weight /= difference
            total += weight
            out += weight * field[at]
    return out / total


def _grid_position(
    pixels: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The grid line before each of ``count`` pixels, and the share of the next one."""
    position = np.interp(np.arange(count), pixels, np.arange(len(pixels)))
    before = np.minimum(position.astype(np.int64), max(len(pixels) - 2, 0))
    return before, (position - before).astype(np.float32)
