"""Masks that show a sliver or a piece of an object, or several objects at once."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import KDTree

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.masks.association.evidence import (
    Evidence,
    members_of,
    membership,
    row_of,
    values_at,
)
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
KNOWN_MEMBER = 0.1
"""The same of an object that is known already."""
COVERED = 0.6
"""Share of each of them that the mask covers."""


def adopt_leftovers(
    nodes: MaskNodes,
    overlap: Overlap,
    evidence: Evidence,
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
    for node in np.flatnonzero(alone & movable & (np.diff(overlap.hits.indptr) > 0)).tolist():
        on, on_group = _hits_by_group(overlap, group, node)
        on_group[np.isin(on, group[nodes.of_view(int(nodes.view[node]))])] = 0.0
        best = int(on_group.argmax())
        possible = on_group.sum() + overlap.bare[node].sum()
        if on_group[best] < LEAST_HITS or on_group[best] < SHARE * possible:
            continue
        members = np.flatnonzero(group == on[best])
        if evidence.block(np.array([node]), members).mean() > -AGAINST:
            group[node] = on[best]
    return group


def _hits_by_group(
    overlap: Overlap, group: NDArray[np.int64], node: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Groups that a mask's samples are seen on, and how many."""
    masks, hits = row_of(overlap.hits, node)
    on, index = np.unique(group[masks], return_inverse=True)
    return on, np.bincount(index.reshape(-1), hits, len(on)).astype(np.float64)


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
    members = [set(each.tolist()) for each in members_of(group)]
    for piece in np.argsort(np.bincount(group), kind="stable").tolist():
        mine = np.array(sorted(members[piece]), np.int64)
        if not len(mine) or not movable[mine].all():
            continue
        rows = [row_of(overlap.hits, int(node)) for node in mine]
        masks = np.concatenate([columns for columns, _ in rows])
        hits = np.concatenate([values for _, values in rows]) * witness[masks]
        # Views in which the object has masks of its own are not asked.
        elsewhere = ~np.isin(nodes.view[masks], nodes.view[mine])
        masks, hits = masks[elsewhere], hits[elsewhere]
        if not len(masks):
            continue
        there, index = np.unique(group[masks], return_inverse=True)
        on = np.zeros((nodes.views, len(there)))
        np.add.at(on, (nodes.view[masks], index.reshape(-1)), hits)
        masked = on.sum(axis=1)
        on[:, there == piece] = 0.0
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
            group[mine] = there[whole]
            members[int(there[whole])] |= members[piece]
            members[piece] = set()
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
    split = {}
    members = members_of(group)
    ends = np.cumsum(samples.count).tolist()
    starts = [0, *ends]
    for node, parts in _find_unions(nodes, overlap, group, movable).items():
        view = int(nodes.view[node])
        others = np.concatenate([members[part] for part in parts])
        others = np.sort(others[nodes.view[others] != view])
        member = np.concatenate([np.arange(starts[k], ends[k]) for k in others.tolist()])
        rows, z, pixel = visibility.look(view, samples.points[member], samples.view[member])
        measured = visibility.depth[view].ravel()[pixel]
        near = np.abs(measured - z) < samples.tolerance(visibility, view, z)
        near &= nodes.maps[view].ravel()[pixel] == node
        pixel, owner = pixel[near], group[samples.node[member[rows[near]]]]
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
        split[node] = (own, parts[chosen])
    return split


def _find_unions(
    nodes: MaskNodes, overlap: Overlap, group: NDArray[np.int64], movable: NDArray[np.bool_]
) -> dict[int, NDArray[np.int64]]:
    """Masks with the two or more objects that each of them covers.

    A mask covers an object when its samples are seen on it, and when it holds what its view sees
    of two or more other views' masks of the object. Of an object that is known already it may
    hold a small part alone, as the mask cannot change what that is.
    """
    known = np.bincount(group, ~movable, len(nodes)) > 0
    entries = overlap.hits.tocoo()
    mask, node = entries.row, entries.col
    seen = overlap.seen[mask, nodes.view[node]]
    # A mask's own share of another view's mask of several objects says nothing of the object.
    needed = np.where(known[group[mask]], LEAST_HITS, np.maximum(COVERED * seen, 1e-6))
    holds = (entries.data >= needed) & (seen > LEAST_HITS)
    holds &= values_at(overlap.hits, node, mask) > 0
    member = membership(group)
    held = sparse.csr_array(
        (np.ones(np.count_nonzero(holds)), (node[holds], group[mask[holds]])), shape=member.shape
    )
    on = sparse.coo_array(overlap.hits @ member)
    total = np.maximum(np.asarray(overlap.hits.sum(axis=1)).reshape(-1), 1e-6)
    least = np.where(known[on.col], KNOWN_MEMBER, MEMBER) * total[on.row]
    covers = movable[on.row] & (on.data >= least)
    covers &= values_at(held, on.row, on.col) >= 2
    node, part = on.row[covers], on.col[covers].astype(np.int64)
    names, parts = np.unique(node, return_counts=True)
    return {int(name): np.sort(part[node == name]) for name in names[parts > 1]}
