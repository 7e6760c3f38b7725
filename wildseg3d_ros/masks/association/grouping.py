"""One-to-one grouping of the masks of all views: at most one mask of a view in each group."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from wildseg3d_ros.masks.association.evidence import (
    Evidence,
    GroupSums,
    membership,
    values_at,
)

DOUBT = 0.5
"""Amount of evidence that a link needs before its mean counts half."""
LEAST = 0.05
"""Mean evidence of a link that is worth a merge."""
LEAST_GAIN = 0.003
"""Evidence that two groups, or a mask and a group, must have of being one object. What a strip
along an outline says is less, and is as often wrong as right."""
TWISTED = 0.5
"""Evidence that exchanging two groups gains in views where they were mixed up, at least."""
ROUNDS = 20


def group_masks(
    evidence: Evidence,
    view: NDArray[np.int64],
    start: NDArray[np.int64] | None = None,
    movable: NDArray[np.bool_] | None = None,
    nested: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    doubt: float = LEAST_GAIN,
    tick: Callable[[], object] = lambda: None,
) -> NDArray[np.int64]:
    """Partitions masks into objects: few and sure links first, then each view anew.

    Maximises the sum of the evidence inside the groups under the constraint that a group holds at
    most one mask of a view: correlation clustering with cannot-link constraints, which makes the
    assignment one-to-one between any two views and consistent around every cycle. Merging goes by
    the mean evidence of a link (average linkage, as in GASP: Bailoni et al., CVPR 2022), which
    does not let a large group outvote a clear pair. Then the masks of one view at a time are
    assigned to the groups of all others, optimally (Hungarian method), until nothing moves; each
    such step can only raise the sum. A whole and its part look alike from where little of the rest
    is seen, so that two groups can be mixed up in several views at once, which no step in one view
    cures: those that lie in each other one way here and the other way there are exchanged.

    Only masks that meet can be worth a link, so that time and memory go with the number of pairs
    that do.

    Args:
        evidence: of M masks.
        view: (M,) view of each mask.
        start: (M,) groups to begin with; by default each mask is its own.
        movable: (M,) bool, masks that may change their group; by default all. Groups of the
            others stay apart.
        nested: masks that lie in another one of their view, and that one, two by two.
        doubt: evidence that any two groups lack of being one object before anything is known.
        tick: called between the steps; may raise to cancel.

    Returns:
        (M,) group of each mask, 0, 1, ...
    """
    count = len(view)
    group = np.arange(count) if start is None else _dense(start)
    movable = np.ones(count, np.bool_) if movable is None else movable
    if count == 0:
        return group
    best, best_sum = group, -np.inf
    for _ in range(ROUNDS):
        tick()
        group = _Merger(evidence, view, _dense(group), movable, doubt).merged()
        tick()
        group = _assign_views(evidence, view, group, movable, doubt)
        if nested is not None:
            group = _untwist(evidence, view, group, movable, *nested)
        total = GroupSums.of(evidence, group).inside(evidence, group)
        total -= doubt * (count - len(np.unique(group)))
        if total <= best_sum + 1e-9:
            break
        best, best_sum = group, total
    return _dense(best)


def _dense(group: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(group, return_inverse=True)[1].reshape(-1).astype(np.int64)


class _Merger:
    """Joins groups, best mean evidence first, while it is positive and no view is in both."""

    def __init__(
        self,
        evidence: Evidence,
        view: NDArray[np.int64],
        group: NDArray[np.int64],
        movable: NDArray[np.bool_],
        doubt: float,
    ) -> None:
        self._group, self._doubt = group, doubt
        self._sums = GroupSums.of(evidence, group)
        count = len(self._sums.members)
        self._has_view = np.zeros((count, int(view.max()) + 1), np.bool_)
        self._has_view[group, view] = True
        self._fixed = np.bincount(group, ~movable, count) > 0
        self._parent = np.arange(count)
        # Of groups that meet: the two sums that pairs which meet add, by the other group.
        self._meets: list[dict[int, tuple[float, float]]] = [{} for _ in range(count)]
        self._queue: list[tuple[float, int, int]] = []
        self._mean: dict[tuple[int, int], float] = {}
        member = membership(group)
        weight = (member.T @ evidence.meeting @ member).tocoo()
        amount = sparse.csr_array(member.T @ evidence.further @ member)
        upper = weight.row < weight.col
        a, b = weight.row[upper].astype(np.int64), weight.col[upper].astype(np.int64)
        weights, amounts = weight.data[upper], values_at(amount, a, b)
        apart = (self._has_view[a] & self._has_view[b]).any(axis=1)
        apart |= self._fixed[a] & self._fixed[b]
        a, b, weights, amounts = a[~apart], b[~apart], weights[~apart], amounts[~apart]
        pairs = zip(a.tolist(), b.tolist(), weights.tolist(), amounts.tolist(), strict=True)
        for one, other, w, looked in pairs:
            self._meets[one][other] = self._meets[other][one] = (w, looked)
        self._enqueue(a, b, weights, amounts)

    def merged(self) -> NDArray[np.int64]:
        """(M,) groups, 0, 1, ..."""
        while self._queue:
            negative, a, b = heapq.heappop(self._queue)
            # What was queued before a merge changed it is stale.
            if self._mean.get((a, b)) == -negative:
                self._join(a, b)
        parent = self._parent
        for g in range(len(parent)):
            while parent[parent[g]] != parent[g]:
                parent[g] = parent[parent[g]]
        return _dense(parent[self._group])

    def _join(self, a: int, b: int) -> None:
        """Group ``a`` takes in ``b``."""
        self._parent[b] = a
        self._sums.looked[a] += self._sums.looked[b]
        self._sums.members[a] += self._sums.members[b]
        self._has_view[a] |= self._has_view[b]
        self._fixed[a] |= self._fixed[b]
        mine, theirs = self._meets[a], self._meets[b]
        self._meets[b] = {}
        for other, (w, looked) in theirs.items():
            self._mean.pop((min(b, other), max(b, other)), None)
            del self._meets[other][b]
            if other != a:
                before = mine.get(other, (0.0, 0.0))
                mine[other] = (before[0] + w, before[1] + looked)
        mine.pop(b, None)
        others = np.fromiter(mine, np.int64, len(mine))
        apart = (self._has_view[others] & self._has_view[a]).any(axis=1)
        apart |= self._fixed[others] & self._fixed[a]
        for other in others[apart].tolist():
            # Groups only grow: what is apart stays so.
            del mine[other]
            self._meets[other].pop(a, None)
            self._mean.pop((min(a, other), max(a, other)), None)
        others = others[~apart]
        for other in others.tolist():
            self._meets[other][a] = mine[other]
        values = np.array([mine[other] for other in others.tolist()]).reshape(-1, 2)
        own = np.full(len(others), a)
        self._enqueue(np.minimum(own, others), np.maximum(own, others), values[:, 0], values[:, 1])

    def _enqueue(
        self,
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        weight: NDArray[np.float64],
        amount: NDArray[np.float64],
    ) -> None:
        """Notes the mean evidence of pairs a < b, and queues what is worth a merge."""
        apart = self._sums.apart(a, b)
        mean = (weight - apart - self._doubt) / (amount + apart + DOUBT)
        worth = mean >= LEAST
        for one, other in zip(a[~worth].tolist(), b[~worth].tolist(), strict=True):
            self._mean.pop((one, other), None)
        for one, other, value in zip(
            a[worth].tolist(), b[worth].tolist(), mean[worth].tolist(), strict=True
        ):
            self._mean[one, other] = value
            heapq.heappush(self._queue, (-value, one, other))


def _assign_views(
    evidence: Evidence,
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    doubt: float,
) -> NDArray[np.int64]:
    """The masks of each view in turn get the groups of all others' masks that suit them best."""
    group = group.copy()
    of_view = [np.flatnonzero((view == v) & movable) for v in np.unique(view[movable])]
    meeting = [sparse.csr_array(evidence.meeting[mine]) for mine in of_view]
    for _ in range(ROUNDS):
        moved = False
        for mine, met in zip(of_view, meeting, strict=True):
            group = _dense(group)
            sums = GroupSums.of(evidence, group)
            # Masks of one view never meet, nor look at each other: sums are those of the others.
            gain = sparse.csr_array(met @ membership(group))
            taken = np.zeros(len(sums.members), np.bool_)
            taken[group[(view == view[mine[0]]) & ~movable]] = True
            rows, own, entries = np.arange(len(mine)), group[mine], gain.tocoo()
            row, column = np.append(entries.row, rows), np.append(entries.col, own)
            gained = np.append(entries.data, values_at(gain, rows, own))
            gained -= sums.apart_from(evidence, mine[row], column)
            there = len(entries.row)
            # A mask that is alone in its group joins nothing, and there is no doubt of that.
            joins = np.append(np.ones(there, np.bool_), sums.members[own].sum(axis=1) > 1)
            gained[joins] -= doubt
            gained[taken[column]] = 0.0
            before = gained[there:].sum()
            chosen, after = _assign(row[:there], column[:there], gained[:there], len(mine))
            if after > before + 1e-9:
                alone = len(sums.members) + rows
                group[mine] = np.where(chosen >= 0, chosen, alone)
                moved = True
        if not moved:
            break
    return _dense(group)


def _untwist(
    evidence: Evidence,
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    child: NDArray[np.int64],
    holder: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Exchanges two groups in the views where they lie in each other one way, if that raises the
    evidence inside them; if it does not lower it, where they lie the other way in other views."""
    ways: dict[tuple[int, int], list[int]] = {}
    for pair in zip(group[child].tolist(), group[holder].tolist(), child, strict=True):
        ways.setdefault(pair[:2], []).append(int(view[pair[2]]))
    for (inner, outer), views in ways.items():
        opposite = ways.get((outer, inner), [])
        if opposite and inner > outer:
            continue
        least = 0.0 if opposite else TWISTED
        both = np.flatnonzero((group == inner) | (group == outer))
        inside = evidence.block(both, both)
        for chosen in sorted(filter(None, (views, opposite)), key=len):
            before = group[both]
            turned = np.where(np.isin(view[both], chosen), inner + outer - before, before)
            gain = (inside * (turned[:, None] == turned)).sum()
            gain -= (inside * (before[:, None] == before)).sum()
            if gain >= least and movable[both[turned != before]].all():
                group = group.copy()
                group[both] = turned
                break
    return group


def _assign(
    row: NDArray[np.integer],
    column: NDArray[np.integer],
    gain: NDArray[np.float64],
    rows: int,
) -> tuple[NDArray[np.int64], float]:
    """The column of each row in the best one-to-one assignment, -1 for none, and its gain.

    Only positive gains are worth an assignment; rows that compete for no column with others are
    solved apart from them.

    Args:
        row, column, gain: of all entries that may be positive.
    """
    chosen = np.full(rows, -1, np.int64)
    worth = gain > 0
    row, column, gain = row[worth], column[worth], gain[worth]
    if not len(row):
        return chosen, 0.0
    size = rows + int(column.max()) + 1
    # Most rows want one column, which no other row wants.
    clear = (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)
    chosen[row[clear]] = column[clear]
    total = float(gain[clear].sum())
    row, column, gain = row[~clear], column[~clear], gain[~clear]
    if not len(row):
        return chosen, total
    links = sparse.coo_array((np.ones(len(row)), (row, rows + column)), shape=(size, size))
    part = connected_components(links, directed=False)[1]
    order = np.argsort(part[row], kind="stable")
    cuts = np.flatnonzero(np.diff(part[row][order])) + 1
    for edges in np.split(order, cuts):
        mine, r = np.unique(row[edges], return_inverse=True)
        theirs, c = np.unique(column[edges], return_inverse=True)
        block = np.zeros((len(mine), len(theirs)))
        block[r, c] = gain[edges]
        one, other = linear_sum_assignment(block, maximize=True)
        taken = block[one, other] > 0
        chosen[mine[one[taken]]] = theirs[other[taken]]
        total += float(block[one, other].sum())
    return chosen, total
