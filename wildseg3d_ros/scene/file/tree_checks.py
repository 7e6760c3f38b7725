"""Whether the tree of a mask cache is one, and whether the objects are its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import LEVELS, MaskCache, MaskTree
from wildseg3d_ros.scene.file.checks import (
    check_array,
    check_integer,
    check_range,
    check_tuple,
    expect,
)

PixelsById = Mapping[int, NDArray[np.int64]]
"""Flat indices of a label map's pixels by id, sorted."""


def check_tree(cache: MaskCache, pixels: Sequence[Sequence[PixelsById]]) -> None:
    """Checks the tree, and that every pixel with the label of an object has a leaf of it.

    Args:
        cache: whose other parts are checked.
        pixels: of its label maps, by level and view.

    Raises:
        InvalidScene: names the part, what was expected and what it is.
    """
    for each in cache.objects:
        what = f"nodes of object {each.object_id}"
        nodes = check_tuple(each.nodes, what)
        if cache.tree is None:
            expect(not nodes, what, "none, as the masks have no tree", nodes)
    if cache.tree is None:
        return
    tree = cache.tree
    _check_nodes(tree)
    for view, leaves in enumerate(check_tuple(tree.leaves, "leaves", len(cache.labels))):
        what = f"leaves of view {view}"
        check_array(leaves, what, np.int32, cache.labels[view].shape)
        check_range(leaves, what, -1, tree.leaf_count - 1)
    unknown = sorted(set(cache.object_ids) - {each.object_id for each in cache.objects})
    expect(not unknown, "objects", f"a record of object {unknown}, as there is a tree", "none")
    for each in cache.objects:
        what = f"nodes of object {each.object_id}"
        nodes = [check_integer(node, what, 0, len(tree) - 1) for node in each.nodes]
        size, runs = int((tree.stop[nodes] - tree.start[nodes]).sum()), tree.runs(nodes)
        disjoint = nodes == sorted(nodes) and size == int(np.diff(runs).sum())
        expect(bool(nodes) and disjoint, what, "one or more, sorted, that share no leaf", nodes)
        for mask in each.masks:
            mine = pixels[LEVELS.index(each.level)][mask.view][each.object_id]
            leaves = tree.leaves[mask.view].ravel()[mine]
            run = np.searchsorted(runs[:, 0], leaves, "right") - 1
            outside = (run < 0) | (leaves >= runs[run, 1])
            got = f"{np.count_nonzero(outside)} others in view {mask.view}"
            who = f"pixels of object {each.object_id}"
            expect(not outside.any(), who, "leaves of its nodes", got)


def _check_nodes(tree: MaskTree) -> None:
    """Checks that nodes are runs of leaves that their parents share out."""
    count = len(check_array(tree.start, "start of the nodes", np.int32, (None,)))
    for name in ("stop", "parent", "score"):
        kind = np.float32 if name == "score" else np.int32
        check_array(getattr(tree, name), f"{name} of the nodes", kind, (count,))
    check_range(tree.score, "score of the nodes", 0.0, 1.0)
    check_range(tree.stop, "stop of the nodes", 1, max(count, 1))
    leaves = tree.leaf_count
    check_range(tree.start, "start of the nodes", 0, max(leaves - 1, 0))
    expect(count >= leaves, "nodes", f"one or more for each of {leaves} leaves", count)
    number, size = np.arange(count), tree.stop - tree.start
    own = (tree.start[:leaves] == number[:leaves]) & (size[:leaves] == 1)
    expect(bool(own.all()), "start and stop of the leaves", "their own numbers", "others")
    check_range(tree.parent, "parent of the nodes", -1, count - 1)
    child = np.flatnonzero(tree.parent >= 0)
    parent = tree.parent[child]
    expect(bool((parent > child).all()), "parent of the nodes", "a later node", "an earlier one")
    inside = (tree.start[child] >= tree.start[parent]) & (tree.stop[child] <= tree.stop[parent])
    expect(bool(inside.all()), "parent of the nodes", "one that holds their leaves", "others")
    # Runs that share no leaf and lie in one of the same size together are all of it.
    shared = np.bincount(parent, size[child], count)[leaves:]
    order = np.lexsort((tree.start[child], parent))
    follows = parent[order][1:] == parent[order][:-1]
    apart = tree.start[child][order][1:] >= tree.stop[child][order][:-1]
    fits = bool((shared == size[leaves:]).all()) and bool(apart[follows].all())
    expect(fits, "leaves of the nodes", "each shared out among the children", "others")
