"""One-to-one grouping of the masks of all views: at most one mask of a view in each group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from wildseg3d_ros.core.agglomeration import agglomerate
from wildseg3d_ros.core.components import components
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
        group = _merge_groups(evidence, view, _dense(group), movable, doubt)
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


def _merge_groups(
    evidence: Evidence,
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    doubt: float,
) -> NDArray[np.int64]:
    """Joins groups, best mean evidence first, while it is positive and no view is in both."""
    sums = GroupSums.of(evidence, group)
    count = len(sums.members)
    has_view = np.zeros((count, int(view.max()) + 1), np.bool_)
    has_view[group, view] = True
    fixed = np.bincount(group, ~movable, count) > 0
    member = membership(group)
    weight = (member.T @ evidence.meeting @ member).tocoo()
    amount = sparse.csr_array(member.T @ evidence.further @ member)
    upper = weight.row < weight.col
    edges = np.stack([weight.row[upper], weight.col[upper]], axis=1)
    amounts = values_at(amount, edges[:, 0], edges[:, 1])

    def score(
        a: Sequence[int], b: Sequence[int], weight: Sequence[float], amount: Sequence[float]
    ) -> list[float]:
        one, other = np.array(a, np.int64), np.array(b, np.int64)
        apart = sums.apart(one, other)
        mean = (np.array(weight) - apart - doubt) / (np.array(amount) + apart + DOUBT)
        mean[mean < LEAST] = 0.0
        mean[(has_view[one] & has_view[other]).any(axis=1) | (fixed[one] & fixed[other])] = -np.inf
        return mean.tolist()

    def join(a: int, b: int) -> None:
        for each in (sums.looked, sums.members):
            each[a] += each[b]
        for each in (has_view, fixed):
            each[a] |= each[b]

    meets = np.stack([weight.data[upper], amounts], axis=1)
    return _dense(agglomerate(count, edges, meets, score, join)[group])


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
    # Most rows want one column, which no other row wants.
    clear = (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)
    chosen[row[clear]] = column[clear]
    total = float(gain[clear].sum())
    row, column, gain = row[~clear], column[~clear], gain[~clear]
    if not len(row):
        return chosen, total
    links = np.stack([row, rows + column], axis=1)
    part = components(rows + int(column.max()) + 1, links)
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
