"""One-to-one grouping of the masks of all views: at most one mask of a view in each group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

DOUBT = 0.5
"""Amount of evidence that a link needs before its mean counts half."""
LEAST = 0.05
"""Mean evidence of a link that is worth a merge."""
ROUNDS = 20


def group_masks(
    weight: NDArray[np.float32],
    amount: NDArray[np.float32],
    view: NDArray[np.int64],
    start: NDArray[np.int64] | None = None,
    movable: NDArray[np.bool_] | None = None,
    nested: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
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

    Args:
        weight: (M, M) symmetric evidence for (> 0) or against (< 0) one object.
        amount: (M, M) how much was looked at for it, >= |weight|.
        view: (M,) view of each mask.
        start: (M,) groups to begin with; by default each mask is its own.
        movable: (M,) bool, masks that may change their group; by default all. Groups of the
            others stay apart.
        nested: masks that lie in another one of their view, and that one, two by two.
        tick: called between the steps; may raise to cancel.

    Returns:
        (M,) group of each mask, 0, 1, ...
    """
    count = len(view)
    group = np.arange(count) if start is None else _dense(start)
    movable = np.ones(count, np.bool_) if movable is None else movable
    if count == 0:
        return group
    exact, looked = weight.astype(np.float64), amount.astype(np.float64)
    best, best_sum = group, -np.inf
    for _ in range(ROUNDS):
        tick()
        group = _merge(exact, looked, view, group, movable)
        tick()
        group = _assign_views(exact, view, group, movable)
        if nested is not None:
            group = _untwist(exact, view, group, movable, *nested)
        total = _sum_inside(exact, group)
        if total <= best_sum + 1e-9:
            break
        best, best_sum = group, total
    return _dense(best)


def _dense(group: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(group, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _sum_inside(weight: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    total = _sums(weight, group)
    return 0.5 * float(total[np.arange(len(group)), group].sum())


def _sums(
    weight: NDArray[np.float64], group: NDArray[np.int64], columns: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """(R, G) sums of the (R, M) weights over the members of each group, of some columns only."""
    member = sparse.coo_array(
        (
            np.ones(len(group)) if columns is None else columns.astype(np.float64),
            (np.arange(len(group)), group),
        ),
        shape=(len(group), int(group.max(initial=-1)) + 1),
    ).tocsr()
    return weight @ member


def _merge(
    weight: NDArray[np.float64],
    amount: NDArray[np.float64],
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Joins groups, best mean evidence first, while it is positive and no view is in both."""
    group = _dense(group)
    total = _sums(_sums(weight, group).T, group)
    looked = _sums(_sums(amount, group).T, group)
    has_view = (
        _sums((np.arange(int(view.max()) + 1)[:, None] == view).astype(np.float64), group).T > 0
    )
    fixed = np.bincount(group, ~movable) > 0
    apart = (has_view.astype(np.float32) @ has_view.T.astype(np.float32)) > 0
    apart |= fixed[:, None] & fixed
    mean = np.where(apart, -np.inf, total / (looked + DOUBT))
    nearest = mean.argmax(axis=1)
    value = mean.max(axis=1)
    parent = np.arange(len(mean))
    while True:
        a = int(value.argmax())
        if value[a] < LEAST:
            break
        b = int(nearest[a])
        parent[b] = a
        for matrix in (total, looked):
            matrix[a] += matrix[b]
            matrix[:, a] = matrix[a]
        apart[a] |= apart[b]
        has_view[a] |= has_view[b]
        fixed[a] |= fixed[b]
        apart[a] = (has_view & has_view[a]).any(axis=1) | (fixed & fixed[a])
        apart[a, parent != np.arange(len(parent))] = True
        apart[:, a] = apart[a]
        mean[b], mean[:, b] = -np.inf, -np.inf
        mean[a] = np.where(apart[a], -np.inf, total[a] / (looked[a] + DOUBT))
        mean[:, a] = mean[a]
        stale = np.flatnonzero((nearest == a) | (nearest == b))
        stale = np.append(stale, [a, b])
        nearest[stale] = mean[stale].argmax(axis=1)
        value[stale] = mean[stale, nearest[stale]]
        closer = mean[:, a] > value
        nearest[closer], value[closer] = a, mean[closer, a]
    for g in range(len(parent)):
        while parent[parent[g]] != parent[g]:
            parent[g] = parent[parent[g]]
    return _dense(parent[group])


def _assign_views(
    weight: NDArray[np.float64],
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The masks of each view in turn get the groups of all others' masks that suit them best."""
    group = group.copy()
    for _ in range(ROUNDS):
        moved = False
        for v in np.unique(view[movable]):
            mine = np.flatnonzero((view == v) & movable)
            rest = np.ones(len(group), np.bool_)
            rest[mine] = False
            group = _dense(group)
            gain = _sums(weight[mine], group, rest)
            gain[:, np.unique(group[(view == v) & rest])] = 0.0
            before = gain[np.arange(len(mine)), group[mine]].sum()
            chosen, after = _assign(gain)
            if after > before + 1e-9:
                alone = gain.shape[1] + np.arange(len(mine))
                group[mine] = np.where(chosen >= 0, chosen, alone)
                moved = True
        if not moved:
            break
    return _dense(group)


def _untwist(
    weight: NDArray[np.float64],
    view: NDArray[np.int64],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    child: NDArray[np.int64],
    holder: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Exchanges two groups in the views where they lie in each other the other way round, if that
    lowers the evidence in no group."""
    ways: dict[tuple[int, int], list[int]] = {}
    for pair in zip(group[child].tolist(), group[holder].tolist(), child, strict=True):
        ways.setdefault(pair[:2], []).append(int(view[pair[2]]))
    for (inner, outer), views in ways.items():
        opposite = ways.get((outer, inner), [])
        if inner > outer or not opposite:
            continue
        both = np.flatnonzero((group == inner) | (group == outer))
        inside = weight[np.ix_(both, both)]
        for chosen in sorted((views, opposite), key=len):
            before = group[both]
            turned = np.where(np.isin(view[both], chosen), inner + outer - before, before)
            gain = (inside * (turned[:, None] == turned)).sum()
            gain -= (inside * (before[:, None] == before)).sum()
            if gain >= 0 and movable[both[turned != before]].all():
                group = group.copy()
                group[both] = turned
                break
    return group


def _assign(gain: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """The column of each row in the best one-to-one assignment, -1 for none, and its gain.

    Only positive gains are worth an assignment; rows that compete for no column with others are
    solved apart from them.
    """
    rows, columns = gain.shape
    chosen = np.full(rows, -1, np.int64)
    row, column = np.nonzero(gain > 0)
    links = sparse.coo_array(
        (np.ones(len(row)), (row, rows + column)), shape=(rows + columns, rows + columns)
    )
    part = connected_components(links, directed=False)[1]
    order = np.argsort(part[row], kind="stable")
    cuts = np.flatnonzero(np.diff(part[row][order])) + 1
    total = 0.0
    for edges in np.split(order, cuts) if len(order) else []:
        mine, theirs = np.unique(row[edges]), np.unique(column[edges])
        block = np.maximum(gain[np.ix_(mine, theirs)], 0.0)
        one, other = linear_sum_assignment(block, maximize=True)
        worth = block[one, other] > 0
        chosen[mine[one[worth]]] = theirs[other[worth]]
        total += float(block[one, other].sum())
    return chosen, total
