"""The reduced problem: a graph of pairs, each with sampled points of its two views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import component_lists
from wildseg3d_ros.core.errors import (
    AlignmentError,
    DisconnectedViews,
    ErrorCode,
    InputError,
)
from wildseg3d_ros.core.types import PairPrediction, View

MIN_POINTS = 12
"""Sampled points below which a view's part of a pair says nothing about its pose."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Pairs and their sampled points. An observation is one view's part of one pair.

    Observations are ordered by view, so that those of a view are the slice ``of_view[v]``. Sampled
    pixels of a view are the same in all its observations; rows are padded to the longest view with
    weight 0. Points are divided by the pair's ``unit``, so that all pairs have a size near 1.

    Attributes:
        edges: (E, 2) int views of each pair; ids: (E,) its index in the predictions.
        view, edge, side: (O,) int of each observation; side 0 is the pair's view a, 1 is b.
        x: (O, 3, n) float64 points in the pair's frame, over the pair's unit.
        weight: (O, n) float64 W, 0 = no point.
        pixels: per view (n_v, 2) int rows and columns of its samples.
        unit: (E,) length that a pair's points were divided by.
        fixed: (E,) bool, pairs whose scale is known.
        pair_from_map: (O, 4, 4) float64, from the frame of the observed array to the pair's.
        own_frame: (O,) bool, whether the observed array is in its own camera's frame.
        measured: (N,) bool, views whose observations all are one array in its camera's frame.
    """

    edges: NDArray[np.int64]
    ids: NDArray[np.int64]
    view: NDArray[np.int64]
    edge: NDArray[np.int64]
    side: NDArray[np.int64]
    x: NDArray[np.float64]
    weight: NDArray[np.float64]
    pixels: tuple[NDArray[np.int64], ...]
    unit: NDArray[np.float64]
    fixed: NDArray[np.bool_]
    pair_from_map: NDArray[np.float64]
    own_frame: NDArray[np.bool_]
    measured: NDArray[np.bool_]

    @property
    def view_count(self) -> int:
        """N."""
        return len(self.pixels)

    @cached_property
    def observation(self) -> NDArray[np.int64]:
        """(E, 2) the observation of a pair's side."""
        out = np.empty((len(self.edges), 2), dtype=np.int64)
        out[self.edge, self.side] = np.arange(len(self.edge))
        return out

    @cached_property
    def of_view(self) -> tuple[slice, ...]:
        """N slices of observations."""
        bounds = np.searchsorted(self.view, np.arange(self.view_count + 1)).tolist()
        return tuple(slice(*ends) for ends in pairwise(bounds))

    def select(self, keep: NDArray[np.bool_]) -> Graph:
        """The graph with only some of its pairs."""
        if keep.all():
            return self
        kept, of_pairs = keep[self.edge], ("edges", "ids", "unit", "fixed")
        of_observations = ("view", "side", "x", "weight", "pair_from_map", "own_frame")
        rows = {name: getattr(self, name)[keep] for name in of_pairs}
        rows |= {name: getattr(self, name)[kept] for name in of_observations}
        return replace(self, edge=(np.cumsum(keep) - 1)[self.edge[kept]], **rows)

    def strength(self) -> NDArray[np.float64]:
        """(E,) product of the mean weights of a pair's two views: how much it can be trusted."""
        samples = np.array([max(len(pixels), 1) for pixels in self.pixels])
        mean = self.weight.sum(1) / samples[self.view]
        return mean[self.observation[:, 0]] * mean[self.observation[:, 1]]


def usable_pairs(
    graph: Graph, names: Sequence[str], views: Sequence[View], first_fixed: int | None = None
) -> tuple[Graph, list[str]]:
    """The pairs with enough points in both views to say how these lie to each other, and warnings
    of the others.

    Args:
        graph: all pairs; names: theirs.
        first_fixed: number of the first pair of those at the end that stay, come what may.

    Raises:
        AlignmentError: they do not connect all views.
    """
    good = np.count_nonzero(graph.weight > 0, axis=1) >= MIN_POINTS
    good &= np.isfinite(graph.pair_from_map).all((1, 2)) & np.isfinite(graph.x).all((1, 2))
    enough = good[graph.observation].all(1)
    if first_fixed is not None:
        enough[first_fixed:] = True
    empty = [names[e] for e in np.flatnonzero(~enough).tolist()]
    _check_connected(graph.edges[enough], views, empty)
    return graph.select(enough), [f"pair {n} has too few points and is left out" for n in empty]


def check_pairs(predictions: Sequence[PairPrediction], views: Sequence[View]) -> None:
    """Raises InputError unless every pair fits the views it names."""
    for index, pair in enumerate(predictions):
        if not (0 <= pair.a < len(views) and 0 <= pair.b < len(views)) or pair.a == pair.b:
            raise InputError(
                f"pair {index} names the views ({pair.a}, {pair.b}); expected two different "
                f"indices of the {len(views)} views"
            )
        for side, v in (("a", pair.a), ("b", pair.b)):
            shape = tuple(getattr(pair, f"pointmap_{side}").shape[:2])
            if shape != views[v].size:
                raise InputError(
                    f"pair {index} ('{views[pair.a].name}', '{views[pair.b].name}'): pointmap_"
                    f"{side} is {shape[1]}x{shape[0]} but the image of '{views[v].name}' is "
                    f"{views[v].size[1]}x{views[v].size[0]}; give both at one size"
                )


def _check_connected(
    edges: NDArray[np.int64], views: Sequence[View], empty_pairs: Sequence[str]
) -> None:
    """Raises AlignmentError with the groups of views when the pairs do not connect all of them."""
    groups = component_lists(len(views), edges)
    if len(groups) == 1:
        return
    if not len(edges):
        raise AlignmentError(
            f"no pair has enough points: each needs {MIN_POINTS} sampled ones in either view with "
            "finite coordinates and a confidence above 0; check what the pointmaps are made of "
            "(depth in range, a network's confidence)",
            ErrorCode.DISCONNECTED_VIEWS,
        )
    named = "; ".join(
        "{" + ", ".join(f"'{views[v].name}'" for v in group) + "}" for group in groups
    )
    without = f" Pairs without enough points: {', '.join(empty_pairs)}." if empty_pairs else ""
    raise DisconnectedViews(
        f"the views fall into {len(groups)} groups that no pair connects: {named}.{without} Each "
        "group would float on its own; add views that see what two groups show, give or allow "
        "more pairs (when building: pairing.max_pairs_per_view, pairing.min_overlap), or take "
        "each group as a scene of its own",
        groups,
        "no pair with enough points leads to the other views",
    )


def pair_name(pair: PairPrediction, views: Sequence[View]) -> str:
    """The names of a pair's views, for messages."""
    return f"('{views[pair.a].name}', '{views[pair.b].name}')"
