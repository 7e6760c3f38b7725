"""Pixels read from the pairs' maps, kept for the next solve of nearly the same pairs.

A solve reads a few thousand pixels of every map, scattered over memory: a fifth of its time. Maps
are values and never change, so that what was read of them once can be used again.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.types import PairPrediction

_Entry = tuple[weakref.ref, dict[Hashable, NDArray]]


class Reads:
    """Memorises reads by array; it holds what was read, not the arrays.

    Args:
        past: of an earlier solve. What this one does not read again is forgotten.
    """

    def __init__(self, past: Reads | None = None) -> None:
        self._past: dict[int, _Entry] = past._kept if past is not None else {}
        self._kept: dict[int, _Entry] = {}

    def points(self, array: NDArray, pixels: NDArray[np.int64], which: Hashable) -> NDArray:
        """(3, n) of an array (H, W, 3) at pixels (n,) numbered row by row.

        Args:
            which: stands for ``pixels``: equal only where these are.
        """
        known = self._known(array, which)
        if known is None:
            # Taking from a flat array is several times as fast as indexing rows and columns.
            taken = np.take(array.reshape(-1, 3), pixels, axis=0)
            known = self._keep(array, which, np.ascontiguousarray(taken.T))
        return known

    def values(self, array: NDArray, pixels: NDArray[np.int64], which: Hashable) -> NDArray:
        """(n,) of an array (H, W); see :meth:`points`."""
        known = self._known(array, which)
        if known is None:
            known = self._keep(array, which, np.take(array, pixels))
        return known

    def knows(self, pair: PairPrediction) -> bool:
        """Whether the earlier solve read these very maps."""
        arrays = (pair.pointmap_a, pair.pointmap_b, pair.confidence_a, pair.confidence_b)
        return all(self._of_past(array) is not None for array in arrays)

    def _of_past(self, array: NDArray) -> dict[Hashable, NDArray] | None:
        # Another array may live where one that is gone had been.
        entry = self._past.get(id(array))
        return entry[1] if entry is not None and entry[0]() is array else None

    def _known(self, array: NDArray, which: Hashable) -> NDArray | None:
        entry = self._kept.get(id(array))
        if entry is not None and which in entry[1]:
            return entry[1][which]
        past = self._of_past(array)
        if past is None or which not in past:
            return None
        return self._keep(array, which, past[which])

    def _keep(self, array: NDArray, which: Hashable, read: NDArray) -> NDArray:
        entry = self._kept.setdefault(id(array), (weakref.ref(array), {}))
        entry[1][which] = read
        return read
