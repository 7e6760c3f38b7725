"""Numbers that depth cameras give for depth, and what they mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unsaturated(steps: NDArray) -> NDArray:
    """Depth without the largest number that 16 bits have: it is anything beyond, or an error.

    Args:
        steps: depth of any unit and type; 0 = none.
    """
    if steps.dtype.newbyteorder("=") != np.uint16:
        return steps
    saturated = steps == np.iinfo(np.uint16).max
    return np.where(saturated, np.uint16(0), steps) if saturated.any() else steps
