"""Nested parts of a scene's surface."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

MIN_SCORE = 0.05
"""Score below which a node is no thing but background."""
SAME = 0.8
"""Ratio of sizes from which a segment and one inside it are the same thing."""


@dataclass(frozen=True, eq=False)
class MaskTree:
    """Nested parts of the scene's surface: each node is a run of leaves.

    Its arrays are read-only; the caller's own handles to them stay as they are.

    Attributes:
        leaves: per view (H, W) int32 leaf of each pixel, -1 = none.
        start: (T,) int32 first leaf of each node. Nodes 0 .. L-1 are the leaves themselves.
        stop: (T,) int32; node k holds the leaves ``start[k]`` to ``stop[k] - 1``.
        parent: (T,) int32, -1 at a root, of which there may be several; a parent has a higher
            index than its children, which share out its leaves.
        score: (T,) float32 in [0, 1], expected IoU of the node with the thing that a click on one
            of its pixels means.
    """

    leaves: tuple[NDArray[np.int32], ...]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    parent: NDArray[np.int32]
    score: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaves", tuple(map(_read_only, self.leaves)))
        for name in ("start", "stop", "parent", "score"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    def __getstate__(self) -> dict:
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.__post_init__()  # pickling forgets that the arrays are read-only

    @classmethod
    def of_parents(
        cls,
        patches: Sequence[NDArray[np.int32]],
        parent: NDArray[np.integer],
        score: NDArray[np.floating],
    ) -> tuple[MaskTree, NDArray[np.int32]]:
        """A tree of patches in any order, which are renumbered so that every node is a run.

        Args:
            patches: per view (H, W) int32 patch of each pixel, -1 = none.
            parent: (T,) as of the tree; the patches are the nodes that are no parent, and come
                first.
            score: (T,) of these nodes.

        Returns:
            The tree, and (T,) int32 its node for each of the nodes: other leaves, the same rest.
        """
        above = parent.tolist()
        size = [0] * len(above)
        count = len(above) - len(set(above) - {-1})
        for node, upper in enumerate(above):
            size[node] = size[node] or 1
            if upper >= 0:
                size[upper] += size[node]
        first, free, roots = [0] * len(above), [0] * len(above), 0
        for node in reversed(range(len(above))):
            upper = above[node]
            first[node] = roots if upper < 0 else free[upper]
            free[node] = first[node]
            if upper < 0:
                roots += size[node]
            else:
                free[upper] += size[node]
        start = np.array(first, np.int32)
        stop = start + np.array(size, np.int32)
        number = np.arange(len(above), dtype=np.int32)
        number[:count] = start[:count]
        order = np.argsort(number)
        leaf = np.append(number[:count], np.int32(-1))
        columns = (start[order], stop[order], np.asarray(parent, np.int32)[order])
        maps = tuple(leaf[view] for view in patches)
        return cls(maps, *columns, np.asarray(score, np.float32)[order]), number

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.start)

    @cached_property
    def leaf_count(self) -> int:
        """L."""
        return int(self.stop.max(initial=0))

    @cached_property
    def leaf_areas(self) -> NDArray[np.int64]:
        """(L,) pixels of each leaf in all views."""
        size = self.leaf_count + 1
        counts = [np.bincount(view.ravel() + 1, minlength=size) for view in self.leaves]
        return np.stack(counts).sum(axis=0)[1:].astype(np.int64)

    def path(self, leaf: int) -> list[int]:
        """Nodes from a leaf to its root."""
        nodes, node = [], int(leaf)
        while node >= 0:
            nodes.append(node)
            node = self.parent.item(node)
        return nodes

    def children(self, node: int) -> NDArray[np.intp]:
        """Nodes right below a node, sorted."""
        return np.flatnonzero(self.parent == node)

    def runs(self, nodes: Iterable[int]) -> NDArray[np.int32]:
        """(R, 2) first leaf and the one after the last of the nodes' runs, merged and sorted."""
        runs = [(self.start.item(node), self.stop.item(node)) for node in nodes]
        return merge_runs(np.array(runs, np.int32).reshape(-1, 2))

    def leaves_of(self, nodes: Iterable[int]) -> NDArray[np.bool_]:
        """(L,) bool, the leaves that the nodes hold."""
        held = np.zeros(self.leaf_count, np.bool_)
        for node in nodes:
            held[self.start[node] : self.stop[node]] = True
        return held

    def sums(self, of_leaf: NDArray) -> NDArray:
        """(T,) sum over the leaves of each node of (L,) values."""
        total = np.concatenate([np.zeros(1, of_leaf.dtype), np.cumsum(of_leaf)])
        return total[self.stop] - total[self.start]

    def cover(self, held: NDArray[np.bool_]) -> tuple[int, ...]:
        """The fewest nodes that together hold the given leaves (L,) bool and no other, sorted."""
        full = self.sums(held.astype(np.int64)) == self.stop - self.start
        below_full = (self.parent >= 0) & full[self.parent]
        return tuple(np.flatnonzero(full & ~below_full).tolist())

    @cached_property
    def best_above(self) -> NDArray[np.intp]:
        """(T,) the node of the highest score on the way from each node to its root."""
        above, score = self.parent.tolist(), self.score.tolist()
        best = list(range(len(above)))
        for node in reversed(best):
            upper = above[node]
            if upper >= 0 and score[best[upper]] > score[node]:
                best[node] = best[upper]
        return np.array(best, np.intp)

    def best_parts(
        self, nodes: Collection[int], weight: NDArray[np.integer], most: float = math.inf
    ) -> list[int]:
        """The disjoint nodes in the given ones that maximise the sum of weight times score.

        Args:
            nodes: disjoint.
            weight: (T,) of the nodes, such as their numbers of points.
            most: a part has less than this weight.
        """
        inside = np.zeros(len(self), np.bool_)
        for node in nodes:
            inside |= (self.start >= self.start[node]) & (self.stop <= self.stop[node])
        own = np.where(weight < most, weight * self.score.astype(np.float64), 0.0)
        values: dict[int, float] = {}
        parts: dict[int, list[int]] = {}
        chosen: list[int] = []
        for node in np.flatnonzero(inside).tolist():
            if own[node] > 0.0 and own[node] >= values.get(node, 0.0):
                values[node], parts[node] = own.item(node), [node]
            upper = int(self.parent[node])
            if node in nodes or upper < 0:
                chosen += parts.get(node, [])
            else:
                values[upper] = values.get(upper, 0.0) + values.get(node, 0.0)
                parts[upper] = parts.get(upper, []) + parts.get(node, [])
        return sorted(chosen)

    def certainty(self, held: NDArray[np.bool_]) -> tuple[float, float]:
        """Score and ambiguity of a set of leaves, which need be no node.

        One less IoU is a metric, so that the score of a node and its IoU with the set bound the
        IoU that is expected of the set, from both sides; their product lies between. The node
        that promises most speaks for the set. Ambiguity is how much better the set's place could
        be taken by another thing: a node that holds most of it, or disjoint nodes in it.

        Args:
            held: (L,) bool, one leaf or more.
        """
        area = self.leaf_areas
        size, both, whole = self.sums(area), self.sums(area * held), float(area[held].sum())
        score = float((self.score * both / np.maximum(size + whole - both, 1e-9)).max())
        larger = (both > 0.5 * whole) & (whole < SAME * size)
        rival = float(self.score[larger].max(initial=0.0))
        parts = self.best_parts(self.cover(held), size, SAME * whole)
        rival = max(rival, float((size * self.score)[parts].sum()) / max(whole, 1e-9))
        return score, min(1.0, rival / max(score, 1e-9))

    def cut(
        self, leaf: int, first: Sequence[NDArray[np.bool_]]
    ) -> tuple[MaskTree, NDArray[np.int32]]:
        """The tree with a leaf cut in two, which its node then holds.

        Args:
            leaf: which becomes leaves ``leaf`` and ``leaf + 1`` of the same score.
            first: per view (H, W) bool; pixels of the leaf that go to the first of them.

        Returns:
            The tree, and (T,) int32 its node for each old node.
        """
        count = self.leaf_count
        number = np.arange(len(self), dtype=np.int32)
        number[leaf + 1 :] += 1
        number[count:] += 1
        number[leaf] = node = count + 1
        size = len(self) + 2
        start, stop = np.zeros(size, np.int32), np.zeros(size, np.int32)
        parent, score = np.zeros(size, np.int32), np.zeros(size, np.float32)
        start[number] = self.start + (self.start > leaf)
        stop[number] = self.stop + (self.stop > leaf)
        parent[number] = np.where(self.parent >= 0, number[self.parent], -1)
        score[number] = self.score
        for k in (leaf, leaf + 1):
            start[k], stop[k], parent[k], score[k] = k, k + 1, node, self.score[leaf]
        maps = tuple(
            view + (view > leaf) + ((view == leaf) & ~mine)
            for view, mine in zip(self.leaves, first, strict=True)
        )
        maps = tuple(view.astype(np.int32, copy=False) for view in maps)
        return MaskTree(maps, start, stop, parent, score), number

    def with_roots(
        self, leaves: tuple[NDArray[np.int32], ...], score: NDArray[np.floating]
    ) -> tuple[MaskTree, NDArray[np.int32]]:
        """The tree with further leaves that are part of nothing.

        Args:
            leaves: per view (H, W) int32 leaf of each pixel; L, L + 1, ... are the new ones.
            score: (n,) of the new ones.

        Returns:
            The tree, and (T,) int32 its node for each old node.
        """
        count, more = self.leaf_count, len(score)
        number = np.arange(len(self), dtype=np.int32)
        number[count:] += more
        new = np.arange(count, count + more, dtype=np.int32)
        above = np.where(self.parent >= 0, number[self.parent], -1)
        columns = (
            (self.start, new),
            (self.stop, new + 1),
            (above, np.full(more, -1)),
            (self.score, score),
        )
        joined = [np.concatenate([old[:count], of_new, old[count:]]) for old, of_new in columns]
        start, stop, parent = (each.astype(np.int32) for each in joined[:3])
        return MaskTree(leaves, start, stop, parent, joined[3].astype(np.float32)), number


@dataclass(frozen=True)
class Nodes:
    """Disjoint nodes of a tree of masks: a selection that is no object, where ids would name one.

    Attributes:
        nodes: sorted.
    """

    nodes: tuple[int, ...]


Selected: TypeAlias = Sequence[int] | Nodes
"""What is selected in a scene: objects by id, or nodes."""


def merge_runs(runs: NDArray[np.int32]) -> NDArray[np.int32]:
    """(R, 2) the given runs (n, 2), sorted; those that overlap or touch are one."""
    if len(runs) < 2:
        return runs
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    end = np.maximum.accumulate(runs[:, 1])
    first = np.flatnonzero(np.append(True, runs[1:, 0] > end[:-1]))
    return np.stack([runs[first, 0], end[np.append(first[1:], len(runs)) - 1]], axis=1)


def in_runs(leaves: NDArray[np.int32], runs: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of the leaves, of any shape, are in one of the runs (R, 2)."""
    if len(runs) == 1:
        return (leaves >= runs[0, 0]) & (leaves < runs[0, 1])
    # The last entry is for the -1 of pixels without a leaf.
    chosen = np.zeros(max(leaves.max(initial=0), runs.max(initial=0)) + 2, np.bool_)
    for first, end in runs:
        chosen[first:end] = True
    return chosen[leaves]


def _read_only(array: NDArray) -> NDArray:
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array
