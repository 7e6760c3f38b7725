"""Robust Gauss-Newton over the similarities of all pairs, on second moments of their points.

World points are eliminated: for fixed robust weights they are weighted means of the observations,
and the cost depends on the points of a pair only through 4x4 moments. A pass touches every sample
twice and then solves one linear system in 7 unknowns per pair (6 where the scale is known).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.graph.similarities import rotation_from_vectors
from wildseg3d_ros.alignment.priors.factors import DATA_SIGMA, Priors, strength
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.normal_equations import System, pivots
from wildseg3d_ros.core.errors import AlignmentError

Loss = Literal["l2", "huber", "geman_mcclure"]

_FLOOR = 1e-6
"""Smallest residual scale, in shares of the scene's size: below it all residuals are equal."""

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
        world: (N, 3, n) world points of the sampled pixels; sure: (N, n) their total weight.
        residual: (O, n) distance of each observation to its world point.
        scale: median residual, over points that two or more pairs observe, that scales the loss.
        converged, iterations: of the Gauss-Newton loop; step: the last step's size.
        system: of the last pass; None without one.
    """

    poses: Poses
    world: Tensor
    sure: Tensor
    residual: Tensor
    scale: float
    converged: bool
    iterations: int
    step: float
    system: System | None

    def condition(self) -> float:
        """Of the last pass's matrix, beside the free motions; 0 without a pass."""
        return self.system.condition() if self.system is not None else 0.0


def robust_weights(loss: Loss, residual: Tensor, scale: float) -> Tensor:
    """rho'(r) / r up to a constant factor; ``scale`` is the median residual."""
    if loss == "l2":
        return torch.ones_like(residual)
    if loss == "huber":
        return 1.0 / residual.clamp_min(_HUBER_KNEE * scale)
    width = _GM_WIDTH * scale
    return (1.0 + (residual / width).square()).pow(-2)


def robust_cost(loss: Loss, residual: Tensor, scale: float) -> Tensor:
    """rho(r), whose derivative over r is :func:`robust_weights`."""
    if loss == "l2":
        return 0.5 * residual.square()
    if loss == "huber":
        knee = _HUBER_KNEE * scale
        inside = 0.5 * residual.square() / knee + 0.5 * knee
        return torch.where(residual < knee, inside, residual)
    width = _GM_WIDTH * scale
    square = (residual / width).square()
    return 0.5 * width**2 * square / (1.0 + square)


def solve(
    graph: Graph,
    poses: Poses,
    loss: Loss = "huber",
    max_iterations: int = 30,
    tolerance: float = 1e-4,
    priors: Priors | None = None,
    is_near: bool = False,
    held: NDArray[np.bool_] | None = None,
) -> Solution:
    """Refines the poses of all pairs.

    Args:
        graph: a connected graph; poses: where to start, on the same device.
        loss: ``geman_mcclure`` has local minima and needs a start near the answer.
        tolerance: largest step (rad, log scale or scene sizes) of a converged solve.
        priors: terms of what is known beforehand, of this graph's pairs.
        is_near: whether ``poses`` are those of an earlier solve, so that their residuals can be
            trusted to weigh the points.
        held: (E,) bool, pairs that stay where they are; None for none.

    Raises:
        AlignmentError: the points' magnitudes leave the range of numbers.
    """
    observations = Observations(graph)
    several = observations.observed_twice()
    floor = _FLOOR if priors is None else DATA_SIGMA
    scale, weight = floor, graph.weight
    # Where no pixel is observed twice (a single pair), every placement has residual 0.
    converged = not bool(several.any()) and priors is None
    step, iteration = 0.0 if converged else float("inf"), 0
    system: System | None = None
    if is_near:
        _, _, residual = observations.world_points(poses.matrices(), weight)
        scale = max(_median(residual[several]), floor)
        weight = graph.weight * robust_weights(loss, residual, scale)
    while not converged and iteration < max_iterations:
        iteration += 1
        world, _, residual = observations.world_points(poses.matrices(), weight)
        if iteration <= _FREEZE:
            scale = max(_median(residual[several]), floor)
        weight = graph.weight * robust_weights(loss, residual, scale)
        moments = observations.moments(weight, world)
        known, factor = None, 0.0
        if priors is not None:
            pivot = pivots(observations, moments, poses.matrices())
            known = priors.linearise(poses, pivot, graph.fixed)
            at_median = robust_weights(loss, weight.new_tensor([scale]), scale)
            factor = strength(graph, float(at_median), scale)
        system = System(observations, moments, poses, known, factor, held)
        xi, _ = system.solve()
        before, step = step, float(xi.abs().max()) if len(xi) else 0.0
        if not (math.isfinite(step) and bool(system.gradient.isfinite().all())):
            raise AlignmentError(
                f"pass {iteration} of the alignment took a step that is no number: points or "
                "weights differ by so many orders of magnitude that they cannot be compared. "
                "Check points and confidences of the pairs for values like 1e20"
            )
        if step > _MAX_STEP:
            xi = xi * (_MAX_STEP / step)
        elif loss != "l2" and _SLOW * before < step < before < float("inf"):
            xi = xi * _OVER_RELAXATION
        poses = _move(poses, xi, system.pivot)
        converged = step < tolerance
    _, _, residual = observations.world_points(poses.matrices(), weight)
    # One more reweighting, so that the points belong to the final poses.
    weight = graph.weight * robust_weights(loss, residual, scale)
    world, total, residual = observations.world_points(poses.matrices(), weight)
    return Solution(poses, world, total, residual, scale, converged, iteration, step, system)


def _median(values: Tensor) -> float:
    return float(values.median()) if values.numel() else 0.0


def _move(poses: Poses, xi: Tensor, pivot: Tensor) -> Poses:
    turn = rotation_from_vectors(xi[:, :3])
    grow = torch.exp(xi[:, 6])
    arm = (turn @ (poses.translation - pivot)[..., None])[..., 0]
    return Poses(
        poses.scale * grow,
        turn @ poses.rotation,
        grow[:, None] * arm + pivot + xi[:, 3:6],
    )
