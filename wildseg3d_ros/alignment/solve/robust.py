"""All pairs solved, without those that contradict the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed, observe
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses, fit_pairs
from wildseg3d_ros.alignment.solve.connectivity import contradiction
from wildseg3d_ros.alignment.solve.gauss_newton import Solution, solve
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.outliers import judge, pair_errors

_COARSE = {"loss": "huber", "max_iterations": 6, "tolerance": 1e-2}
"""Where the first verdict on the pairs is passed: wrong pairs show long before convergence."""

_VERDICTS = 4
"""Upper bound of solves: without the gross outliers, smaller ones show."""


@dataclass(frozen=True, eq=False)
class SolvedPairs:
    """The solved graph.

    Attributes:
        graph: all usable pairs; current: those of the solution, ``graph`` at ``kept``.
        poses: of all pairs of ``graph``; those left out are fitted to the world points.
        ambiguous: (E,) bool, kept only because the views would fall apart.
        distance: (O, n) of all observations of ``graph`` to the world points, NaN where unknown.
    """

    graph: Graph
    current: Graph
    kept: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]
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

    def observed(self) -> list[Observed]:
        """What the pairs of the solution say about each view, graph units."""
        solution = self.solution
        return observe(self.current, solution.poses, solution.world, solution.confidence)

    def warnings(self, names: Sequence[str], config: AlignmentConfig) -> list[str]:
        """What contradicts the others, by the names of all pairs, and that the solve did not
        converge."""
        found = [
            f"pair {names[e]} contradicts the others but nothing else holds its views together; "
            "do not rely on how they lie to each other"
            for e in self.graph.ids[self.ambiguous]
        ]
        found += [
            f"pair {names[e]} contradicts the others and is left out"
            for e in self.graph.ids[~self.kept]
        ]
        if self.contradiction:
            found.append(self.contradiction)
        elif not self.solution.converged:
            found.append(f"{self.stop_reason(config)}; raise alignment.max_iterations")
        return found


def solve_pairs(
    graph: Graph,
    poses: Poses,
    config: AlignmentConfig,
    kept: NDArray[np.bool_] | None = None,
    fixed_pairs: NDArray[np.bool_] | None = None,
) -> SolvedPairs:
    """Solves, and leaves out or takes back pairs until the verdict on all of them stands.

    Args:
        graph: all usable pairs; poses: where they start.
        kept: (E,) bool, those to start with, by an earlier solve; None where ``poses`` come from
            :func:`initialize`, so that a coarse solve has to find the gross outliers first.
        fixed_pairs: (E,) bool, pairs that stay where they are, come what may.
    """
    iterations, near = 0, kept is not None
    fixed_pairs = np.zeros(len(graph.edges), dtype=bool) if fixed_pairs is None else fixed_pairs
    if kept is None:
        kept = np.ones(len(graph.edges), dtype=bool)
        coarse = solve(graph, poses, replace(config, **_COARSE), fixed_pairs=fixed_pairs)
        iterations = coarse.iterations
        poses, distance = all_pairs(graph, kept, coarse)
        kept, _ = judge(graph, distance, kept, fixed_pairs)
    for k in range(_VERDICTS):
        current = graph.select(kept)
        solution = solve(
            current,
            poses.select(kept),
            config,
            is_near=near or k > 0,
            fixed_pairs=fixed_pairs[kept],
        )
        iterations += solution.iterations
        poses, distance = all_pairs(graph, kept, solution)
        keep, ambiguous = judge(graph, distance, kept, fixed_pairs)
        if np.array_equal(keep, kept) or k + 1 == _VERDICTS:
            break
        kept = keep
    return SolvedPairs(graph, current, kept, ambiguous, solution, poses, distance, iterations)


def all_pairs(
    graph: Graph, kept: NDArray[np.bool_], solution: Solution
) -> tuple[Poses, NDArray[np.float64]]:
    """Poses of all pairs by the solution of the kept ones, those left out fitted to its world
    points; and (O, n) distances of all observations to these points.

    NaN where a point has no weight, or no other kept pair that could contradict it.
    """
    poses, observations = solution.poses, Observations(graph)
    if not kept.all():
        rest = np.flatnonzero(~kept)
        left = fit_pairs(graph, rest, graph.x, graph.weight, solution.world, solution.confidence)
        poses = Poses.identities(len(kept)).updated(kept, poses).updated(rest, left)
    seen = graph.weight > 0
    used = seen & kept[graph.edge][:, None]
    distance = observations.distance(poses.matrices(), solution.world)
    distance[~(seen & (observations.seen_by_others(used) > 0))] = np.nan
    return poses, distance
