"""Finds pairs that contradict the others."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph import MIN_POINTS, Graph, components
from wildseg3d_ros.alignment.solver import Solution, observed_twice

_OUTLIER = 4.0
"""A pair is wrong beyond this many typical pair errors ..."""

_SPREADS = 4.0
"""... and beyond this many robust deviations of the log errors ..."""

_TOLERATED = 0.01
"""... and beyond this share of the scene's size: smaller contradictions never harm."""


def pair_errors(graph: Graph, distance: NDArray[np.float64], both: bool) -> NDArray[np.float64]:
    """(E,) median distance of a pair's points to the world points.

    Args:
        distance: (O, n), NaN where nothing is known.
        both: over the points of both views; else the larger of the two views' medians, because a
            wrong pair usually fits one of its views well.

    Returns:
        NaN where nothing is known of a pair.
    """
    out = np.full(len(graph.edges), np.nan)
    for e, sides in enumerate(graph.observation):
        known = [distance[o][np.isfinite(distance[o])] for o in sides]
        if both:
            values = np.concatenate(known)
            out[e] = np.median(values) if values.size else np.nan
        else:
            medians = [np.median(values) for values in known if values.size >= MIN_POINTS]
            out[e] = max(medians) if medians else np.nan
    return out


def find_wrong_pairs(
    graph: Graph, solution: Solution
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pairs to leave out, and bad pairs that hold the views together, each (E,) bool."""
    twice = observed_twice(graph)
    distance = torch.where(twice, solution.residual, torch.nan).cpu().numpy()
    error = pair_errors(graph, distance, both=False)
    bad = np.zeros(len(error), dtype=bool)
    needed = np.zeros(len(error), dtype=bool)
    known = np.isfinite(error)
    if np.count_nonzero(known) < 2:
        return bad, needed
    typical = float(np.median(error[known]))
    logs = np.log(np.maximum(error[known], 1e-12) / max(typical, 1e-12))
    spread = 1.4826 * float(np.median(np.abs(logs)))
    limit = max(_OUTLIER * typical, typical * np.exp(_SPREADS * spread), _TOLERATED)
    suspects = np.flatnonzero(known & (error > limit))
    kept = [tuple(edge) for edge in graph.edges[~np.isin(np.arange(len(error)), suspects)]]
    groups = len(components(graph.view_count, np.array(kept).reshape(-1, 2)))
    for e in suspects[np.argsort(error[suspects], kind="stable")]:
        with_it = kept + [tuple(graph.edges[e])]
        fewer = len(components(graph.view_count, np.array(with_it)))
        if fewer < groups:
            kept, groups = with_it, fewer
            needed[e] = True
        else:
            bad[e] = True
    return bad, needed
