"""All pairs solved, without those that contradict the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.graph.similarities import fit_similarities
from wildseg3d_ros.alignment.solve.connectivity import contradiction
from wildseg3d_ros.alignment.solve.gauss_newton import Solution, solve
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.outliers import judge, pair_errors

_COARSE_PASSES, _COARSE_TOLERANCE = 6, 1e-2
"""Where the first verdict on the pairs is passed: wrong pairs show long before convergence."""

_VERDICTS = 4
"""Upper bound of solves: what is left without the wrong pairs may show up others."""


@dataclass(frozen=True, eq=False)
class SolvedPairs:
    """The solved graph.

    Attributes:
        graph: all usable pairs; current: those of the solution, ``graph`` at ``kept``.
        poses: of all pairs of ``graph``; those left out are fitted to the world points.
        doubtful: (E,) bool, kept only because the views would fall apart.
        distance: (O, n) of all observations of ``graph`` to the world points, NaN where unknown.
    """

    graph: Graph
    current: Graph
    kept: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    solution: Solution
    poses: Poses
    distance: NDArray[np.float64]
    iterations: int

    @cached_property
    def contradiction(self) -> str:
        """A sentence when the pairs show no common scene; else empty."""
        return contradiction(pair_errors(self.graph, self.distance, both=False), self.kept)

    @property
    def converged(self) -> bool:
        """Whether the solve ended, in a world that the pairs have in common."""
        return self.solution.converged and not self.contradiction

    def stop_reason(self, config: AlignmentConfig) -> str:
        """Why the solve ended."""
        solution = self.solution
        if self.contradiction:
            return self.contradiction
        if solution.iterations == 0:
            return "no pixel is observed by two pairs, so that there was nothing to solve"
        how = "converged" if solution.converged else "the alignment stopped"
        return (
            f"{how} after {self.iterations} passes with a last step of {solution.step:.2g} "
            f"(tolerance {config.tolerance:.2g})"
        )


def solve_pairs(
    graph: Graph,
    poses: Poses,
    kept: NDArray[np.bool_],
    fresh: bool,
    config: AlignmentConfig,
    held: NDArray[np.bool_] | None = None,
) -> SolvedPairs:
    """Solves, and leaves out or takes back pairs until the verdict on all of them stands.

    Args:
        held: (E,) bool, pairs that stay where they are, come what may.
    """
    iterations = 0
    held = np.zeros(len(kept), dtype=bool) if held is None else held
    doubtful = np.zeros(len(kept), dtype=bool)
    if fresh:
        coarse = solve(graph, poses, "huber", _COARSE_PASSES, _COARSE_TOLERANCE, held=held)
        poses, iterations = coarse.poses, coarse.iterations
        verdict = judge(graph, distances(graph, kept, poses, coarse), kept, held)
        kept, doubtful = verdict.keep, verdict.doubtful
    for turn in range(_VERDICTS):
        current = graph.select(kept)
        solution = solve(
            current,
            poses.select(kept),
            config.loss,
            config.max_iterations,
            config.tolerance,
            is_near=not fresh or turn > 0,
            held=held[kept],
        )
        iterations += solution.iterations
        poses = fit_left_out(graph, kept, solution)
        distance = distances(graph, kept, poses, solution)
        verdict = judge(graph, distance, kept, held)
        doubtful = verdict.doubtful
        if np.array_equal(verdict.keep, kept) or turn + 1 == _VERDICTS:
            break
        kept = verdict.keep
    return SolvedPairs(graph, current, kept, doubtful, solution, poses, distance, iterations)


def fit_left_out(graph: Graph, kept: NDArray[np.bool_], solution: Solution) -> Poses:
    """Poses of all pairs: solved ones, and the best fit of those that were left out."""
    device = graph.x.device
    if kept.all():
        return solution.poses
    left = np.flatnonzero(~kept)
    observation, edges = graph.observation[left], graph.edges[left]
    x = torch.cat([graph.x[observation[:, s]] for s in (0, 1)], 2)
    y = torch.cat([solution.world[edges[:, s]] for s in (0, 1)], 2)
    weight = torch.cat(
        [(graph.weight[observation[:, s]] * solution.sure[edges[:, s]]).sqrt() for s in (0, 1)], 1
    )
    fixed = torch.as_tensor(graph.fixed[left], device=device)
    parts = fit_similarities(x, y, weight, fixed)
    count = len(graph.edges)
    poses = Poses(
        solution.world.new_ones(count),
        solution.world.new_zeros((count, 3, 3)),
        solution.world.new_zeros((count, 3)),
    )
    solved = torch.as_tensor(np.flatnonzero(kept), device=device)
    rest = torch.as_tensor(left, device=device)
    for target, found, fitted in zip(
        (poses.scale, poses.rotation, poses.translation),
        (solution.poses.scale, solution.poses.rotation, solution.poses.translation),
        parts,
        strict=True,
    ):
        target[solved], target[rest] = found, fitted
    return poses


def distances(
    graph: Graph, kept: NDArray[np.bool_], poses: Poses, solution: Solution
) -> NDArray[np.float64]:
    """(O, n) distance of observations to the world points that the kept pairs make.

    NaN where a point has no weight, or no other kept pair that could contradict it.
    """
    observations = Observations(graph)
    used = torch.as_tensor(kept[graph.edge], device=graph.x.device)[:, None]
    seen = graph.weight > 0
    known = seen & (observations.seen_by_others(seen & used) > 0)
    distance = observations.distance(poses.matrices(), solution.world)
    return torch.where(known, distance, torch.nan).cpu().numpy()
