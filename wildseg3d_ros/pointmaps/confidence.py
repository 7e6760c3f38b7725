"""What the confidence of measured depth means, and how depth edges lower it.

Back ends that know the standard deviation of their depth give ``UNIT_SIGMA / sigma``: 1 is one
centimetre, 10 one millimetre, comparable over views and cameras. The square of a confidence is
proportional to the information of a point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT_SIGMA = 0.01
"""Standard deviation [m] of a point with confidence 1; the confidence is UNIT_SIGMA / sigma."""


def edge_quality(
    depth: NDArray[np.float32], K: NDArray, sigma: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(H, W) factor in [0, 1]: 1 inside surfaces, 1/2 beside depth edges, 0 at flying pixels.

    A step between neighbours is an edge when it exceeds six standard deviations and what a surface
    seen at 84 degrees would make. Pixels with steps of one sign on both sides lie on a ramp
    between two surfaces; pixels that fewer than three of their eight neighbours agree with are
    speckles.
    """
    height, width = depth.shape
    steepest = np.tan(np.deg2rad(84.0)) * (1.0 / min(K[0, 0], K[1, 1])) * depth
    threshold = np.maximum(6.0 * sigma, steepest).astype(np.float32)
    padded = np.pad(depth, 1)
    agreeing = np.zeros(depth.shape, dtype=np.uint8)
    beside_edge = np.zeros(depth.shape, dtype=bool)
    ramp = np.zeros(depth.shape, dtype=bool)
    for dv, du in ((0, 1), (1, 0), (1, 1), (1, -1)):
        steps = []
        for sign in (1, -1):
            row, col = 1 + sign * dv, 1 + sign * du
            neighbour = padded[row : row + height, col : col + width]
            step = neighbour - depth
            step[neighbour == 0] = 0.0
            jump = np.abs(step) > threshold
            agreeing += (neighbour > 0) & ~jump
            beside_edge |= jump
            step[~jump] = 0.0
            steps.append(step)
        ramp |= steps[0] * steps[1] < 0
    quality = np.clip((agreeing.astype(np.float32) - 2.0) / 3.0, 0.0, 1.0)
    quality[beside_edge] *= 0.5
    quality[ramp | (depth <= 0)] = 0.0
    return quality
