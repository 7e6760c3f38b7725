"""Coarse fields at full resolution, without mixing what lies on two sides of a depth edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.surfaces.correspondences import Surface

_SAME_SURFACE = 0.03
"""Relative difference of distances beyond which a grid point is on another surface."""


def upsampled(
    field: NDArray[np.float32], grid: Surface, sight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(H, W) values at all pixels from those (h, w) at a grid's.

    Bilinear, each of the four grid points weighed by whether its distance is the pixel's.

    Args:
        sight: (H, W, 3) points relative to the camera.
    """
    height, width = sight.shape[:2]
    if field.shape == (height, width):
        return field
    far = np.sqrt(np.einsum("hwc,hwc->hw", sight, sight))
    coarse_far = far[np.ix_(grid.rows, grid.cols)]
    row, row_share = _places(grid.rows, height)
    col, col_share = _places(grid.cols, width)
    total = np.full((height, width), np.float32(1e-6))
    out = np.zeros((height, width), dtype=np.float32)
    known = np.isfinite(coarse_far) & np.isfinite(field)
    field, coarse_far = np.where(known, field, 0), np.where(known, coarse_far, np.float32(1e9))
    for i in (0, 1):
        for j in (0, 1):
            at = np.ix_(row + i, col + j)
            apart = far / coarse_far[at] - 1.0
            apart *= apart
            weight = np.outer(
                row_share if i else 1.0 - row_share, col_share if j else 1.0 - col_share
            ).astype(np.float32)
            weight /= 1.0 + (apart / np.float32(_SAME_SURFACE**2)) ** 2
            total += weight
            out += weight * field[at]
    return out / total


def _places(
    pixels: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The grid line before each of ``count`` pixels, and the share of the next one."""
    places = np.interp(np.arange(count), pixels, np.arange(len(pixels)))
    before = np.minimum(places.astype(np.int64), max(len(pixels) - 2, 0))
    return before, (places - before).astype(np.float32)
