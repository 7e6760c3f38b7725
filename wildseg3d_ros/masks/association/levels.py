"""Wholes, parts and sub-parts, from what all views say of which object lies in which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.masks.association.evidence import Evidence, members_of
from wildseg3d_ros.masks.association.nodes import MaskNodes

AS_LIKELY = 0.9
"""A mask is the whole's where the evidence for it is at least this share of that for the part."""


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The place of each object among the others.

    Attributes:
        level: (G,) int64, 0 = whole; ``len(LEVELS)`` or more where it is nested deeper than that.
        parent: (G,) int64, the smallest object that it is part of, -1 = none.
        is_under_segmented: (G,) bool, masks that some views put around several objects, and most
            do not.
    """

    level: NDArray[np.int64]
    parent: NDArray[np.int64]
    is_under_segmented: NDArray[np.bool_]


def arrange_groups(
    nodes: MaskNodes,
    group: NDArray[np.int64],
    missed: NDArray[np.bool_],
    fixed: Mapping[int, int] | None = None,
) -> Hierarchy:
    """Derives the level of each object from all views.

    One view's nesting is an accident of that view: it has a mask around three mugs, or misses the
    mug that a handle belongs to. An object is part of another one when most of the views that
    have masks of both show it inside. That other one must be a thing: where most views that see
    it have no mask of it, while they do have masks of what is in it, it is an under-segmented
    mask, of which nothing is a part.

    Args:
        group: (M,) object of each mask, 0, 1, ..., at most one mask of a view in each.
        missed: (G, N) bool, views that see an object and have no mask of it.
        fixed: levels that objects have already, by group.
    """
    groups = int(group.max(initial=-1)) + 1
    fixed = fixed or {}
    shares = nodes.area / np.array([image.size for image in nodes.maps])[nodes.layer]
    size = np.bincount(group, shares, groups) / np.maximum(np.bincount(group, minlength=groups), 1)
    inner, outer, masked = _find_nesting(nodes, group, groups)
    rate = masked / np.maximum(masked + missed.sum(axis=1), 1)
    is_under_segmented = np.zeros(groups, np.bool_)
    is_under_segmented[outer[(rate[inner] > rate[outer]) & (rate[outer] <= 0.5)]] = True
    is_under_segmented[list(fixed)] = False
    around: list[list[int]] = [[] for _ in range(groups)]
    inside: list[list[int]] = [[] for _ in range(groups)]
    for each, other in zip(inner.tolist(), outer.tolist(), strict=True):
        around[each].append(other)
        inside[other].append(each)
    level, parent = np.zeros(groups, np.int64), np.full(groups, -1)
    # Outer ones first. Views that contradict each other can make a circle: what comes first in it
    # is taken for the whole.
    done = np.zeros(groups, np.bool_)
    depth = np.bincount(inner[~is_under_segmented[outer]], minlength=groups)
    for each in np.lexsort((-size, depth)):
        if is_under_segmented[each]:
            continue
        wholes = np.array([other for other in around[each] if done[other]], np.int64)
        if len(wholes):
            parent[each] = wholes[np.lexsort((size[wholes], -level[wholes]))[0]]
            level[each] = level[parent[each]] + 1
        fixed_levels = [fixed[part] for part in inside[each] if part in fixed]
        if each in fixed:
            level[each] = fixed[int(each)]
        elif min(fixed_levels, default=len(LEVELS)) <= level[each]:
            # It would come between a whole and its parts, or around a whole.
            is_under_segmented[each] = True
        done[each] = not is_under_segmented[each]
    for each in np.flatnonzero(is_under_segmented):
        levels = [int(level[part]) for part in inside[each] if not is_under_segmented[part]]
        level[each], parent[each] = min(levels, default=0), -1
    return Hierarchy(level, parent, is_under_segmented)


def reassign_parts(
    nodes: MaskNodes,
    evidence: Evidence,
    group: NDArray[np.int64],
    parent: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(M,) groups, where masks that show a part or its whole go to the one that they fit better.

    Where other things occlude all but the part, the one mask of a view shows both, and belongs to
    the whole. Where the view has no mask of the whole, a part's mask stays the part's, although
    many views have a mask of the whole.

    Args:
        parent: (G,) of each group, -1 = none.
    """
    group = group.copy()
    has = np.zeros((len(parent), nodes.views), np.bool_)
    has[group, nodes.view] = True
    members = [set(each.tolist()) for each in members_of(group)]
    parts = [np.flatnonzero(parent == g).tolist() for g in range(len(parent))]

    def pairs(node: int, of: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        others = np.array(sorted(members[of] - {node}), np.int64)
        return np.full(len(others), node), others

    def mean_evidence(node: int, of: int) -> float:
        affinities = evidence.affinities(*pairs(node, of))
        return float(affinities.mean()) if len(affinities) else 0.0

    def agreement(node: int, of: int) -> float:
        """In [-1, 1], by what both see: views of a part may be near and all others far."""
        support = float(evidence.supports(*pairs(node, of)).sum())
        # Masks that agree on less than 0.2 agree on little.
        return float(evidence.affinities(*pairs(node, of)).sum()) / max(support, 0.2)

    def move(node: int, to: int) -> None:
        mine = int(group[node])
        members[mine].discard(node)
        members[to].add(node)
        has[mine, nodes.view[node]] = False
        has[to, nodes.view[node]] = True
        group[node] = to

    for node in np.flatnonzero(movable).tolist():
        mine, whole = int(group[node]), int(parent[group[node]])
        if whole < 0 or has[whole, nodes.view[node]]:
            continue
        as_part = mean_evidence(node, mine)
        if as_part > 0 and mean_evidence(node, whole) >= AS_LIKELY * as_part:
            move(node, whole)
    for node in np.flatnonzero(movable).tolist():
        mine = int(group[node])
        free = [part for part in parts[mine] if not has[part, nodes.view[node]]]
        if not free:
            continue
        likely = [agreement(node, part) for part in free]
        best = int(np.argmax(likely))
        if likely[best] > 0 and agreement(node, mine) < AS_LIKELY * likely[best]:
            move(node, free[best])
    return group


def _find_nesting(
    nodes: MaskNodes, group: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Objects that most of the views with masks of both show inside another one, that one, two by
    two, and (G,) views with a mask of each."""
    key = np.unique(group * nodes.views + nodes.view)
    of_view = sparse.csr_array(
        (np.ones(len(key), np.int64), np.divmod(key, nodes.views)), shape=(groups, nodes.views)
    )
    inner, outer = (group[masks] for masks in nodes.nested())
    pairs, inside = np.unique((inner * groups + outer)[inner != outer], return_counts=True)
    inner, outer = pairs // groups, pairs % groups
    both = np.asarray(of_view[inner].multiply(of_view[outer]).sum(axis=1)).reshape(-1)
    most = 2 * inside > both
    return inner[most], outer[most], np.asarray(of_view.sum(axis=1)).reshape(-1)


def split_levels(
    nodes: MaskNodes, level: NDArray[np.int64], movable: NDArray[np.bool_]
) -> list[tuple[MaskNodes, NDArray[np.int64]]]:
    """The masks by level, whole objects first; what is nested too deep is left out.

    Where masks of one level overlap, the one that is nested in the other has the pixel. A mask of
    which that leaves less than half is left out, too: it was around several objects, and nothing
    else.

    Args:
        level: (M,) of each mask.
        movable: (M,) bool, masks that may be left out.

    Returns:
        Per level its masks, one mask layer a view, and which of all masks they are.
    """
    if len(nodes.maps) == nodes.views:
        return [(nodes, np.arange(len(nodes)))]
    split = []
    for k in range(int(level[level < len(LEVELS)].max(initial=0)) + 1):
        chosen = level == k
        _, left = _paint(nodes, chosen)
        chosen &= (2 * left >= nodes.area) | (~movable & (left > 0))
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
        painted = np.full(nodes.maps[nodes.first_layers[view]].shape, -1, np.int32)
        for layer in nodes.layers(view):
            mine = table[nodes.maps[layer]]
            painted = np.where(mine >= 0, mine, painted).astype(np.int32)
        left += np.bincount(painted.ravel() + 1, minlength=len(nodes) + 1)
        maps.append(painted)
    return tuple(maps), left[1:]
