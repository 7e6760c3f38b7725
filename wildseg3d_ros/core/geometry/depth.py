"""Numbers that depth cameras give for depth, and what they mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EVERY_STEP = np.arange(1 << 16, dtype=np.uint16)
"""All that 16 bits can say."""
_ROWS = 64
"""Of an image that are looked up at once."""


def unsaturated(steps: NDArray) -> NDArray:
    """Depth without the largest number that 16 bits have: it is anything beyond, or an error.

    Args:
        steps: depth of any unit and type; 0 = none.
    """
    if steps.dtype.newbyteorder("=") != np.uint16:
        return steps
    saturated = steps == np.iinfo(np.uint16).max
    return np.where(saturated, np.uint16(0), steps) if saturated.any() else steps


def looked_up(steps: NDArray[np.uint16], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a table has for each of some 16-bit numbers: a third of the time of working it out.

    Args:
        steps: (H, W). table: (65536,).
    """
    values = np.empty(steps.shape, np.float32)
    # In parts: NumPy makes an index of eight bytes of each number.
    for at in range(0, len(steps), _ROWS):
        values[at : at + _ROWS] = table[steps[at : at + _ROWS]]
    return values
