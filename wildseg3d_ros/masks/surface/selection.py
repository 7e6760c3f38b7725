"""Which nodes of a merge tree are objects: the disjoint set with the greatest expected IoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.merge_tree import MergeTree


@dataclass(frozen=True, eq=False)
class Selection:
    """A set of disjoint nodes that together hold all patches.

    Attributes:
        nodes: (K,) int64.
        ambiguity: (K,) in [0, 1], how close the best set comes in which the node's place is taken
            by something else, larger or smaller: 1 = as good. What has three quarters of the node,
            or of which the node is three quarters, is no other thing.
    """

    nodes: NDArray[np.int64]
    ambiguity: NDArray[np.float64]


def node_values(tree: MergeTree, score: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T,) value of each node as an object: its score times its voxels, so that the sum over
    disjoint nodes is the IoU that is expected of clicks all over them.

    What was merged though the pair is likelier two things is none.
    """
    return score * tree.shapes.voxels * (tree.log_odds > 0.0)


SAME = 0.75
"""Ratio of sizes from which a node and one above it are the same thing."""


def rival_values(tree: MergeTree, score: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T,) value of each node as a rival of others: that of :func:`node_values`, but it falls with
    the probability of the merge, where that is below a half, and not to 0 at once."""
    chance = 1.0 / (1.0 + np.exp(-tree.log_odds.clip(-50.0, 0.0)))
    return score * tree.shapes.voxels * 2.0 * chance


def select_nodes(
    tree: MergeTree, value: NDArray[np.float64], rival: NDArray[np.float64] | None = None
) -> Selection:
    """The disjoint nodes of the greatest total value, by dynamic programming over the tree.

    Args:
        value: (T,) >= 0 of each node, as of :func:`node_values`.
        rival: (T,) likewise, what a node above another one is worth as its rival.
    """
    rival = value if rival is None else rival
    patches = tree.patches
    below = np.zeros(len(tree))  # of the best set strictly below a node
    best = value.copy()
    for node, (one, other) in enumerate(tree.children.tolist(), start=patches):
        below[node] = best[one] + best[other]
        best[node] = max(value[node], below[node])
    chosen = value >= below
    open_ = np.ones(len(tree), np.bool_)  # nothing above is taken
    for node in range(len(tree) - 1, -1, -1):
        parent = tree.parent[node]
        if parent >= 0:
            open_[node] = open_[parent] and not chosen[parent]
    nodes = np.flatnonzero(open_ & chosen)
    links = tree.patches, tree.children.tolist(), tree.parent.tolist()
    columns = (tree.shapes.voxels, value, below, best, rival)
    rivals = _Rivals(*links, *(each.tolist() for each in columns))
    return Selection(nodes, np.array([rivals.ambiguity(node) for node in nodes.tolist()]))


@dataclass(frozen=True, eq=False)
class _Rivals:
    """A tree in lists, which walks from node to node are quick in.

    Attributes:
        below, best: value of the best set strictly below each node, and with it.
        rival: of each node as a rival of what it holds.
    """

    patches: int
    children: list[list[int]]
    parent: list[int]
    voxels: list[float]
    value: list[float]
    below: list[float]
    best: list[float]
    rival: list[float]

    def ambiguity(self, node: int) -> float:
        """How close the best rival of a selected node comes."""
        voxels, size = self.voxels, self.voxels[node]
        most, above = 0.0, self.parent[node]
        while above >= 0:
            if size < SAME * voxels[above]:
                most = max(most, self.rival[above] / max(self.below[above], 1e-12))
            above = self.parent[above]
        # Down the largest part until it is another thing; all beside the way is as it is best.
        parts, part = 0.0, node
        while part >= self.patches and voxels[part] >= SAME * size:
            one, other = self.children[part - self.patches]
            part, other = (one, other) if voxels[one] >= voxels[other] else (other, one)
            parts += self.best[other]
        if voxels[part] < SAME * size:
            most = max(most, (parts + self.best[part]) / max(self.value[node], 1e-12))
        return min(most, 1.0)


def node_of_patch(tree: MergeTree, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P,) the node, of disjoint ones, that each patch is in; -1 = none."""
    top = np.full(len(tree), -1)
    top[nodes] = nodes
    for node in range(len(tree) - 1, -1, -1):
        parent = tree.parent[node]
        if parent >= 0 and top[parent] >= 0:
            top[node] = top[parent]
    return top[: tree.patches]
