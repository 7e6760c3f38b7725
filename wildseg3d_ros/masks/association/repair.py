"""Masks that show a fragment of an object, or several objects at once (under-segmented)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import KDTree

from wildseg3d_ros.masks.association.evidence import (
    Evidence,
    members_of,
    membership,
    row_of,
    values_at,
)
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import MOST_OF_MASK, SAME, Overlap

MIN_HITS = 1.5
"""Samples, weighted by confidence, that must lie on an object to say anything of it."""
MEMBER = 0.2
"""Share of an under-segmented mask that each of its objects has; half of that if the object is
known already."""


def adopt_fragments(
    nodes: MaskNodes,
    overlap: Overlap,
    evidence: Evidence,
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(M,) groups after masks that stand alone went to the only object that they can be part of.

    Of an occluded object a view may show a fragment whose outline errors are as wide as itself, so
    that many of its points fall on the objects beside it. The view shows those by masks of their
    own: the fragment is none of them, and what fell on them does not count.
    """
    group = group.copy()
    alone = np.bincount(group, minlength=len(nodes))[group] == 1
    for node in np.flatnonzero(alone & movable & (np.diff(overlap.hits.indptr) > 0)).tolist():
        masks, hits = row_of(overlap.hits, node)
        on, index = np.unique(group[masks], return_inverse=True)
        on_group = np.bincount(index, hits, len(on))
        on_group[np.isin(on, group[nodes.of_view(int(nodes.view[node]))])] = 0.0
        best = int(on_group.argmax())
        possible = on_group.sum() + overlap.unmasked[node].sum()
        if on_group[best] < MIN_HITS or on_group[best] < MOST_OF_MASK * possible:
            continue
        members = np.flatnonzero(group == on[best])
        # Little evidence against it is an error of the outline.
        if evidence.block(np.array([node]), members).mean() > -0.3:
            group[node] = on[best]
    return group


def absorb_fragments(
    nodes: MaskNodes,
    overlap: Overlap,
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
    under_segmented: Collection[int],
) -> NDArray[np.int64]:
    """(M,) groups after fragments went to the object that other views show in their place.

    A view that cuts an object in two leaves a mask that the one-to-one grouping has no place for.
    It is a fragment of an object if two or more views, and half of those that see its surface,
    show that inside the masks of the object, and if at most a quarter as many show it inside
    another object. The object's mask in the view is then all its fragments. Under-segmented masks
    (nodes) are no witnesses.
    """
    group = group.copy()
    witness = ~np.isin(np.arange(len(nodes)), list(under_segmented))
    members = [set(each.tolist()) for each in members_of(group)]
    for fragment in np.argsort(np.bincount(group), kind="stable").tolist():
        mine = np.array(sorted(members[fragment]), np.int64)
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
        on[:, there == fragment] = 0.0
        whole = int(on.sum(axis=0).argmax())
        # A view whose own mask is missing there has no say.
        asked = (masked > MIN_HITS) & (masked > overlap.unmasked[mine].sum(axis=0))
        votes = np.count_nonzero(on[asked] >= SAME * masked[asked, None], axis=0)
        inside, votes[whole] = int(votes[whole]), 0
        # Other views may err, too: cut the same object or join it with another.
        if inside < max(2, len(mine)) or 2 * inside < np.count_nonzero(asked):
            continue
        if 4 * int(votes.max()) <= inside:
            group[mine] = there[whole]
            members[int(there[whole])] |= members[fragment]
            members[fragment] = set()
    return group


def divide_under_segmented(
    nodes: MaskNodes, overlap: Overlap, group: NDArray[np.int64], movable: NDArray[np.bool_]
) -> dict[int, tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """Masks that cover several objects which two or more other views tell apart.

    Returns:
        By node the flat pixels of its mask and the group of each: that of the nearest point which
        another view's mask has there.
    """
    split = {}
    members, samples = members_of(group), overlap.samples
    ends = np.cumsum(samples.count).tolist()
    starts = [0, *ends]
    for node, parts in _find_under_segmented(nodes, overlap, group, movable).items():
        view = int(nodes.view[node])
        others = np.concatenate([members[part] for part in parts])
        others = np.sort(others[nodes.view[others] != view])
        member = np.concatenate([np.arange(starts[k], ends[k]) for k in others.tolist()])
        look = samples.visibility.look
        rows, z, pixel = look(view, samples.points[member], samples.view[member])
        measured = samples.visibility.depth[view].ravel()[pixel]
        near = np.abs(measured - z) < samples.tolerance(view, z)
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


def _find_under_segmented(
    nodes: MaskNodes, overlap: Overlap, group: NDArray[np.int64], movable: NDArray[np.bool_]
) -> dict[int, NDArray[np.int64]]:
    """Masks with the two or more objects that each of them covers.

    A mask covers an object when its samples are seen on it, and when it contains what its view
    sees of two or more other views' masks of the object. Of an object that is known already it may
    contain a small part alone, as the mask cannot change what that is.
    """
    known = np.bincount(group, ~movable, len(nodes)) > 0
    entries = overlap.hits.tocoo()
    mask, node = entries.row, entries.col
    seen = overlap.seen[mask, nodes.view[node]]
    # The share that a mask has of another view's under-segmented mask says nothing of the object.
    needed = np.where(known[group[mask]], MIN_HITS, np.maximum(MOST_OF_MASK * seen, 1e-6))
    contains = (entries.data >= needed) & (seen > MIN_HITS)
    contains &= values_at(overlap.hits, node, mask) > 0
    member = membership(group)
    contained = sparse.csr_array(
        (np.ones(np.count_nonzero(contains)), (node[contains], group[mask[contains]])),
        shape=member.shape,
    )
    on = sparse.coo_array(overlap.hits @ member)
    total = np.maximum(np.asarray(overlap.hits.sum(axis=1)).reshape(-1), 1e-6)
    min_share = np.where(known[on.col], MEMBER / 2, MEMBER)
    covers = movable[on.row] & (on.data >= min_share * total[on.row])
    covers &= values_at(contained, on.row, on.col) >= 2
    node, part = on.row[covers], on.col[covers].astype(np.int64)
    names, parts = np.unique(node, return_counts=True)
    return {int(name): np.sort(part[node == name]) for name in names[parts > 1]}
