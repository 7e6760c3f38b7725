"""What the joint refinement needs of every pair's maps, read once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.fusion.view_maps import PairMap, maps_of, probe_pixels
from wildseg3d_ros.alignment.surfaces.correspondences import grid_of
from wildseg3d_ros.core.parallel import run_all
from wildseg3d_ros.core.types import PairPrediction, View


@dataclass(frozen=True, eq=False)
class ViewSamples:
    """Copies of some pixels of all pairs' maps, which a second solve need not read again.

    Attributes:
        maps: of each view, at :func:`sampled_pixels`.
    """

    maps: tuple[tuple[PairMap, ...], ...]

    @classmethod
    def of(cls, predictions: Sequence[PairPrediction], views: Sequence[View]) -> ViewSamples:
        """Reads the pairs' maps, of whatever library they are."""

        def read(view: int) -> tuple[PairMap, ...]:
            return tuple(sampled(maps_of(predictions, view), views[view].size))

        # Reading maps waits for memory: a second thread halves it.
        return cls(tuple(run_all(read, range(len(views)))))


def sampled_pixels(size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers, row by row, of a view's probes and of the pixels of its surface's grid."""
    rows, cols = grid_of(size)
    return probe_pixels(size[0] * size[1]), (rows[:, None] * size[1] + cols).ravel()


def sampled(maps: Sequence[PairMap], size: tuple[int, int]) -> list[PairMap]:
    """Maps of one view, read at :func:`sampled_pixels`; those that are so already stay.

    An array that several pairs share is read once.
    """
    pixels = np.concatenate(sampled_pixels(size))
    read: dict[Hashable, PairMap] = {}
    for m in maps:
        if m.key not in read:
            read[m.key] = m if m.points.ndim == 2 else m.at(pixels)
    return [replace(m, points=read[m.key].points, confidence=read[m.key].confidence) for m in maps]
