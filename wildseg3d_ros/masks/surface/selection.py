"""Which nodes of a merge tree are objects: the disjoint set with the greatest expected IoU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.merge_tree import MergeTree


def node_values(tree: MergeTree, score: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T,) value of each node as an object: its score times its voxels, so that the sum over
    disjoint nodes is the IoU that is expected of clicks all over them.

    What was merged though the pair is likelier two things is none.
    """
    return score * tree.shapes.voxels * (tree.log_odds > 0.0)


def select_nodes(tree: MergeTree, value: NDArray[np.float64]) -> NDArray[np.int64]:
    """(K,) the disjoint nodes that together hold all patches and have the greatest total value, by
    dynamic programming over the tree.

    Args:
        value: (T,) >= 0 of each node, as of :func:`node_values`.
    """
    below = np.zeros(len(tree))  # of the best set strictly below a node
    best = value.copy()
    for node, (one, other) in enumerate(tree.children.tolist(), start=tree.patches):
        below[node] = best[one] + best[other]
        best[node] = max(value[node], below[node])
    chosen = value >= below
    open_ = np.ones(len(tree), np.bool_)  # nothing above is taken
    for node in range(len(tree) - 1, -1, -1):
        parent = tree.parent[node]
        if parent >= 0:
            open_[node] = open_[parent] and not chosen[parent]
    return np.flatnonzero(open_ & chosen)


def node_of_patch(tree: MergeTree, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P,) the node, of disjoint ones, that each patch is in; -1 = none."""
    top = np.full(len(tree), -1)
    top[nodes] = nodes
    for node in range(len(tree) - 1, -1, -1):
        parent = tree.parent[node]
        if parent >= 0 and top[parent] >= 0:
            top[node] = top[parent]
    return top[: tree.patches]
