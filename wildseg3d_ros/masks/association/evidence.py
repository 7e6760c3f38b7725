"""What is known of any two masks being of one object, without a table of all pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_PAIRS = 1 << 16  # pairs per pass


@dataclass(frozen=True, eq=False)
class Evidence:
    """Weights in [-1, 1] for (> 0) or against (< 0) two masks being of one object, and amounts.

    Of all pairs few meet. Of one that does not, either view saw where the other's mask should have
    been, and that speaks against it: a mask's ``looked`` in the other's sheet, the mean of both
    ways. So a table of masks and sheets stands for the pairs, and those that meet are corrected::

        amount[i, j] =  (looked[i, sheet[j]] + looked[j, sheet[i]]) / 2 + further[i, j]
        weight[i, j] = -(looked[i, sheet[j]] + looked[j, sheet[i]]) / 2 + meeting[i, j]

    Attributes:
        looked: (M, S) float64 >= 0, how much was looked at for each mask in each sheet; 0 in those
            of its own view.
        sheet: (M,) int64 sheet of each mask.
        meeting: (M, M) symmetric, what is added to the weight of pairs that meet.
        further: (M, M) symmetric, what is added to their amount.
    """

    looked: NDArray[np.float64]
    sheet: NDArray[np.int64]
    meeting: sparse.csr_array
    further: sparse.csr_array

    def __len__(self) -> int:
        return len(self.sheet)

    def __add__(self, other: Evidence) -> Evidence:
        """The evidence of two sources."""
        return Evidence(
            self.looked + other.looked,
            self.sheet,
            sparse.csr_array(self.meeting + other.meeting),
            sparse.csr_array(self.further + other.further),
        )

    @classmethod
    def none(cls, sheet: NDArray[np.int64], sheets: int) -> Evidence:
        """Nothing is known."""
        shape = (len(sheet), len(sheet))
        return cls(
            np.zeros((len(sheet), sheets)), sheet, sparse.csr_array(shape), sparse.csr_array(shape)
        )

    @classmethod
    def of_pairs(
        cls,
        looked: NDArray[np.float64],
        sheet: NDArray[np.int64],
        i: NDArray[np.int64],
        j: NDArray[np.int64],
        meeting: NDArray[np.floating],
        further: NDArray[np.floating] | None = None,
    ) -> Evidence:
        """From the pairs that meet, each given once."""
        further = np.zeros(len(i)) if further is None else further
        shape = (len(sheet), len(sheet))
        both = (np.concatenate([i, j]), np.concatenate([j, i]))
        return cls(
            looked,
            sheet,
            sparse.csr_array((np.concatenate([meeting, meeting]), both), shape=shape),
            sparse.csr_array((np.concatenate([further, further]), both), shape=shape),
        )

    def of(self, index: NDArray[np.int64]) -> Evidence:
        """That of some masks, numbered anew."""
        return Evidence(
            self.looked[index],
            self.sheet[index],
            sparse.csr_array(self.meeting[index][:, index]),
            sparse.csr_array(self.further[index][:, index]),
        )

    def weights(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) weights of pairs (i[k], j[k])."""
        return values_at(self.meeting, i, j) - self._apart(i, j)

    def amounts(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) amounts of pairs (i[k], j[k])."""
        return values_at(self.further, i, j) + self._apart(i, j)

    def block(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R, C) weights of some masks and some others."""
        i, j = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
        return self.weights(i, j).reshape(len(rows), len(columns))

    def _apart(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float64]:
        return 0.5 * (self.looked[i, self.sheet[j]] + self.looked[j, self.sheet[i]])


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Sums of the evidence over the members of groups.

    Attributes:
        looked: (G, S) of the members.
        members: (G, S) float64, how many of them each sheet has.
    """

    looked: NDArray[np.float64]
    members: NDArray[np.float64]

    @classmethod
    def of(cls, evidence: Evidence, group: NDArray[np.int64]) -> GroupSums:
        """Of groups 0, 1, ..."""
        count, sheets = int(group.max(initial=-1)) + 1, evidence.looked.shape[1]
        key = group * sheets + evidence.sheet
        return cls(
            membership(group).T @ evidence.looked,
            np.bincount(key, minlength=count * sheets).reshape(count, sheets).astype(np.float64),
        )

    def apart(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P,) what speaks against pairs of groups of which no masks meet."""
        out = np.empty(len(one))
        for start in range(0, len(one), _PAIRS):
            a, b = one[start : start + _PAIRS], other[start : start + _PAIRS]
            out[start : start + _PAIRS] = 0.5 * (
                (self.looked[a] * self.members[b]).sum(axis=1)
                + (self.looked[b] * self.members[a]).sum(axis=1)
            )
        return out

    def apart_from(
        self, evidence: Evidence, mask: NDArray[np.int64], group: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(P,) what speaks against masks being of groups with no member of which they meet."""
        out = np.empty(len(mask))
        for start in range(0, len(mask), _PAIRS):
            i, g = mask[start : start + _PAIRS], group[start : start + _PAIRS]
            out[start : start + _PAIRS] = 0.5 * (
                (evidence.looked[i] * self.members[g]).sum(axis=1)
                + self.looked[g, evidence.sheet[i]]
            )
        return out

    def inside(self, evidence: Evidence, group: NDArray[np.int64]) -> float:
        """The sum of the weights of all pairs inside the groups."""
        meeting = evidence.meeting.tocoo()
        same = group[meeting.row] == group[meeting.col]
        return 0.5 * float(meeting.data[same].sum()) - 0.5 * float(
            (self.looked * self.members).sum()
        )


def membership(group: NDArray[np.int64]) -> sparse.csr_array:
    """(M, G) 1 where the mask is of the group, of groups 0, 1, ..."""
    rows = np.arange(len(group))
    return sparse.csr_array(
        (np.ones(len(group)), (rows, group)),
        shape=(len(group), int(group.max(initial=-1)) + 1),
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
