"""Points on a voxel grid: density and clusters, thinning clouds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import ObjectCloud

_BITS = 21  # of a voxel coordinate where voxels are told apart exactly
_WRAP = 16  # of one where cells that far apart may be mixed up, to leave room for the group


def neighbourhoods(
    points: NDArray[np.float32], voxel_size: float, group: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """How dense the points lie, and which of them hang together, group by group.

    Args:
        points: (M, 3).
        voxel_size: edge > 0 in the points' unit.
        group: (M,) int32 >= 0; points of different groups do not know of each other.

    Returns:
        (M,) number of points in each point's voxel and the 26 about it, itself included, and
        (M,) id of its cluster: points are in one cluster when a chain of touching voxels joins
        them.
    """
    cell = np.floor(points.astype(np.float64) / voxel_size)
    cell -= cell.min(axis=0) - 1
    x, y, z = np.mod(cell, (1 << _WRAP) - 2).astype(np.int64).T
    keys = (group.astype(np.int64) << (3 * _WRAP)) + (x << (2 * _WRAP)) + (y << _WRAP) + z
    cells, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()
    steps = [
        (x << (2 * _WRAP)) + (y << _WRAP) + z
        for x in (-1, 0, 1)
        for y in (-1, 0, 1)
        for z in (-1, 0, 1)
    ]
    here, there = [], []
    for step in steps[14:]:  # half of the neighbours: each pair is found once
        at = np.searchsorted(cells, cells + step)
        at[at == len(cells)] = 0
        found = np.flatnonzero(cells[at] == cells + step)
        here.append(found)
        there.append(at[found])
    one, other = np.concatenate(here), np.concatenate(there)
    n = len(cells)
    total = counts + np.bincount(one, counts[other], n) + np.bincount(other, counts[one], n)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n))
    clusters = connected_components(graph, directed=False)[1].astype(np.int32)
    return np.rint(total).astype(np.int64)[inverse], clusters[inverse]


def voxel_downsample(cloud: ObjectCloud, voxel_size: float) -> ObjectCloud:
    """A cloud with one point per occupied voxel.

    Points, colours and confidences are averaged, the number of views is the largest. Voxels are
    those of a grid through the origin of the cloud's frame, so clouds of one frame stay
    comparable.

    Args:
        cloud: any answer.
        voxel_size: edge in the cloud's unit; 0 leaves the cloud as it is.

    Raises:
        PromptError: the size is negative, not finite, or too small for the cloud's extent.
    """
    check_voxel_size(voxel_size)
    if voxel_size == 0 or len(cloud) == 0:
        return cloud
    cells = VoxelCells.of(cloud.points, voxel_size)
    return dataclasses.replace(
        cloud,
        points=cells.mean(cloud.points).astype(np.float32),
        colors=np.rint(cells.mean(cloud.colors)).astype(np.uint8),
        confidence=cells.mean(cloud.confidence[:, None])[:, 0].astype(np.float32),
        view_count=cells.largest(cloud.view_count),
    )


def check_voxel_size(voxel_size: float, name: str = "voxel_size") -> None:
    """Raises PromptError unless the size is 0 or more."""
    if not np.isfinite(voxel_size) or voxel_size < 0:
        raise PromptError(f"{name} must be 0 or more metres, got {voxel_size}")


@dataclass(frozen=True, eq=False)
class VoxelCells:
    """Which of the occupied voxels each point lies in.

    Attributes:
        cell: (M,) number of the point's voxel, 0 to n - 1.
        counts: (n,) points by voxel.
    """

    cell: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        points: NDArray[np.float32],
        voxel_size: float,
        group: NDArray[np.integer] | None = None,
    ) -> VoxelCells:
        """Voxels of a grid through the origin.

        Args:
            points: (M, 3), M > 0.
            voxel_size: edge > 0.
            group: (M,) of 0 to 7; points of different groups share no voxel.

        Raises:
            PromptError: the size is too small for the points' extent.
        """
        _, cell, counts = np.unique(
            _keys(points, voxel_size), return_inverse=True, return_counts=True
        )
        if group is not None:
            keys = (cell.ravel() << 3) + group
            _, cell, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return cls(cell.ravel(), counts)

    def mean(self, columns: NDArray) -> NDArray[np.float64]:
        """(n, C) means of (M, C) columns."""
        n = len(self.counts)
        sums = [np.bincount(self.cell, weights=column, minlength=n) for column in columns.T]
        return np.stack(sums, axis=1) / self.counts[:, None]

    def largest(self, column: NDArray) -> NDArray:
        """(n,) largest of (M,) numbers >= 0."""
        out = np.zeros(len(self.counts), column.dtype)
        np.maximum.at(out, self.cell, column)
        return out

    def union(self, bits: NDArray) -> NDArray:
        """(n,) bits that are set in any of (M,)."""
        out = np.zeros(len(self.counts), bits.dtype)
        np.bitwise_or.at(out, self.cell, bits)
        return out


def _keys(points: NDArray[np.float32], voxel_size: float) -> NDArray[np.int64]:
    """(M,) one number per voxel."""
    cell = np.floor(points.astype(np.float64) / voxel_size)
    cell -= cell.min(axis=0)
    if cell.max() >= 1 << _BITS:
        raise PromptError(
            f"voxels of {voxel_size} are too small for a cloud that extends over "
            f"{np.ptp(points, axis=0).max():.3g}; at most {1 << _BITS} fit along an axis",
            ErrorCode.BAD_REQUEST,
        )
    x, y, z = cell.astype(np.int64).T
    return (x << (2 * _BITS)) + (y << _BITS) + z
