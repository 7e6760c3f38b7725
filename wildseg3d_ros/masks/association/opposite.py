"""Objects that opposite cameras see two sides of which share no surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association.evidence import (
    Evidence,
    dense,
    members_of,
    membership,
    values_at,
)
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import MOST_OF_MASK, Overlap, overlapping_pairs

UNSEEN = 0.5
"""Share of a body's extent along the line of sight that neither side may show: about 0 of a ball
with exact masks, 0.5 if these end 6 % before its outline; of two that touch, one behind the other,
0.5 with exact masks and 0.65 and more with pixels."""
CLOSED = 0.4
"""Share of the outline along which they show that much: the ends of a cylinder are flat."""
SECTORS = 24
"""Directions in which an outline is measured, 15 degrees each."""


def join_opposite_sides(
    nodes: MaskNodes,
    overlap: Overlap,
    evidence: Evidence,
    world: WorldPointmaps,
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(M,) groups after those that are two sides of one body were joined.

    Two groups with no view in common are that when each hides most of the other in its own views,
    and along much of their outline they curve so far towards each other that what neither shows
    is no more than half of the body. One body behind another passes the first test and fails
    the second. So does a box that is seen face on: nothing tells it from two that touch.

    Args:
        evidence: of all sources.
        group: (M,) object of each mask, 0, 1, ..., at most one mask of a view in each.
        movable: (M,) bool, masks that may change their group.
    """
    count = int(group.max(initial=-1)) + 1
    taken = np.zeros((count, nodes.views), np.bool_)
    taken[group, nodes.view] = True
    fixed = np.bincount(group, ~movable, count) > 0
    a, b, share = _hidden_shares(nodes, overlap, group)
    share[(taken[a] & taken[b]).any(axis=1) | (fixed[a] & fixed[b])] = 0.0
    members = members_of(group)
    for k in np.argsort(-share, kind="stable")[: np.count_nonzero(share >= MOST_OF_MASK)].tolist():
        one, other = int(a[k]), int(b[k])
        # A body has two sides: neither is joined with a third.
        if (taken[one] & taken[other]).any():
            continue
        sides = members[one], members[other]
        i, j = (each.ravel() for each in np.meshgrid(*sides))
        affinity, support = evidence.affinities(i, j).mean(), evidence.supports(i, j).mean()
        # Opposite views see the rim of each other's side, where masks and depths are least
        # certain: a little evidence against the two does not count.
        if affinity < -0.05:
            continue
        # Where half of the support is for it, the shape does not matter.
        if affinity >= 0.5 * support > 0 or _is_closed(
            nodes, world, overlap.samples.visibility, *sides
        ):
            group = np.where(group == other, one, group)
            taken[[one, other]] = True
    return dense(group)


def _hidden_shares(
    nodes: MaskNodes, overlap: Overlap, group: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of groups that hide something of each other, and how much of the less hidden one.

    What other things hide there does not count, up to half of the side.
    """
    of_group = membership(group)
    count = int(group.max(initial=-1)) + 1
    hidden = sparse.csr_array(of_group.T @ overlap.hidden @ of_group)
    in_view = sparse.csr_array(
        (np.ones(len(nodes)), (np.arange(len(nodes)), nodes.view)), (len(nodes), nodes.views)
    )
    in_view = (of_group.T @ overlap.hidden @ in_view).toarray()
    samples = np.bincount(group, overlap.samples.count, count)
    has = np.zeros((count, nodes.views))
    has[group, nodes.view] = 1.0
    a, b = overlapping_pairs(hidden)
    share = np.ones(len(a))
    for one, other in ((a, b), (b, a)):
        mine = values_at(hidden, one, other)
        total = samples[one] * has[other].sum(axis=1)
        elsewhere = (in_view[one] * has[other]).sum(axis=1) - mine
        rest = np.maximum(total - elsewhere, 0.5 * total)
        share = np.minimum(share, mine / np.maximum(rest, 1.0))
    return a, b, share


def _is_closed(
    nodes: MaskNodes,
    world: WorldPointmaps,
    visibility: Visibility,
    one: NDArray[np.int64],
    other: NDArray[np.int64],
) -> bool:
    """Whether the masks of two sides show half of the body or more between them, along much of its
    outline."""

    def hidden_points(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
        """(P, 3) world points of masks of a side that lie behind one of the other in its view."""
        parts = []
        for node in one.tolist():
            view = int(nodes.view[node])
            mask = (nodes.maps[nodes.layer[node]] == node) & world.valid(view)
            parts.append(world.points[view][mask])
        points = np.concatenate(parts)
        behind = np.zeros(len(points), np.bool_)
        of_no_view = np.full(len(points), np.iinfo(np.uint16).max, np.uint16)
        for node in other.tolist():
            view = int(nodes.view[node])
            row, z, pixel = visibility.look(view, points, of_no_view)
            inside = nodes.maps[nodes.layer[node]].ravel()[pixel] == node
            behind[row] |= inside & (visibility.depth[view].ravel()[pixel] < z)
        return points[behind]

    # What the other side does not hide is beside the body: outlines are off by a few pixels.
    front, back = hidden_points(one, other), hidden_points(other, one)
    if min(len(front), len(back)) < 16:  # too few pixels for a shape
        return False
    middle = 0.5 * (front.mean(axis=0) + back.mean(axis=0))
    # The difference of the mean lines of sight of the two sides.
    rays = [middle - visibility.centres[nodes.view[side]] for side in (one, other)]
    sights = [(each / np.linalg.norm(each, axis=1, keepdims=True)).mean(axis=0) for each in rays]
    along = sights[0] - sights[1]
    along /= max(float(np.linalg.norm(along)), 1e-9)
    right = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    axes = np.stack([right / np.linalg.norm(right), np.cross(along, right), along], axis=1)
    front, back = (front - middle) @ axes, (back - middle) @ axes
    nearest, front_rim = _profile(front)
    farthest, back_rim = _profile(back * [1, 1, -1])
    extent = -farthest - nearest
    unseen = -back_rim - front_rim
    return float(np.count_nonzero(unseen <= UNSEEN * extent)) >= CLOSED * SECTORS


def _profile(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By direction about the z axis, (SECTORS,) smallest z of points and z of the outermost ones;
    NaN where there are none."""
    x, y, z = points.T
    sector = np.floor((np.arctan2(y, x) / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    nearest, rim = np.full((2, SECTORS), np.nan)
    order = np.lexsort((-np.hypot(x, y), sector))
    cuts = np.searchsorted(sector[order], np.arange(1, SECTORS))
    for k, mine in enumerate(np.split(z[order], cuts)):
        if len(mine):
            # Without the nearest 5 %, which depth noise may have moved.
            nearest[k] = np.quantile(mine, 0.05)
            rim[k] = np.median(mine[:3])  # three pixels, as outlines are noisy
    return nearest, rim
