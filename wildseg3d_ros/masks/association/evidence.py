"""Evidence for and against any two masks being of one object, without a table of all pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

BLOCK = 1 << 16
"""Rows of one pass; it bounds the memory of a pass (8 views: 4 MiB)."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Affinities in [-1, 1] of pairs of masks, > 0 for one object, and the support behind them.

    Few pairs overlap. Of a pair that does not, either view saw the place of the other's mask, and
    that speaks against the pair: the mask's visible support in the other's layer, the mean of both
    ways. A table of masks and layers therefore stands for all pairs, and sparse matrices correct
    those that overlap::

        repulsion[i, j] = (visible_support[i, layer[j]] + visible_support[j, layer[i]]) / 2
        support[i, j] = repulsion[i, j] + overlap_support[i, j]
        affinity[i, j] = -repulsion[i, j] + overlap_affinity[i, j]

    Attributes:
        visible_support: (M, L) float64 >= 0, how much of each mask the view of each layer sees; 0
            in the layers of its own view.
        layer: (M,) int64 mask layer of each mask.
        overlap_affinity, overlap_support: (M, M) symmetric.
    """

    visible_support: NDArray[np.float64]
    layer: NDArray[np.int64]
    overlap_affinity: sparse.csr_array
    overlap_support: sparse.csr_array

    def __add__(self, other: Evidence) -> Evidence:
        """The evidence of two sources."""
        return Evidence(
            self.visible_support + other.visible_support,
            self.layer,
            sparse.csr_array(self.overlap_affinity + other.overlap_affinity),
            sparse.csr_array(self.overlap_support + other.overlap_support),
        )

    @classmethod
    def none(cls, layer: NDArray[np.int64], layers: int) -> Evidence:
        """Nothing is known."""
        empty = sparse.csr_array((len(layer), len(layer)))
        return cls(np.zeros((len(layer), layers)), layer, empty, empty)

    @classmethod
    def of_pairs(
        cls,
        visible_support: NDArray[np.float64],
        layer: NDArray[np.int64],
        i: NDArray[np.int64],
        j: NDArray[np.int64],
        overlap_affinity: NDArray[np.floating],
        overlap_support: NDArray[np.floating],
    ) -> Evidence:
        """From the pairs that overlap, each given once."""
        both = (np.concatenate([i, j]), np.concatenate([j, i]))
        affinity, support = (
            sparse.csr_array((np.concatenate([each, each]), both), shape=(len(layer), len(layer)))
            for each in (overlap_affinity, overlap_support)
        )
        return cls(visible_support, layer, affinity, support)

    def of(self, index: NDArray[np.int64]) -> Evidence:
        """The evidence of some masks, numbered anew."""
        return Evidence(
            self.visible_support[index],
            self.layer[index],
            sparse.csr_array(self.overlap_affinity[index][:, index]),
            sparse.csr_array(self.overlap_support[index][:, index]),
        )

    def affinities(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) affinities of pairs (i[k], j[k])."""
        return values_at(self.overlap_affinity, i, j) - self._repulsion(i, j)

    def supports(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) supports of pairs (i[k], j[k])."""
        return values_at(self.overlap_support, i, j) + self._repulsion(i, j)

    def block(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R, C) affinities of some masks and some others."""
        i, j = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
        return self.affinities(i, j).reshape(len(rows), len(columns))

    def _repulsion(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        seen = self.visible_support
        return 0.5 * (seen[i, self.layer[j]] + seen[j, self.layer[i]])


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Sums of the evidence over the members of groups.

    Attributes:
        visible_support: (G, L) of the members.
        members: (G, L) float64, how many of them each layer has.
    """

    visible_support: NDArray[np.float64]
    members: NDArray[np.float64]

    @classmethod
    def of(cls, evidence: Evidence, group: NDArray[np.int64]) -> GroupSums:
        """Of groups 0, 1, ..."""
        count, layers = int(group.max(initial=-1)) + 1, evidence.visible_support.shape[1]
        key = group * layers + evidence.layer
        members = np.bincount(key, minlength=count * layers).reshape(count, layers)
        return cls(membership(group).T @ evidence.visible_support, members.astype(np.float64))

    def repulsion(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P,) summed repulsion of the members of pairs of groups."""
        there = _row_products(self.visible_support, one, self.members, other)
        return 0.5 * (there + _row_products(self.visible_support, other, self.members, one))

    def repulsion_of_masks(
        self, evidence: Evidence, mask: NDArray[np.int64], group: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(P,) summed repulsion of masks and the members of groups."""
        there = _row_products(evidence.visible_support, mask, self.members, group)
        return 0.5 * (there + self.visible_support[group, evidence.layer[mask]])

    def inside(self, evidence: Evidence, group: NDArray[np.int64]) -> float:
        """The sum of the affinities of all pairs inside the groups."""
        overlap = evidence.overlap_affinity.tocoo()
        same = group[overlap.row] == group[overlap.col]
        return 0.5 * float(overlap.data[same].sum()) - 0.5 * float(
            (self.visible_support * self.members).sum()
        )


def _row_products(
    a: NDArray[np.float64],
    row: NDArray[np.int64],
    b: NDArray[np.float64],
    other: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(P,) scalar products of rows row[k] of ``a`` and other[k] of ``b``."""
    out = np.empty(len(row))
    for start in range(0, len(row), BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = (a[row[part]] * b[other[part]]).sum(axis=1)
    return out


def dense(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) groups, numbered 0, 1, ... in their order."""
    return np.unique(group, return_inverse=True)[1].reshape(-1).astype(np.int64)


def membership(group: NDArray[np.int64]) -> sparse.csr_array:
    """(M, G) 1 where the mask is of the group, of groups 0, 1, ..."""
    rows = np.arange(len(group))
    return sparse.csr_array(
        (np.ones(len(group)), (rows, group)), shape=(len(group), int(group.max(initial=-1)) + 1)
    )


def members_of(group: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The masks of each group, of groups 0, 1, ..."""
    ends = np.cumsum(np.bincount(group)) if len(group) else np.zeros(0, np.int64)
    return np.split(np.argsort(group, kind="stable"), ends[:-1])


def values_at(
    matrix: sparse.csr_array, i: NDArray[np.integer], j: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(P,) entries (i[k], j[k]) of a sparse matrix."""
    if not len(i):
        return np.zeros(0)
    return np.asarray(matrix[i, j], np.float64).reshape(-1)


def row_of(matrix: sparse.csr_array, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Columns and values of a row's entries."""
    entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return (
        np.asarray(matrix.indices[entries], np.int64),
        np.asarray(matrix.data[entries], np.float64),
    )
