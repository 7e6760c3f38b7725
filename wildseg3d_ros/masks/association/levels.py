"""Wholes, parts and sub-parts, from what all views say of which object lies in which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.types import LEVELS

AS_LIKELY = 0.9
"""Evidence for the whole, as a share of that for the part, from which a mask is the whole's."""
OWN = 0.5
"""Share of a mask that must be left of it beside masks of other objects of its level that lie in
it."""


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The place of each object among the others.

    Attributes:
        level: (G,) int64, 0 = whole; ``len(LEVELS)`` or more where it is nested deeper than that.
        parent: (G,) int64, the smallest object that it is part of, -1 = none.
        is_gathering: (G,) bool, masks that some views put round several objects, and most do not.
    """

    level: NDArray[np.int64]
    parent: NDArray[np.int64]
    is_gathering: NDArray[np.bool_]


def arrange_groups(
    nodes: MaskNodes,
    group: NDArray[np.int64],
    missed: NDArray[np.bool_],
    fixed: Mapping[int, int] | None = None,
) -> Hierarchy:
    """Derives the level of each object from all views.

    One view's nesting is an accident of that view: it has a mask round three mugs, or misses the
    mug that a handle belongs to. An object is part of another one when most of the views that
    have masks of both show it inside. That other one must be a thing: where most views that see
    it have no mask of it, while they do have masks of what is in it, it is a gathering, of which
    nothing is a part.

    Args:
        group: (M,) object of each mask, 0, 1, ..., at most one mask of a view in each.
        missed: (G, N) bool, views that see an object and have no mask of it.
        fixed: levels that objects have already, by group.
    """
    groups = int(group.max(initial=-1)) + 1
    fixed = fixed or {}
    inside, both, masked = _count_nesting(nodes, group, groups)
    shares = nodes.area / np.array(
        [nodes.maps[nodes.first_sheets[v]].size for v in nodes.view], np.float64
    )
    size = np.bincount(group, shares, groups) / np.maximum(np.bincount(group, minlength=groups), 1)
    holds = 2 * inside > both
    rate = masked / np.maximum(masked + missed.sum(axis=1), 1)
    is_fixed = np.isin(np.arange(groups), list(fixed))
    better = holds & (rate[:, None] > rate) & (rate <= 0.5)
    is_gathering = better.any(axis=0) & ~is_fixed
    level, parent = np.zeros(groups, np.int64), np.full(groups, -1)
    level, parent = np.zeros(groups, np.int64), np.full(groups, -1)
    # Holders first. Views that contradict each other can make a circle: what comes first in it is
    # taken for the whole.
    done = np.zeros(groups, np.bool_)
    for each in np.lexsort((-size, (holds & ~is_gathering).sum(axis=1))):
        if is_gathering[each]:
            continue
        holders = np.flatnonzero(holds[each] & done)
        if len(holders):
            parent[each] = holders[np.lexsort((size[holders], -level[holders]))[0]]
            level[each] = level[parent[each]] + 1
        held = [fixed[int(part)] for part in np.flatnonzero(holds[:, each]) if part in fixed]
        if each in fixed:
            level[each] = fixed[int(each)]
        elif min(held, default=len(LEVELS)) <= level[each]:
            # It would come between a whole and its parts, or about a whole.
            is_gathering[each] = True
        done[each] = not is_gathering[each]
    for each in np.flatnonzero(is_gathering):
        held = level[holds[:, each] & ~is_gathering]
        level[each], parent[each] = held.min() if len(held) else 0, -1
    return Hierarchy(level, parent, is_gathering)


def prefer_wholes(
    nodes: MaskNodes,
    weight: NDArray[np.float32],
    group: NDArray[np.int64],
    parent: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(M,) groups after masks that are a part or all of its whole as well became the whole.

    Where other things hide all but the part, a view's one mask there is both.

    Args:
        parent: (G,) of each group, -1 = none.
    """
    group = group.copy()
    has = np.zeros((len(parent), nodes.views), np.bool_)
    has[group, nodes.view] = True
    for node in np.flatnonzero(movable & (parent[group] >= 0)):
        part, whole = int(group[node]), int(parent[group[node]])
        if has[whole, nodes.view[node]]:
            continue
        others = np.arange(len(nodes)) != node
        likely = [weight[node, others & (group == g)] for g in (whole, part)]
        if len(likely[1]) and likely[0].mean() >= AS_LIKELY * likely[1].mean() > 0:
            group[node] = whole
            has[whole, nodes.view[node]] = True
    return group


def _count_nesting(
    nodes: MaskNodes, group: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """(G, G) views that show the row's object inside the column's, (G, G) views with masks of
    both, and (G,) views with a mask of each."""
    has = np.zeros((groups, nodes.views), np.float32)
    has[group, nodes.view] = 1.0
    inside = np.zeros((groups, groups), np.float32)
    child, holder = nodes.nested()
    np.add.at(inside, (group[child], group[holder]), 1.0)
    np.fill_diagonal(inside, 0.0)
    return inside, has @ has.T, has.sum(axis=1).astype(np.float64)


def split_levels(
    nodes: MaskNodes,
    level: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> list[tuple[MaskNodes, NDArray[np.int64]]]:
    """The masks by level, whole objects first; what is nested too deep is left out.

    Where masks of one level overlap, the one that is nested in the other has the pixel. A mask of
    which that leaves little is left out, too: it was about several objects, and nothing else.

    Args:
        level: (M,) of each mask.
        movable: (M,) bool, masks that may be left out.

    Returns:
        Per level its masks, one sheet a view, and which of all masks they are.
    """
    if len(nodes.maps) == nodes.views:
        return [(nodes, np.arange(len(nodes)))]
    split = []
    for k in range(int(level[level < len(LEVELS)].max(initial=0)) + 1):
        chosen = level == k
        _, left = _paint(nodes, chosen)
        chosen &= (left >= OWN * nodes.area) | (~movable & (left > 0))
        maps, left = _paint(nodes, chosen)
        chosen &= left > 0
        split.append((nodes.chosen(chosen, maps, left), np.flatnonzero(chosen)))
    return split


def _paint(
    nodes: MaskNodes, chosen: NDArray[np.bool_]
) -> tuple[tuple[NDArray[np.int32], ...], NDArray[np.int64]]:
    """Per view the chosen masks, inner ones over outer ones, and (M,) pixels left of each."""
    maps = []
    left = np.zeros(len(nodes) + 1, np.int64)
    table = np.append(np.where(chosen, np.arange(len(nodes)), -1), -1)
    for view in range(nodes.views):
        painted = np.full(nodes.maps[nodes.first_sheets[view]].shape, -1, np.int32)
        for sheet in nodes.sheets(view):
            mine = table[nodes.maps[sheet]]
            painted = np.where(mine >= 0, mine, painted).astype(np.int32)
        left += np.bincount(painted.ravel() + 1, minlength=len(nodes) + 1)
        maps.append(painted)
    return tuple(maps), left[1:]
