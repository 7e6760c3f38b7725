"""Finds pairs that contradict the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.graph import MIN_POINTS, Graph, components

_OUTLIER = 4.0
"""A pair is wrong beyond this many typical pair errors ..."""

_SPREADS = 4.0
"""... and beyond this many robust deviations of the log errors ..."""

_TOLERATED = 0.01
"""... and beyond this share of the scene's size: smaller contradictions never harm."""

_LARGE = 0.1
"""Share of the scene's size beyond which the first suffices: where wrong pairs have bent the right
ones, their errors spread as far as theirs."""


def pair_errors(graph: Graph, distance: NDArray[np.float64], both: bool) -> NDArray[np.float64]:
    """(E,) median distance of a pair's points to the world points.

    Args:
        distance: (O, n), NaN where nothing is known.
        both: over the points of both views; else the larger of the two views' medians, because a
            wrong pair usually fits one of its views well.

    Returns:
        NaN where nothing is known of a pair.
    """
    values = torch.from_numpy(distance)
    first, second = (values[graph.observation[:, side]] for side in (0, 1))
    if both:
        return torch.cat([first, second], 1).nanmedian(1).values.numpy()
    medians = []
    for part in (first, second):
        enough = part.isfinite().sum(1) >= MIN_POINTS
        medians.append(torch.where(enough, part.nanmedian(1).values, torch.nan))
    return torch.fmax(*medians).numpy()


@dataclass(frozen=True, eq=False)
class Verdict:
    """What to do with each pair.

    Attributes:
        keep: (E,) bool, pairs that the solve should use.
        doubtful: (E,) bool, pairs that contradict the others but are kept, because without them
            the views would fall apart.
    """

    keep: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]


def judge(
    graph: Graph,
    distance: NDArray[np.float64],
    kept: NDArray[np.bool_],
    held: NDArray[np.bool_],
) -> Verdict:
    """Compares each pair's error with what is typical of the kept ones.

    Args:
        graph: all pairs; distance: (O, n) of their points to the world points that the kept pairs
            make, in graph units, NaN where no *other* pair has a say.
        kept: (E,) bool. A pair that was left out comes back when its error is half of what would
            get it left out, so that verdicts do not alternate.
        held: (E,) bool, pairs that cannot move: their errors are not typical of those that can,
            and they are kept.
    """
    error = pair_errors(graph, distance, both=False)
    known = np.isfinite(error)
    doubtful = np.zeros(len(error), dtype=bool)
    sample = error[known & kept & ~held]
    if len(sample) < 2:
        return Verdict(kept.copy(), doubtful)
    typical = max(float(np.median(sample)), 1e-12)
    spread = 1.4826 * float(np.median(np.abs(np.log(np.maximum(sample, 1e-12) / typical))))
    beyond = typical * float(np.exp(min(_SPREADS * spread, 100.0)))
    limit = max(_OUTLIER * typical, min(beyond, _LARGE), _TOLERATED)
    # A pair of which nothing is known contradicts nobody.
    keep = held | ~known | (error <= np.where(kept, limit, 0.5 * limit))
    edges = [tuple(edge) for edge in graph.edges[keep]]
    groups = len(components(graph.view_count, np.array(edges).reshape(-1, 2)))
    suspects = np.flatnonzero(~keep)
    for e in suspects[np.argsort(error[suspects], kind="stable")]:
        if groups == 1:
            break
        edges.append(tuple(graph.edges[e]))
        fewer = len(components(graph.view_count, np.array(edges)))
        keep[e] = doubtful[e] = fewer < groups
        if fewer == groups:
            edges.pop()
        groups = fewer
    return Verdict(keep, doubtful)
