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
    dense,
    membership,
    values_at,
)

MIN_GAIN = 0.003
"""Evidence that two groups, or a mask and a group, must have of being one object. A strip along an
outline gives less, and is as often wrong as right."""
ROUNDS = 20
"""Bound of the iterations, each of which raises the sum of the evidence."""


def group_masks(
    evidence: Evidence,
    view: NDArray[np.int64],
    start: NDArray[np.int64] | None = None,
    movable: NDArray[np.bool_] | None = None,
    nested: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ambiguity: float = MIN_GAIN,
    progress: Callable[[], object] = lambda: None,
) -> NDArray[np.int64]:
    """Partitions masks into objects: agglomeration first, then one view at a time.

    Maximises the sum of the affinities inside the groups under the constraint that a group holds
    at most one mask of a view: correlation clustering with cannot-link constraints, which makes
    the assignment one-to-one between any two views and consistent around every cycle. Groups
    merge by average linkage. Then the masks of one view at a time are assigned to the groups of
    all others, optimally (Hungarian method), until nothing moves; each such step can only raise
    the sum. A whole and its part look alike from where little of the rest is seen, so that two
    groups can be mixed up in several views at once, which no step in one view corrects: groups
    that are nested one way in some views and the other way in others are exchanged there.

    Only masks that overlap can be worth a merge: time and memory grow with their pairs.

    Args:
        evidence: of M masks.
        view: (M,) view of each mask.
        start: (M,) groups to begin with; by default each mask is its own.
        movable: (M,) bool, masks that may change their group; by default all. Groups of the
            others stay apart.
        nested: masks that lie in another one of their view, and that one, two by two.
        ambiguity: evidence that any two groups lack of being one object before anything is known.
        progress: called between the steps; may raise to cancel.

    Returns:
        (M,) group of each mask, 0, 1, ...
    """
    count = len(view)
    group = np.arange(count) if start is None else dense(start)
    movable = np.ones(count, np.bool_) if movable is None else movable
    if count == 0:
        return group
    best, best_sum = group, -np.inf
    for _ in range(ROUNDS):
        progress()
        group = _merge_groups(evidence, view, dense(group), movable, ambiguity)
        progress()
        group = _assign_views(evidence, view, group, movable, ambiguity)
        if nested is not None:
            group = _exchange(evidence, view, group, movable, *nested)
        total = GroupSums.of(evidence, group).inside(evidence, group)
        total -= ambiguity * (count - len(np.unique(group)))
        if total <= best_sum + 1e-9:
            break
        best, best_sum = group, total
    return dense(best)


def _merge_groups(
    evidence: Evidence,
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    ambiguity: float,
) -> NDArray[np.int64]:
    """Merges groups, best mean evidence first, that share no view.

    Half a unit of support without evidence is added to each mean, so that little support gives
    little evidence; a merge needs a mean of 0.05.
    """
    sums = GroupSums.of(evidence, group)
    count = len(sums.members)
    has_view = np.zeros((count, int(view.max()) + 1), np.bool_)
    has_view[group, view] = True
    fixed = np.bincount(group, ~movable, count) > 0
    member = membership(group)
    affinity = (member.T @ evidence.overlap_affinity @ member).tocoo()
    upper = affinity.row < affinity.col
    edges = np.stack([affinity.row[upper], affinity.col[upper]], axis=1)
    support = sparse.csr_array(member.T @ evidence.overlap_support @ member)
    support_of_edges = values_at(support, edges[:, 0], edges[:, 1])

    def score(
        a: Sequence[int], b: Sequence[int], affinity: Sequence[float], support: Sequence[float]
    ) -> list[float]:
        one, other = np.array(a, np.int64), np.array(b, np.int64)
        repulsion = sums.repulsion(one, other)
        mean = (np.array(affinity) - repulsion - ambiguity) / (np.array(support) + repulsion + 0.5)
        mean[mean < 0.05] = 0.0
        mean[(has_view[one] & has_view[other]).any(axis=1) | (fixed[one] & fixed[other])] = -np.inf
        return mean.tolist()

    def join(a: int, b: int) -> None:
        for each in (sums.visible_support, sums.members):
            each[a] += each[b]
        for each in (has_view, fixed):
            each[a] |= each[b]

    given = np.stack([affinity.data[upper], support_of_edges], axis=1)
    return dense(agglomerate(count, edges, given, score, join)[group])


def _assign_views(
    evidence: Evidence,
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    ambiguity: float,
) -> NDArray[np.int64]:
    """The masks of each view in turn get the groups of all others' masks that suit them best."""
    group = group.copy()
    of_view = [np.flatnonzero((view == v) & movable) for v in np.unique(view[movable])]
    overlaps = [sparse.csr_array(evidence.overlap_affinity[mine]) for mine in of_view]
    for _ in range(ROUNDS):
        moved = False
        for mine, overlap in zip(of_view, overlaps, strict=True):
            group = dense(group)
            sums = GroupSums.of(evidence, group)
            # Masks of one view have no evidence of each other: sums are those of the others.
            gain = sparse.csr_array(overlap @ membership(group))
            taken = np.zeros(len(sums.members), np.bool_)
            taken[group[(view == view[mine[0]]) & ~movable]] = True
            rows, own, entries = np.arange(len(mine)), group[mine], gain.tocoo()
            row, column = np.append(entries.row, rows), np.append(entries.col, own)
            gained = np.append(entries.data, values_at(gain, rows, own))
            gained -= sums.repulsion_of_masks(evidence, mine[row], column)
            there = len(entries.row)
            # A mask that is alone in its group joins nothing, which is not ambiguous.
            joins = np.append(np.ones(there, np.bool_), sums.members[own].sum(axis=1) > 1)
            gained[joins] -= ambiguity
            gained[taken[column]] = 0.0
            before = gained[there:].sum()
            chosen, after = _assign(row[:there], column[:there], gained[:there], len(mine))
            if after > before + 1e-9:
                alone = len(sums.members) + rows
                group[mine] = np.where(chosen >= 0, chosen, alone)
                moved = True
        if not moved:
            break
    return dense(group)


def _exchange(
    evidence: Evidence,
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    inner: NDArray[np.int64],
    outer: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Exchanges two groups in the views where they are nested one way, if that raises the sum of
    the evidence inside them by 0.5; where other views nest them the other way, if it does not
    lower the sum."""
    ways: dict[tuple[int, int], list[int]] = {}
    for mask, a, b in zip(inner, group[inner].tolist(), group[outer].tolist(), strict=True):
        ways.setdefault((a, b), []).append(int(view[mask]))
    for (a, b), views in ways.items():
        opposite = ways.get((b, a), [])
        if opposite and a > b:
            continue
        min_gain = 0.0 if opposite else 0.5
        both = np.flatnonzero((group == a) | (group == b))
        inside = evidence.block(both, both)
        for chosen in sorted(filter(None, (views, opposite)), key=len):
            before = group[both]
            after = np.where(np.isin(view[both], chosen), a + b - before, before)
            gain = (inside * (after[:, None] == after)).sum()
            gain -= (inside * (before[:, None] == before)).sum()
            if gain >= min_gain and movable[both[after != before]].all():
                group = group.copy()
                group[both] = after
                break
    return group


def _assign(
    row: NDArray[np.integer], column: NDArray[np.integer], gain: NDArray[np.float64], rows: int
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
