"""Pixels read from the pairs' maps, kept for the next solve of nearly the same pairs.

A solve reads a few thousand pixels of every map, scattered over memory: a fifth of its time. What
was read of a map once is used again while the array is the same and a few dozen of its pixels are:
a buffer that was filled with another map is read anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import PairPrediction

_PROBES = 8
"""Rows and columns of the pixels that tell whether an array was filled anew."""


class _Entry(NamedTuple):
    array: weakref.ref
    probe: bytes
    reads: dict[Hashable, NDArray]


class Reads:
    """Memorises reads by array; it holds what was read, not the arrays.

    Args:
        past: of an earlier solve. What this one does not read again is forgotten.
    """

    def __init__(self, past: Reads | None = None) -> None:
        self._past: dict[int, _Entry] = past._kept if past is not None else {}
        self._kept: dict[int, _Entry] = {}
        self._same: dict[int, bool] = {}

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
        if entry is None or entry.array() is not array:
            return None
        if id(array) not in self._same:
            self._same[id(array)] = entry.probe == _probe(array)
        return entry.reads if self._same[id(array)] else None

    def _known(self, array: NDArray, which: Hashable) -> NDArray | None:
        entry = self._kept.get(id(array))
        if entry is not None and which in entry.reads:
            return entry.reads[which]
        past = self._of_past(array)
        if past is None or which not in past:
            return None
        return self._keep(array, which, past[which])

    def _keep(self, array: NDArray, which: Hashable, read: NDArray) -> NDArray:
        entry = self._kept.get(id(array))
        if entry is None:
            entry = self._kept[id(array)] = _Entry(weakref.ref(array), _probe(array), {})
        entry.reads[which] = read
        return read


def _probe(array: NDArray) -> bytes:
    rows, cols = (max(1, length // _PROBES) for length in array.shape[:2])
    return array[rows // 2 :: rows, cols // 2 :: cols].tobytes()
