"""Patches given to the objects that explain them best, which divides and absorbs masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import KDTree

from wildseg3d_ros.masks.association.evidence import row_products
from wildseg3d_ros.masks.association.grouping import merge_groups
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.patches import EVEN, Consensus, Patches

MEMBER = 0.2
"""Share of its patches that an object must have of a mask to get a share of its pixels."""

MOST = 0.5
"""Share of the views that must have two objects in one mask for them to be one, where a view has a
mask of each."""


def place_patches(
    nodes: MaskNodes,
    patches: Patches,
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(P,) object of each patch of the masks of one level.

    Each patch of a movable mask goes to the object that gains most by it. An under-segmented mask
    is thereby divided, and a fragment goes to the object that other views show in its place. What
    the objects have become is compared once more: now two masks of a view can be of one.

    Args:
        nodes: the masks of the level.
        patches: of these masks.
        group: (M,) object of each, 0, 1, ...
        movable: (M,) bool, masks that may change their object.
    """
    node, free = patches.samples.node, movable & ~patches.samples.thin
    of_patch, count = group[node], int(group.max(initial=-1)) + 1
    for _ in range(2):
        best = _best_group(nodes, patches, Consensus.of(nodes, patches, of_patch, count), of_patch)
        of_patch = np.where(free[node], best, of_patch)
    fixed = np.bincount(group, ~movable, count) > 0
    # Two that are nothing but outlines say nothing of each other.
    solid = np.bincount(of_patch, ~patches.samples.thin[node], count) > 0
    # Objects that a view has two masks of are one only if most views say so.
    sums = Consensus.of(nodes, patches, of_patch, count)
    merged = merge_groups(sums.evidence(MOST), np.stack([fixed, ~solid], axis=1), np.arange(count))
    # An object keeps the name of the largest that it is made of, or of the one that is known.
    size = np.bincount(of_patch, patches.samples.weight, count) + np.where(fixed, np.inf, 0.0)
    order = np.argsort(size, kind="stable")
    name = np.zeros(count, np.int64)
    name[merged[order]] = order
    return name[merged[of_patch]]


def paint_masks(
    nodes: MaskNodes, patches: Patches, group: NDArray[np.int64], of_patch: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[NDArray[np.int32]]]:
    """The object of most patches of each mask, and per view (H, W) that of each pixel, -1 = none.

    The pixels of a mask are of its object; of masks that several objects have a share of, each is
    of that of the nearest patches.

    Args:
        group: (M,) objects of masks without patches.
        of_patch: (P,) of :func:`place_patches`.
    """
    samples, group = patches.samples, group.copy()
    width = int(max(group.max(initial=-1), of_patch.max(initial=-1))) + 1
    key, index = np.unique(samples.node * width + of_patch, return_inverse=True)
    weight = np.bincount(index.reshape(-1), samples.weight, len(key))
    mask, part = key // width, key % width
    order = np.argsort(weight, kind="stable")
    group[mask[order]] = part[order]
    share = weight >= MEMBER * samples.mass[mask]
    table = np.append(group, -1).astype(np.int32)
    maps = [table[image] for image in nodes.maps]
    for node in np.flatnonzero(np.bincount(mask[share], minlength=len(nodes)) > 1).tolist():
        view = int(nodes.view[node])
        mine = (samples.node == node) & np.isin(of_patch, part[share & (mask == node)])
        columns = nodes.maps[view].shape[1]
        own = np.flatnonzero(nodes.maps[view].ravel() == node)
        # Five votes: outlines of the other views' masks are off by a few pixels.
        count = min(5, np.count_nonzero(mine))
        tree = KDTree(np.stack(np.divmod(samples.pixel[mine], columns), axis=1))
        _, nearest = tree.query(np.stack(np.divmod(own, columns), axis=1), k=count)
        votes = of_patch[mine][np.asarray(nearest).reshape(len(own), count)]
        parts = np.unique(votes)
        maps[view].ravel()[own] = parts[
            np.stack([(votes == each).sum(axis=1) for each in parts]).argmax(axis=0)
        ]
    return group, maps


def _best_group(
    nodes: MaskNodes, patches: Patches, sums: Consensus, group: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(P,) the group that other views have most evidence for, the patch's own one without any.

    Whether its own mask is of one object is what is asked: that has no say.
    """
    samples, best = patches.samples, group.copy()
    theirs = sums.factors[1]
    block = 1 << 12  # patches of one pass: each meets many groups
    for start in range(0, len(group), block):
        part = slice(start, start + block)
        row = np.arange(len(samples.node[part]))
        pick = sparse.csr_array(
            (np.ones(len(row)), (row, start + row)), shape=(len(row), len(group))
        )
        mine = Consensus.of_sums(nodes, patches, pick)
        on_mask, view = mine.on_mask.copy(), samples.view[part]
        inside = samples.node[part][np.repeat(row, np.diff(on_mask.indptr))] == on_mask.indices
        on_mask.data[inside] = 0.0
        other = nodes.layer_view != view[:, None]
        left, right = Consensus(on_mask, mine.seen * other, mine.off * other).factors
        together = sparse.coo_array(on_mask @ sums.on_mask.T)
        row, column = together.row, together.col
        gain = together.data / EVEN - row_products(left, row, theirs, column)
        # What a patch says of itself does not count.
        itself = np.asarray(on_mask.multiply(on_mask).sum(axis=1)).reshape(-1) / EVEN
        itself -= (left * right).sum(axis=1)
        gain -= np.where(column == group[part][row], itself[row], 0.0)
        order = np.lexsort((gain, row))
        last = order[np.diff(row[order], append=-1) != 0]
        last = last[gain[last] > 0]
        best[start + row[last]] = column[last]
    return best
