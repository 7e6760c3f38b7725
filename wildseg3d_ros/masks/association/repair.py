"""Masks that show a sliver or a piece of an object, or several objects at once."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import Overlap, Samples

LEAST_HITS = 1.5
"""Samples, by sureness, that must lie on the object that takes a mask in."""
SHARE = 0.6
"""Their share among those that do not lie on objects which the view shows elsewhere."""
AGAINST = 0.3
"""Evidence that is outvoted at most."""
PIECE = 0.8
"""Share of a piece that must lie on one object, in two or more and half of the views."""
RIVAL = 4
"""How many times as many views must say so as take it for a piece of another object."""
MEMBER = 0.2
"""Share of a mask of several objects that each of them has at least."""
COVERED = 0.6
"""Share of each of them that the mask covers."""


def adopt_leftovers(
    nodes: MaskNodes,
    overlap: Overlap,
    weight: NDArray[np.float32],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(M,) groups after masks that stand alone went to the only object that they can be part of.

    Of an object behind others a view may show a sliver whose outline errors are as wide as itself,
    so many of its points fall on the objects beside it. Those the view shows by masks of their
    own: the sliver is none of them, and what fell on them does not count.
    """
    group = group.copy()
    alone = np.bincount(group, minlength=len(nodes))[group] == 1
    for node in np.flatnonzero(alone & movable & (overlap.hits.sum(axis=1) > 0)):
        groups = int(group.max()) + 1
        on_group = np.bincount(group, overlap.hits[node], groups)
        on_group[group[nodes.of_view(int(nodes.view[node]))]] = 0.0
        best = int(on_group.argmax())
        possible = on_group.sum() + overlap.bare[node].sum()
        if on_group[best] < LEAST_HITS or on_group[best] < SHARE * possible:
            continue
        members = group == best
        if weight[node, members].mean() > -AGAINST:
            group[node] = best
    return group


def absorb_pieces(
    nodes: MaskNodes,
    overlap: Overlap,
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    unions: Collection[int],
) -> NDArray[np.int64]:
    """(M,) groups after pieces went to the object that all other views take them for.

    A view that cuts an object in two leaves a mask that the one-to-one grouping has no place for.
    Where two or more views, and half of those that see it, show its surface inside the masks of
    one object, no more views show it apart, and hardly any inside another object, it is a piece of
    that object, and the object's mask in the view is all its pieces. Masks of several objects
    (``unions``, nodes) are no witnesses.
    """
    group = group.copy()
    witness = ~np.isin(np.arange(len(nodes)), list(unions))
    for piece in np.argsort(np.bincount(group), kind="stable"):
        mine = np.flatnonzero(group == piece)
        if not len(mine) or not movable[mine].all():
            continue
        groups = int(group.max()) + 1
        elsewhere = ~np.isin(np.arange(nodes.views), nodes.view[mine])
        on = np.zeros((nodes.views, groups))
        for view in np.flatnonzero(elsewhere):
            theirs = nodes.of_view(int(view))
            hits = overlap.hits[mine, theirs].sum(axis=0) * witness[theirs]
            on[view] = np.bincount(group[theirs], hits, groups)
        masked = on.sum(axis=1)
        on[:, piece] = 0.0
        whole = int(on.sum(axis=0).argmax())
        # A view whose own mask is missing there has no say.
        shown = (masked > LEAST_HITS) & (masked > overlap.bare[mine].sum(axis=0))
        inside = np.count_nonzero(shown & (on[:, whole] >= PIECE * masked))
        # Other views may err, too: cut the same object or join it with another.
        if inside < max(2, len(mine)) or 2 * inside < np.count_nonzero(shown):
            continue
        # Nor may they take it for a piece of something else.
        within = shown[:, None] & (on >= PIECE * masked[:, None])
        within[:, whole] = False
        if RIVAL * int(within.sum(axis=0).max()) <= inside:
            group[mine] = whole
    return group


def split_unions(
    nodes: MaskNodes,
    samples: Samples,
    overlap: Overlap,
    visibility: Visibility,
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> dict[int, tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """Masks that cover several objects, which two or more other views tell apart.

    Returns:
        By node the flat pixels of its mask and the group of each: that of the nearest point which
        another view's mask has there.
    """
    groups = int(group.max(initial=-1)) + 1
    split = {}
    for node in np.flatnonzero(movable):
        view = int(nodes.view[node])
        # Its own membership must not count for the object that it was taken for.
        others = np.arange(len(nodes)) != node
        on = np.bincount(group[others], overlap.hits[node, others], groups)
        parts = [
            part
            for part in np.flatnonzero(on >= MEMBER * max(on.sum(), 1e-6))
            if _covers(int(node), int(part), overlap, group, view, nodes)
        ]
        if len(parts) < 2:
            continue
        member = np.isin(group[samples.node], parts) & (samples.view != view)
        rows, z, pixel = visibility.look(view, samples.points[member], samples.view[member])
        measured = visibility.depth[view].ravel()[pixel]
        near = np.abs(measured - z) < samples.tolerance(visibility, view, z)
        near &= nodes.maps[view].ravel()[pixel] == node
        pixel, owner = pixel[near], group[samples.node[np.flatnonzero(member)[rows[near]]]]
        if len(np.unique(owner)) < 2:
            continue
        width = nodes.maps[view].shape[1]
        own = np.flatnonzero(nodes.maps[view].ravel() == node)
        # Five votes: outlines of the other views' masks are off by a few pixels.
        count = min(5, len(pixel))
        tree = KDTree(np.stack(np.divmod(pixel, width), axis=1))
        _, nearest = tree.query(np.stack(np.divmod(own, width), axis=1), k=count)
        votes = owner[np.asarray(nearest).reshape(len(own), count)]
        chosen = np.stack([(votes == part).sum(axis=1) for part in parts]).argmax(axis=0)
        split[int(node)] = (own, np.array(parts, np.int64)[chosen])
    return split


def _covers(
    node: int,
    part: int,
    overlap: Overlap,
    group: NDArray[np.int64],
    view: int,
    nodes: MaskNodes,
) -> bool:
    """Whether the mask holds what its view sees of two or more other views' masks of an object."""
    members = np.flatnonzero((group == part) & (nodes.view != view))
    seen = overlap.seen[members, view]
    inside = overlap.hits[members, node] >= COVERED * seen
    # Its own share of another view's mask of several objects says nothing of the object.
    inside &= overlap.hits[node, members] > 0
    return bool(np.count_nonzero(inside & (seen > LEAST_HITS)) >= 2)
