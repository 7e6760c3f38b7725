"""Flying pixels: depth between two surfaces that no surface has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def flying_pixels(depth: NDArray[np.float32], focal: float, max_slant: float) -> NDArray[np.bool_]:
    """(H, W) bool: pixels that lie on the way from a near surface to a far one.

    A sensor or network that averages over a pixel at a depth edge puts a point into the air
    between. Such a pixel has a neighbour that is much nearer and, on the opposite side, one that
    is much farther: a surface through the three would be steeper to the line of sight than any
    that can be measured. Neighbours without depth say nothing.

    Args:
        depth: (H, W) along the optical axis, 0 = none.
        focal: focal length [px].
        max_slant: steepest surface [degrees] between its normal and the line of sight, below 90.
    """
    step = np.float32(np.tan(np.radians(max_slant)) / focal) * depth
    known = depth > 0
    padded, (height, width) = np.pad(depth, 1), depth.shape

    def shifted(down: int, right: int) -> NDArray[np.float32]:
        return padded[1 - down : 1 - down + height, 1 - right : 1 - right + width]

    found = np.zeros(depth.shape, np.bool_)
    # Opposite neighbours in a row, in a column and on both diagonals.
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        before, after = shifted(down, right), shifted(-down, -right)
        both = known & (before > 0) & (after > 0)
        rises = (depth - before > step) & (after - depth > step)
        falls = (before - depth > step) & (depth - after > step)
        found |= both & (rises | falls)
    return found
