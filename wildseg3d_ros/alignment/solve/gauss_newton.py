"""Robust Gauss-Newton over the similarities of all pairs, on second moments of their points.

World points are eliminated: for fixed robust weights they are weighted means of the observations,
and the cost depends on the points of a pair only through 4x4 moments. A pass touches every sample
twice and then solves one linear system in 7 unknowns per pair (6 where the scale is known).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.graph.medians import lower_median
from wildseg3d_ros.alignment.graph.similarities import rotation_from_vectors
from wildseg3d_ros.alignment.priors.factors import DATA_SIGMA, Priors, strength
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.normal_equations import System, pivots
from wildseg3d_ros.core.errors import AlignmentError

_FLOOR = 1e-6
"""Smallest residual scale, in shares of the scene's size: below it all residuals count alike."""

_HUBER_KNEE = 1.5
"""Knee of the Huber loss in median residuals: about 95 % efficient where errors are Gaussian."""

_GM_WIDTH = 6.0
"""Width of the Geman-McClure loss in median residuals."""

_FREEZE = 4
"""Pass from which the median residual is kept, so that the cost stops changing meanwhile."""

_OVER_RELAXATION, _SLOW = 1.35, 0.2
"""Robust weights overstate the curvature, so that steps fall short. Where a step is more than the
second share of the one before, steps are lengthened by the first factor: any below 2 descends."""

_MAX_STEP = 0.5
"""Longest step [rad or share of the scene's size]: the linearisation holds no farther."""


@dataclass(frozen=True, eq=False)
class Solution:
    """The result of :func:`solve`, in the graph's units.

    Attributes:
        poses: one similarity per pair.
        world: (N, 3, n) world points of the sampled pixels; confidence: (N, n) their total
            weight.
        residual: (O, n) distance of each observation to its world point.
        scale: median residual, over points that two or more pairs observe, that scales the loss.
        converged, iterations: of the Gauss-Newton loop; step: the last step's size.
        system: of the last pass; None without one.
    """

    poses: Poses
    world: NDArray[np.float64]
    confidence: NDArray[np.float64]
    residual: NDArray[np.float64]
    scale: float
    converged: bool
    iterations: int
    step: float
    system: System | None

    def condition(self) -> float:
        """Of the last pass's matrix, beside the free motions; 0 without a pass."""
        return self.system.condition() if self.system is not None else 0.0


def robust_weights(loss: str, residual: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """rho'(r) / r up to a constant factor; ``scale`` is the median residual."""
    if loss == "huber":
        return 1.0 / np.maximum(residual, _HUBER_KNEE * scale)
    return (1.0 + (residual / (_GM_WIDTH * scale)) ** 2) ** -2


# What leaves the range of numbers is an error of its own.
@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def solve(
    graph: Graph,
    poses: Poses,
    config: AlignmentConfig = AlignmentConfig(),
    priors: Priors | None = None,
    is_near: bool = False,
    fixed_pairs: NDArray[np.bool_] | None = None,
) -> Solution:
    """Refines the poses of all pairs.

    Args:
        graph: a connected graph; poses: where to start.
        config: loss (``geman_mcclure`` needs a start near the answer), passes and tolerance.
        priors: terms of what is known beforehand, of this graph's pairs.
        is_near: whether ``poses`` are an earlier solve's, so that their residuals may weigh the
            points.
        fixed_pairs: (E,) bool, pairs that stay where they are; None for none.

    Raises:
        AlignmentError: numbers leave their range.
    """
    observations, loss = Observations(graph), config.loss
    several = observations.observed_twice()
    floor = _FLOOR if priors is None else DATA_SIGMA
    scale, weight, system, iteration = floor, graph.weight, None, 0
    # Where no pixel is observed twice (a single pair), residuals are 0 wherever the pairs lie.
    converged = not several.any() and priors is None
    step = 0.0 if converged else math.inf
    if is_near:
        _, _, residual = observations.world_points(poses.matrices(), weight)
        scale = max(lower_median(residual[several], 0.0), floor)
        weight = graph.weight * robust_weights(loss, residual, scale)
    # Not the shared gauss_newton: steps are over-relaxed, and the loss's scale is frozen.
    while not converged and iteration < config.max_iterations:
        iteration += 1
        world, _, residual = observations.world_points(poses.matrices(), weight)
        if iteration <= _FREEZE:
            scale = max(lower_median(residual[several], 0.0), floor)
        weight = graph.weight * robust_weights(loss, residual, scale)
        moments = observations.moments(weight, world)
        known, factor = None, 0.0
        if priors is not None:
            pivot = pivots(observations, moments, poses.matrices())
            known = priors.linearise(poses, pivot, graph.fixed)
            at_median = float(robust_weights(loss, np.array([scale]), scale)[0])
            factor = strength(graph, at_median, scale)
        system = System(observations, moments, poses, known, factor, fixed_pairs)
        xi, _ = system.solve()
        before, step = step, _size(xi, system, iteration)
        poses = _move(poses, xi * _relaxation(step, before), system.pivot)
        converged = step < config.tolerance
    _, _, residual = observations.world_points(poses.matrices(), weight)
    # One more reweighting, so that the points belong to the final poses.
    weight = graph.weight * robust_weights(loss, residual, scale)
    world, total, residual = observations.world_points(poses.matrices(), weight)
    return Solution(poses, world, total, residual, scale, converged, iteration, step, system)


def _size(xi: NDArray[np.float64], system: System, iteration: int) -> float:
    """Largest entry of a step; raises AlignmentError where it is no number."""
    size = float(np.abs(xi).max(initial=0.0))
    if not (math.isfinite(size) and np.isfinite(system.gradient).all()):
        raise AlignmentError(
            f"pass {iteration} of the alignment took a step that is no number: points or "
            "weights differ by so many orders of magnitude that they cannot be compared. "
            "Check points and confidences of the pairs for values like 1e20"
        )
    return size


def _relaxation(step: float, before: float) -> float:
    """Factor of a step, by its size and that of the one before."""
    if step > _MAX_STEP:
        return _MAX_STEP / step
    if _SLOW * before < step < before < math.inf:
        return _OVER_RELAXATION
    return 1.0


def _move(poses: Poses, xi: NDArray[np.float64], pivot: NDArray[np.float64]) -> Poses:
    """The poses after a step, which rotates and scales about the pivots."""
    rotation, growth = rotation_from_vectors(xi[:, :3]), np.exp(xi[:, 6])
    arm = (rotation @ (poses.translation - pivot)[..., None])[..., 0]
    return Poses(
        poses.scale * growth,
        rotation @ poses.rotation,
        growth[:, None] * arm + pivot + xi[:, 3:6],
    )
