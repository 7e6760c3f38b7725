"""Robust Gauss-Newton over the similarities of all pairs, on second moments of their points.

World points are eliminated: for fixed robust weights they are weighted means of the observations,
and the cost depends on the points of a pair only through 4x4 moments. A pass touches every sample
a few times and then solves one linear system in 7 unknowns per pair (6 where the scale is known).

Notation: y = scale R x + t is an observation in the world, chi the world point of a pixel, w the
robust weight, y~ = [y - m; 1] with the pair's pivot m. A step moves y by ``sum_k xi_k A_k y~``
with k = 3 rotations about the pivot, 3 translations, 1 scale, so that
``g_(e,k) = <A_k, G_e>`` and ``H_(e,k),(f,l) = tr(A_k S_ef A_l^T)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wildseg3d_ros.alignment.graph import Graph
from wildseg3d_ros.alignment.placement import Poses
from wildseg3d_ros.alignment.priors import DATA_SIGMA, Linearised, Priors, strength
from wildseg3d_ros.alignment.similarity import lengths, rotation_from_vectors

Loss = Literal["l2", "huber", "geman_mcclure"]

_FLOOR = 1e-6
"""Smallest residual scale, in shares of the scene's size: below it all residuals are equal."""

_HUBER_KNEE = 1.5
"""Knee of the Huber loss in median residuals: about 95 % efficient where errors are Gaussian."""

_GM_WIDTH = 6.0
"""Width of the Geman-McClure loss in median residuals."""

_FREEZE = 4
"""Pass from which the median residual is kept, so that the cost stops changing meanwhile."""

_DAMPING = 1e-7
"""Share of the mean curvature that is added: points on a line fix no rotation about it."""

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
        condition: of the last pass's matrix, gauge pinned; 0 without a pass.
    """

    poses: Poses
    world: Tensor
    sure: Tensor
    residual: Tensor
    scale: float
    converged: bool
    iterations: int
    step: float
    condition: float


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


class Reduction:
    """Sums over the observations of a view."""

    def __init__(self, graph: Graph) -> None:
        self.count = graph.view_count
        self.view = torch.as_tensor(graph.view, device=graph.x.device)

    def mean(self, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted mean (N, 3, n) of observations (O, 3, n) by view, and total weight (N, n)."""
        total = self.sum(weight)
        return self.sum(weight[:, None] * y) / total.clamp_min(1e-300)[:, None], total

    def sum(self, values: Tensor) -> Tensor:
        """Values (O, ...) summed by view (N, ...)."""
        return values.new_zeros((self.count, *values.shape[1:])).index_add_(0, self.view, values)

    def residual(self, y: Tensor, world: Tensor) -> Tensor:
        """(O, n) distance of observations to the world points of their view."""
        return lengths(y - world[self.view])


def solve(
    graph: Graph,
    poses: Poses,
    loss: Loss = "huber",
    max_iterations: int = 30,
    tolerance: float = 1e-4,
    priors: Priors | None = None,
) -> Solution:
    """Refines the poses of all pairs.

    Args:
        graph: a connected graph; poses: where to start, on the same device.
        loss: ``geman_mcclure`` has local minima and needs a start near the answer.
        tolerance: largest step (rad, log scale or scene sizes) of a converged solve.
        priors: terms of what is known beforehand, of this graph's pairs.
    """
    reduction = Reduction(graph)
    several = observed_twice(graph)
    floor = _FLOOR if priors is None else DATA_SIGMA
    damping, scale = _DAMPING, floor
    y = poses.observed(graph)
    weight = graph.weight
    # Where no pixel is observed twice (a single pair), every placement has residual 0.
    converged = not bool(several.any()) and priors is None
    step, iteration = 0.0 if converged else float("inf"), 0
    taken: _Step | None = None
    while not converged and iteration < max_iterations:
        iteration += 1
        world, _ = reduction.mean(y, weight)
        residual = reduction.residual(y, world)
        if iteration <= _FREEZE:
            scale = max(_median(residual[several]), floor)
        weight = graph.weight * robust_weights(loss, residual, scale)
        world, total = reduction.mean(y, weight)
        sums = moments(graph, y, weight, world, total, reduction.view)
        known, factor = None, 0.0
        if priors is not None:
            known = priors.linearise(poses, sums[2])
            at_median = robust_weights(loss, weight.new_tensor([scale]), scale)
            factor = strength(graph, float(at_median), scale)
        taken = _step(graph, sums, known, factor, damping)
        xi, damping = taken.xi, taken.damping
        step = float(xi.abs().max()) if len(xi) else 0.0
        if step > _MAX_STEP:
            xi = xi * (_MAX_STEP / step)
        poses = _move(poses, xi, taken.pivot)
        y = poses.observed(graph)
        converged = step < tolerance
    world, _ = reduction.mean(y, weight)
    residual = reduction.residual(y, world)
    # One more reweighting, so that the points belong to the final poses.
    weight = graph.weight * robust_weights(loss, residual, scale)
    world, total = reduction.mean(y, weight)
    residual = reduction.residual(y, world)
    condition = _condition(taken) if taken is not None else 0.0
    return Solution(poses, world, total, residual, scale, converged, iteration, step, condition)


def observed_twice(graph: Graph) -> Tensor:
    """(O, n) bool: points with weight whose pixel has weight in another pair too."""
    view = torch.as_tensor(graph.view, device=graph.x.device)
    seen = graph.weight > 0
    return seen & (Reduction(graph).sum(seen.to(torch.int32))[view] >= 2)


def _median(values: Tensor) -> float:
    return float(values.median()) if values.numel() else 0.0


def generators(like: Tensor) -> Tensor:
    """(7, 3, 4) A_k of a step about the pivot."""
    a = like.new_zeros((7, 3, 4))
    for k in range(3):
        # Columns e_k x e_j: the matrix that takes a vector to its cross product with e_k.
        a[k, :, :3] = like.new_tensor(np.cross(np.eye(3)[k], np.eye(3)).T)
        a[3 + k, k, 3] = 1.0
    a[6, :, :3] = torch.eye(3, dtype=like.dtype, device=like.device)
    return a


def moments(
    graph: Graph, y: Tensor, weight: Tensor, world: Tensor, total: Tensor, view: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """G (E, 3, 4), S (E, E, 4, 4) and pivots m (E, 3) of the current observations.

    ``G_e = sum w (y - chi) y~^T`` and ``S_ef = delta_ef sum w y~ y~^T - sum (w_e w_f / wbar) y~_e
    y~_f^T`` over the pixels of shared views, wbar being the total weight of a pixel.
    """
    device = y.device
    edge = torch.as_tensor(graph.edge, device=device)
    pairs = len(graph.edges)
    mass = y.new_zeros(pairs).index_add_(0, edge, weight.sum(1))
    pivot = y.new_zeros((pairs, 3)).index_add_(0, edge, (y @ weight[..., None])[..., 0])
    pivot = pivot / mass.clamp_min(1e-300)[:, None]
    lifted = torch.cat([y - pivot[edge][..., None], torch.ones_like(y[:, :1])], 1)
    weighted = weight[:, None] * lifted
    first = y.new_zeros((pairs, 3, 4)).index_add_(0, edge, (y - world[view]) @ weighted.mT)
    own = y.new_zeros((pairs, 4, 4)).index_add_(0, edge, weighted @ lifted.mT)
    second = y.new_zeros((pairs, pairs, 4, 4))
    diagonal = torch.arange(pairs, device=device)
    second[diagonal, diagonal] = own
    spread = lifted.mul_((weight / total[view].clamp_min(1e-300).sqrt())[:, None])
    for part in graph.of_view:
        if part.stop - part.start < 1:
            continue
        z = spread[part].reshape(-1, spread.shape[2])
        block = (z @ z.T).view(part.stop - part.start, 4, -1, 4).permute(0, 2, 1, 3)
        mine = edge[part]
        second[mine[:, None], mine[None]] -= block
    return first, second, pivot


@dataclass(frozen=True, eq=False)
class _Step:
    """A Gauss-Newton step.

    Attributes:
        xi: (E, 7); pivot: (E, 3) that it turns about; damping: to start the next pass with.
        matrix: the damped matrix with its gauge pinned; factor: its Cholesky factor.
    """

    xi: Tensor
    pivot: Tensor
    damping: float
    matrix: Tensor
    factor: Tensor


def _condition(step: _Step, rounds: int = 12) -> float:
    """Largest over smallest eigenvalue, by powers of a few vectors with the matrix and its factor.

    Within a few per cent, in O(n^2); all eigenvalues of a large graph would cost more than the
    solve.
    """
    count = len(step.matrix)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(count, min(4, count), generator=generator, dtype=step.matrix.dtype)
    high = low = torch.linalg.qr(start.to(step.matrix.device)).Q
    for _ in range(rounds):
        high = torch.linalg.qr(step.matrix @ high).Q
        low = torch.linalg.qr(torch.cholesky_solve(low, step.factor)).Q
    largest = torch.linalg.eigvalsh(high.T @ step.matrix @ high)[-1]
    smallest = torch.linalg.eigvalsh(low.T @ step.matrix @ low)[0]
    return float(largest / smallest.clamp_min(1e-300))


def _step(
    graph: Graph,
    sums: tuple[Tensor, Tensor, Tensor],
    known: Linearised | None,
    factor: float,
    damping: float,
) -> _Step:
    """One linear solve; damping grows until the matrix can be factored."""
    first, second, pivot = sums
    gradient, hessian = normal_equations(first, second)
    if known is not None:
        known.add_to(gradient, hessian, factor)
    pairs = len(graph.edges)
    free = np.ones((pairs, 7), dtype=bool)
    free[graph.fixed, 6] = False
    active = torch.as_tensor(np.flatnonzero(free), device=pivot.device)
    constrained = not graph.fixed.any()
    gradient, hessian = gradient[active], hessian[active][:, active]
    diagonal = hessian.diagonal()
    size = diagonal.mean().clamp_min(1e-300)

    # The six global motions cost nothing; a term along them, orthogonal to the gradient, pins
    # them.
    motions = _global_motions(pivot).reshape(-1, 6)[active]
    basis = torch.linalg.qr(motions).Q
    hessian = hessian + size * (basis @ basis.T)
    direction = torch.zeros_like(gradient)
    if constrained:
        scales = active % 7 == 6
        direction[scales] = pairs**-0.5
        hessian = hessian + diagonal[scales].mean() * torch.outer(direction, direction)

    while True:
        damped = hessian.clone()
        damped.diagonal().add_(damping * size)
        triangle, failed = torch.linalg.cholesky_ex(damped)
        if not failed or damping > 1e3:
            break
        damping = damping * 100.0
    right = torch.stack([-gradient, direction], 1)
    solved = torch.cholesky_solve(right, triangle)
    xi_active = solved[:, 0]
    if constrained:
        # Lagrange multiplier of "scale steps sum to 0": the product of the scales stays.
        b = solved[:, 1]
        xi_active = xi_active - b * (direction @ xi_active) / (direction @ b)
    xi = pivot.new_zeros(pairs * 7)
    xi[active] = xi_active
    return _Step(xi.view(pairs, 7), pivot, max(damping * 0.1, _DAMPING), damped, triangle)


def normal_equations(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (7E,) and Gauss-Newton matrix (7E, 7E) from the moments."""
    a = generators(first)
    pairs = len(first)
    gradient = torch.einsum("kcp,ecp->ek", a, first).reshape(-1)
    mixing = torch.einsum("kcp,lcq->pqkl", a, a).reshape(16, 49)
    blocks = (second.reshape(-1, 16) @ mixing).view(pairs, pairs, 7, 7)
    return gradient, blocks.permute(0, 2, 1, 3).reshape(7 * pairs, 7 * pairs)


def _global_motions(pivot: Tensor) -> Tensor:
    """(E, 7, 6) steps of all pairs under a rotation and a translation of the whole world."""
    motions = pivot.new_zeros((len(pivot), 7, 6))
    eye = torch.eye(3, dtype=pivot.dtype, device=pivot.device)
    motions[:, :3, :3] = eye
    motions[:, 3:6, 3:] = eye
    for k in range(3):
        motions[:, 3:6, k] = torch.linalg.cross(eye[k].expand_as(pivot), pivot)
    return motions


def _move(poses: Poses, xi: Tensor, pivot: Tensor) -> Poses:
    turn = rotation_from_vectors(xi[:, :3])
    grow = torch.exp(xi[:, 6])
    arm = (turn @ (poses.translation - pivot)[..., None])[..., 0]
    return Poses(
        poses.scale * grow,
        turn @ poses.rotation,
        grow[:, None] * arm + pivot + xi[:, 3:6],
    )
