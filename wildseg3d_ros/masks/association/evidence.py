"""Evidence for and against any two masks being of one object, without a table of all pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

BLOCK = 1 << 16
"""Rows of one pass; it bounds the memory of a pass."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Affinities of pairs of masks, > 0 for one object, and the support behind them.

    Few pairs overlap. Any two whose places are seen by the same views have something against
    them, which factors of the masks therefore stand for; sparse matrices correct the pairs that
    overlap::

        repulsion[i, j] = (left[i] @ right[j] + left[j] @ right[i]) / 2
        support[i, j] = repulsion[i, j] + overlap_support[i, j]
        affinity[i, j] = -repulsion[i, j] + overlap_affinity[i, j]

    All of them add up over the masks of groups.

    Attributes:
        left, right: (M, C) float64 >= 0.
        overlap_affinity, overlap_support: (M, M) symmetric; the diagonal does not matter.
    """

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    overlap_affinity: sparse.csr_array
    overlap_support: sparse.csr_array

    def __len__(self) -> int:
        return len(self.left)

    def __add__(self, other: Evidence) -> Evidence:
        """The evidence of two sources."""
        return Evidence(
            np.concatenate([self.left, other.left], axis=1),
            np.concatenate([self.right, other.right], axis=1),
            sparse.csr_array(self.overlap_affinity + other.overlap_affinity),
            sparse.csr_array(self.overlap_support + other.overlap_support),
        )

    @classmethod
    def none(cls, masks: int) -> Evidence:
        """Nothing is known."""
        empty, nothing = sparse.csr_array((masks, masks)), np.zeros((masks, 0))
        return cls(nothing, nothing, empty, empty)

    def affinities(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) affinities of pairs (i[k], j[k])."""
        return values_at(self.overlap_affinity, i, j) - self.repulsion(i, j)

    def supports(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) supports of pairs (i[k], j[k])."""
        return values_at(self.overlap_support, i, j) + self.repulsion(i, j)

    def repulsion(
        self, i: NDArray[np.integer], j: NDArray[np.integer], other: Evidence | None = None
    ) -> NDArray[np.float64]:
        """(P,) what speaks against pairs (i[k], j[k]), the second of them of other evidence."""
        other = other or self
        there = row_products(self.left, i, other.right, j)
        return 0.5 * (there + row_products(other.left, j, self.right, i))

    def block(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R, C) affinities of some masks and some others."""
        i, j = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
        return self.affinities(i, j).reshape(len(rows), len(columns))

    def inside(self, group: NDArray[np.int64]) -> float:
        """The sum of the affinities of all pairs inside groups 0, 1, ..."""
        pairs = self.overlap_affinity.tocoo()
        same = (group[pairs.row] == group[pairs.col]) & (pairs.row != pairs.col)
        of = membership(group).T
        against = ((of @ self.left) * (of @ self.right)).sum() - (self.left * self.right).sum()
        return 0.5 * float(pairs.data[same].sum() - against)

    def of_others(self, group: NDArray[np.int64], which: NDArray[np.bool_]) -> Evidence:
        """The factors of groups 0, 1, ... as sums over some of their members."""
        of = membership(group).T @ sparse.diags_array(which.astype(np.float64))
        empty = sparse.csr_array((of.shape[0], of.shape[0]))
        return Evidence(of @ self.left, of @ self.right, empty, empty)

    def of_groups(self, group: NDArray[np.int64]) -> Evidence:
        """The sums over all pairs of members of any two groups 0, 1, ..."""
        of = membership(group)
        affinity, support = (
            sparse.csr_array(of.T @ each @ of)
            for each in (self.overlap_affinity, self.overlap_support)
        )
        return Evidence(of.T @ self.left, of.T @ self.right, affinity, support)


def row_products(
    a: NDArray[np.float64],
    row: NDArray[np.integer],
    b: NDArray[np.float64],
    other: NDArray[np.integer],
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


def membership(group: NDArray[np.int64], groups: int | None = None) -> sparse.csr_array:
    """(M, G) 1 where the mask is of the group, of groups 0, 1, ..."""
    count = int(group.max(initial=-1)) + 1 if groups is None else groups
    rows = np.arange(len(group))
    return sparse.csr_array((np.ones(len(group)), (rows, group)), shape=(len(group), count))


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
