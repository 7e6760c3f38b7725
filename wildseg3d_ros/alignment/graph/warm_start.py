"""Where a solve starts: from a placement, or from an earlier answer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.graph import Graph, components
from wildseg3d_ros.alignment.graph.initialization import Poses, place
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.outliers import pair_errors
from wildseg3d_ros.core.types import Alignment

_STALE = 4.0
"""A pair does not fit where it was left beyond this many typical pair errors ..."""

_ROUNDS = 8

_STALE_SHARE = 0.05
"""... and beyond this share of the scene's size: the solve cures what is less."""


def starting_poses(
    graph: Graph, start: Alignment | None, unchanged: NDArray[np.bool_]
) -> tuple[Poses, NDArray[np.bool_]]:
    """Poses of all pairs to start from and which of them to use.

    Args:
        graph: on the CPU.
        start: an earlier answer. Pairs of the same views start where it left them, unless they do
            not fit there any more because a view was replaced; the others are placed onto those.
            None to place everything.
        unchanged: (E,) bool, pairs whose maps are those of the earlier answer. Where there are
            none, it is asked of all pairs whether they still fit.
    """
    everything = np.ones(len(graph.edges), dtype=bool)
    if start is None:
        return place(graph), everything
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (a, b) in enumerate(start.edges):
        rows.setdefault((int(a), int(b)), []).append(row)
    source = np.full(len(graph.edges), -1)
    for e, (a, b) in enumerate(graph.edges):
        same = rows.get((int(a), int(b)))
        if same:
            source[e] = same.pop(0)
    finite = np.isfinite(start.world_from_pair).all((1, 2)) & (start.pair_scale > 0)
    is_known = (source >= 0) & finite[source]
    if unchanged.any():
        is_known &= unchanged
    if not is_known.any():
        return place(graph), everything
    # Unknown pairs borrow row 0; place() replaces them.
    borrowed = np.where(is_known, source, 0)
    scale = start.pair_scale[borrowed] * graph.unit
    size = float(np.exp(np.log(scale[is_known]).mean()))
    if graph.fixed.any():
        size = (
            float(np.median(scale[is_known & graph.fixed]))
            if (is_known & graph.fixed).any()
            else size
        )
    poses = start.world_from_pair[borrowed]
    # Near the origin, translations keep their digits whatever frame the earlier world was in.
    origin = poses[is_known][:, :3, 3].mean(0)
    known = Poses(
        torch.from_numpy(np.where(graph.fixed, 1.0, scale / size)),
        torch.from_numpy(poses[:, :3, :3].copy()),
        torch.from_numpy((poses[:, :3, 3] - origin) / size),
    )
    if not unchanged.any():
        is_stale = is_known & _misplaced(graph, known, is_known & start.pair_used[borrowed])
        if 2 * np.count_nonzero(is_stale) > np.count_nonzero(is_known):
            return place(graph), everything
        is_known &= ~is_stale
    kept = ~is_known | start.pair_used[borrowed]
    if len(components(graph.view_count, graph.edges[kept])) > 1:
        kept = everything
    return known if is_known.all() else place(graph, known, is_known), kept


def _misplaced(graph: Graph, poses: Poses, voting: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(E,) bool, voting pairs that lie farther from the world than such pairs usually do."""
    votes = torch.as_tensor(voting[graph.edge])[:, None]
    observations, moves = Observations(graph), poses.matrices()
    weight = torch.where(votes, graph.weight, 0.0)
    several = observations.observed_twice() & votes
    # Robustly: stale pairs must not draw the points of the views that they see with them.
    robust = weight
    for _ in range(_ROUNDS):
        _, _, residual = observations.world_points(moves, robust)
        robust = weight / (residual.square() + float(residual[several].median()) ** 2 + 1e-12)
    distance = torch.where(several, residual, torch.nan).numpy()
    error = pair_errors(graph, distance, both=False)
    known = voting & np.isfinite(error)
    if not known.any():
        return np.zeros(len(voting), dtype=bool)
    # A quarter: most pairs may belong to the view that was replaced, or see it.
    typical = float(np.quantile(error[known], 0.25))
    return known & (error > max(_STALE * typical, _STALE_SHARE))
