"""Graphs of views: trees of the best pairs, bounds on pairs per view."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.types import View

Pair = tuple[int, int]


def pairs_from_exhaustive(count: int) -> list[Pair]:
    """Every pair of ``count`` views."""
    return list(combinations(range(count), 2))


def parted_groups(count: int, kept: Sequence[Pair], asked: Sequence[Pair]) -> list[list[int]]:
    """Groups of views that the ``kept`` pairs leave apart although the ``asked`` ones, of which
    they are some, connect them."""
    group, whole = components(count, kept), components(count, asked)
    parted = np.isin(whole, whole[group != whole])
    return [np.flatnonzero(group == first).tolist() for first in np.unique(group[parted])]


def named_groups(views: Sequence[View], groups: Sequence[Sequence[int]]) -> str:
    """The views' names by group, as ``['a', 'b']; ['c']``."""
    return "; ".join(f"{[views[v].name for v in group]}" for group in groups)


def with_bridges(count: int, pairs: Sequence[Pair], others: Sequence[Pair]) -> set[Pair]:
    """The pairs, and those of the others, in their order, that join what nothing before joins."""
    # SciPy takes half a second to load, which few views need not pay.
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(count))
    for pair in pairs:
        groups.merge(*pair)
    return {*pairs, *(pair for pair in others if groups.merge(*pair))}


def tree_of(similarity: NDArray, bound: int) -> list[Pair]:
    """A heavy spanning tree in which a view has more pairs than the bound only where nothing else
    that the views have in common connects them; pairs that share nothing come last."""
    from scipy.cluster.hierarchy import DisjointSet

    count = len(similarity)
    heaviest_first = sorted(pairs_from_exhaustive(count), key=lambda pair: -similarity[pair])
    degree = np.zeros(count, dtype=np.int64)
    groups = DisjointSet(range(count))
    tree = []
    for max_degree, min_weight in ((bound, 0.0), (count, 0.0), (count, -np.inf)):
        for a, b in heaviest_first:
            bounded = max(degree[a], degree[b]) < max_degree
            if similarity[a, b] > min_weight and bounded and groups.merge(a, b):
                degree[[a, b]] += 1
                tree.append((a, b))
    return tree


def fill_up(
    score: NDArray, chosen: Sequence[tuple[int, int]], min_score: float, bound: int | NDArray
) -> list[tuple[int, int]]:
    """Adds the best pairs above ``min_score`` while both of their views stay within the bound,
    which is that of all or of each."""
    result = set(chosen)
    bound = np.broadcast_to(bound, len(score))
    degree = np.bincount(np.array(chosen, dtype=np.int64).ravel(), minlength=len(score))
    rest = [pair for pair in pairs_from_exhaustive(len(score)) if pair not in result]
    for a, b in sorted(rest, key=lambda pair: -score[pair]):
        if score[a, b] > min_score and degree[a] < bound[a] and degree[b] < bound[b]:
            result.add((a, b))
            degree[[a, b]] += 1
    return sorted(result)
