"""Medians that cost one sort or less."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def lower_median(values: NDArray, empty: float) -> float:
    """Median of (n,) values, the lower one of two; ``empty`` where there is none."""
    middle = (len(values) - 1) // 2
    return float(np.partition(values, middle)[middle]) if len(values) else empty


def middle_values(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B,) lower and upper median of each row of (B, n) without its NaN; NaN for none.

    One sort of all rows takes a fraction of the time of medians row by row.
    """
    count = np.count_nonzero(~np.isnan(values), axis=1)
    # NaN is sorted to the end.
    ordered = np.sort(values, axis=1)
    row, last = np.arange(len(values)), values.shape[1] - 1
    return ordered[row, np.maximum(count - 1, 0) // 2], ordered[row, np.minimum(count // 2, last)]
