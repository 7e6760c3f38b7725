"""Graphs of views: trees of the best pairs, bounds on pairs per view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View

Pair = tuple[int, int]


def pairs_from_exhaustive(count: int) -> list[tuple[int, int]]:
    """Every pair of ``count`` views."""
    return [(a, b) for a in range(count) for b in range(a + 1, count)]


def pairs_from_sequence(count: int, window: int = 2) -> list[tuple[int, int]]:
    """Each view with the ``window`` views that follow it."""
    return [(a, b) for a in range(count) for b in range(a + 1, min(a + 1 + window, count))]


def named_groups(views: Sequence[View], group: Sequence[int]) -> str:
    """The views' names by group, as ``['a', 'b']; ['c']``.

    Args:
        group: of each view, as :func:`wildseg3d_ros.core.components.components` gives it.
    """
    members: dict[int, list[str]] = {}
    for view, number in zip(views, group, strict=True):
        members.setdefault(number, []).append(f"'{view.name}'")
    return "; ".join("[" + ", ".join(names) + "]" for names in members.values())


def maximum_spanning_tree(
    count: int, pairs: Sequence[tuple[int, int]], weights: Sequence[float]
) -> list[int]:
    """Positions in ``pairs`` of a maximum spanning forest (Kruskal), heaviest first.

    Ties go to the earlier pair.
    """
    # SciPy takes half a second to load, which few views need not pay.
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(count))
    order = np.argsort(-np.asarray(weights, dtype=np.float64), kind="stable")
    return [int(position) for position in order if groups.merge(*pairs[position])]


def tree_of(similarity: NDArray, bound: int) -> list[tuple[int, int]]:
    """A heavy spanning tree in which a view has more pairs than the bound only where nothing else
    that the views have in common connects them; pairs that share nothing come last."""
    from scipy.cluster.hierarchy import DisjointSet

    count = len(similarity)
    pairs = pairs_from_exhaustive(count)
    weights = np.array([float(similarity[pair]) for pair in pairs])
    degree = np.zeros(count, dtype=np.int64)
    groups = DisjointSet(range(count))
    tree = []
    order = np.argsort(-weights, kind="stable")
    for max_degree, min_weight in ((bound, 0.0), (count, 0.0), (count, -np.inf)):
        for position in order[weights[order] > min_weight]:
            a, b = pairs[position]
            if max(degree[a], degree[b]) < max_degree and groups.merge(a, b):
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
    degree = np.zeros(len(score), dtype=np.int64)
    for pair in result:
        degree[list(pair)] += 1
    rest = [pair for pair in pairs_from_exhaustive(len(score)) if pair not in result]
    for a, b in sorted(rest, key=lambda pair: -score[pair]):
        if score[a, b] > min_score and degree[a] < bound[a] and degree[b] < bound[b]:
            result.add((a, b))
            degree[[a, b]] += 1
    return sorted(result)
