"""Points on a voxel grid: means of cells, density, clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components

MAX_CELLS = 1_000_000
"""Cells along an axis up to which cells of 8 groups have 64-bit keys of their own."""


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The occupied cells of a grid, and the cell of each point.

    Cells are in lexicographic order of (x, y, z), and by group inside a voxel.

    Attributes:
        cell: (M,) number of the point's cell, 0 to n - 1.
        counts: (n,) points by cell.
        keys: (n,) sorted, one integer per cell.
        steps: what a step along x, y and z adds to a key.
    """

    cell: NDArray[np.int64]
    counts: NDArray[np.int64]
    keys: NDArray[np.int64]
    steps: tuple[int, int, int]

    @classmethod
    def of(
        cls, points: NDArray, edge: float, group: NDArray[np.integer] | None = None
    ) -> VoxelGrid:
        """Voxels of a grid through the origin.

        Args:
            points: (M, 3), M > 0.
            edge: of a voxel, > 0, in the points' unit.
            group: (M,) >= 0; points of different groups share no cell.
        """
        columns = [np.floor(points[:, axis].astype(np.float64) / edge) for axis in range(3)]
        return cls._of_columns(columns, group)

    @classmethod
    def of_coordinates(
        cls, coordinates: NDArray, group: NDArray[np.integer] | None = None
    ) -> VoxelGrid:
        """Voxels by their (M, 3) whole coordinates. Where they extend over more cells than 64 bits
        tell apart, cells that far apart may be mixed up."""
        # NumPy reduces contiguous columns ten times as fast as rows of three.
        return cls._of_columns([np.array(column) for column in coordinates.T], group)

    @classmethod
    def _of_columns(cls, columns: list[NDArray], group: NDArray[np.integer] | None) -> VoxelGrid:
        """Of whole x, y and z (M,) each, which are used up: points are many millions at times."""
        for column in columns:
            column -= column.min()
        groups = 1 if group is None else int(group.max()) + 1
        # One empty cell at each end of a row: a step beyond it finds nothing.
        size = [int(column.max()) + 2 for column in columns]
        if size[0] * size[1] * size[2] * groups > np.iinfo(np.int64).max:
            limit = int((np.iinfo(np.int64).max / groups) ** (1 / 3)) - 2
            columns = [np.mod(column, limit) for column in columns]
            size = [min(each, limit + 2) for each in size]
        keys = np.zeros(len(columns[0]), np.int64)
        for edge in size:
            keys *= edge
            keys += columns.pop(0).astype(np.int64)
        keys *= groups
        if group is not None:
            keys += group
        keys, cell, counts = np.unique(keys, return_inverse=True, return_counts=True)
        steps = (size[1] * size[2] * groups, size[2] * groups, groups)
        return cls(cell.reshape(-1), counts, keys, steps)

    def mean(self, columns: NDArray, weights: NDArray | None = None) -> NDArray[np.float64]:
        """(n, C) means of (M, C) columns, weighted by (M,) if weights are given."""
        return group_means(self.cell, columns, weights)

    def reduce(self, function: np.ufunc, column: NDArray) -> NDArray:
        """(n,) of (M,) numbers >= 0 by ``np.maximum`` or ``np.bitwise_or``."""
        out = np.zeros(len(self.counts), column.dtype)
        function.at(out, self.cell, column)
        return out

    def neighbourhoods(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How dense the points are, and which of them are connected, group by group.

        Returns:
            (M,) number of points in each point's voxel and the 26 about it, itself included, and
            (M,) id of its cluster: a chain of touching voxels joins the points of a cluster.
        """
        offsets = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        n, one, other = len(self.keys), [], []
        for step in (offsets @ np.array(self.steps))[14:]:  # half of them: each pair is found once
            at = np.searchsorted(self.keys, self.keys + step)
            at[at == n] = 0
            found = np.flatnonzero(self.keys[at] == self.keys + step)
            one.append(found)
            other.append(at[found])
        a, b = np.concatenate(one), np.concatenate(other)
        total = self.counts + np.bincount(a, self.counts[b], n) + np.bincount(b, self.counts[a], n)
        clusters = components(n, np.stack([a, b], axis=1))
        return np.rint(total).astype(np.int64)[self.cell], clusters[self.cell]


def group_means(
    group: NDArray[np.integer], columns: NDArray, weights: NDArray | None = None
) -> NDArray[np.float64]:
    """(n, C) means of (M, C) columns over the rows of each group, weighted if (M,) weights are
    given; the groups (M,) are 0 to n - 1, each of them there."""
    total = np.bincount(group, weights)
    weighted = columns.T if weights is None else weights * columns.T
    sums = [np.bincount(group, column) for column in weighted]
    return np.stack(sums, axis=1) / total[:, None]
