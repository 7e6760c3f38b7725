"""Finds pairs that contradict the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.graph import MIN_POINTS, Graph
from wildseg3d_ros.alignment.graph.medians import middle_values
from wildseg3d_ros.core.components import component_lists

_OUTLIER = 4.0
"""A pair is wrong beyond this many typical pair errors ..."""

_SIGMAS = 4.0
"""... and beyond this many robust sigmas (MAD) of the log errors ..."""

_TOLERATED = 0.01
"""... and beyond this share of the scene's size: smaller contradictions never harm."""

_LARGE = 0.1
"""Share of the scene's size beyond which the first suffices: where wrong pairs have drawn right
ones with them, the errors of both vary as much. With these four, up to 9 wrong of 30 pairs
were left out in all of eight constructed draws, and no right one
(docs/explanation/alignment.md)."""


def pair_errors(graph: Graph, distance: NDArray[np.float64], both: bool) -> NDArray[np.float64]:
    """(E,) median distance of a pair's points to the world points.

    Args:
        distance: (O, n), NaN where nothing is known.
        both: over the points of both views; else the larger of the two views' medians, because a
            wrong pair usually fits one of its views well.

    Returns:
        NaN where nothing is known of a pair.
    """
    sides = [distance[graph.observation[:, side]] for side in (0, 1)]
    if both:
        return middle_values(np.concatenate(sides, axis=1))[0]
    medians = [
        np.where(np.isfinite(part).sum(1) >= MIN_POINTS, middle_values(part)[0], np.nan)
        for part in sides
    ]
    return np.fmax(*medians)


def judge(
    graph: Graph,
    distance: NDArray[np.float64],
    kept: NDArray[np.bool_],
    fixed_pairs: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Compares each pair's error with what is typical of the kept ones.

    Args:
        graph: all pairs; distance: (O, n) of their points to the world points that the kept pairs
            make, in graph units, NaN where no *other* pair has a say.
        kept: (E,) bool. A pair that was left out comes back when its error is half of what would
            get it left out, so that verdicts do not alternate.
        fixed_pairs: (E,) bool, pairs that cannot move: their errors are not typical of those that
            can, and they are kept.

    Returns:
        (E,) bool, pairs that the solve should use; and (E,) bool, those of them that contradict
        the others but are kept, because without them the views would fall apart.
    """
    error = pair_errors(graph, distance, both=False)
    known = np.isfinite(error)
    ambiguous = np.zeros(len(error), dtype=bool)
    sample = error[known & kept & ~fixed_pairs]
    if len(sample) < 2:
        return kept.copy(), ambiguous
    typical = max(float(np.median(sample)), 1e-12)
    sigma = 1.4826 * float(np.median(np.abs(np.log(np.maximum(sample, 1e-12) / typical))))
    beyond = typical * float(np.exp(min(_SIGMAS * sigma, 100.0)))
    limit = max(_OUTLIER * typical, min(beyond, _LARGE), _TOLERATED)
    # A pair of which nothing is known contradicts nobody.
    keep = fixed_pairs | ~known | (error <= np.where(kept, limit, 0.5 * limit))
    edges = [tuple(edge) for edge in graph.edges[keep]]
    groups = len(component_lists(graph.view_count, np.array(edges).reshape(-1, 2)))
    suspects = np.flatnonzero(~keep)
    for e in suspects[np.argsort(error[suspects], kind="stable")]:
        if groups == 1:
            break
        edges.append(tuple(graph.edges[e]))
        fewer = len(component_lists(graph.view_count, np.array(edges)))
        keep[e] = ambiguous[e] = fewer < groups
        if fewer == groups:
            edges.pop()
        groups = fewer
    return keep, ambiguous
