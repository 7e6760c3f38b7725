"""What several views see must be one surface.

Each pixel's point is the mean of its own view's observations, so two views of one surface may lie
apart: by the error of their poses, and by what all pairs of a view have in common. Both show where
a point of one view is projected into another: its distance from that view's surface, point to
plane.

- :func:`settle` moves views rigidly until their surfaces agree (all views at once, Gauss-Newton).
- :func:`agree` moves points along their rays to the mean of the surfaces that the views see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.graph.similarities import rotation_from_vectors
from wildseg3d_ros.alignment.surfaces.correspondences import (
    GRAZING,
    Meetings,
    Stack,
    Surface,
    meetings,
    neighbours,
    typical_distance,
)
from wildseg3d_ros.core.geometry.transforms import make_transform, vector_from_rotation

_QUERIES = 768
"""Points per view that are compared with the other views' surfaces."""

_DISPLACED = 256
"""Points per view that stand for how far it moves."""

_APART = (0.04, 0.02)
"""Distance from a surface, in shares of the viewing distance, of points that may lie on it: at
first, and once the views have moved."""

_APART_ON_RAY = 0.03
"""The same where points move along their rays."""

_INDEPENDENT = 40.0
"""Independent errors that a view's surface counts as: errors of pointmaps are smooth."""

_WIDTH = 2.0
"""Width of the Cauchy loss in median distances."""

_DAMPING = 1e-12
"""Share of the curvature that is added, so that there is always a step."""


@dataclass(frozen=True, eq=False)
class Looseness:
    """How far views may lie from where they are.

    Attributes:
        points: (N,) expected displacement of a view's points, in shares of the viewing distance.
        position, rotation: (N,) deviations of cameras whose poses are known [world units, rad];
            inf where they are not.
    """

    points: NDArray[np.float64]
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]


def settle(
    surfaces: Sequence[Surface], looseness: Looseness, only: int | None = None
) -> NDArray[np.float64]:
    """Rigid motions (N, 4, 4) of the views that make their surfaces agree.

    Minimises the robust sum of squared distances, point to plane, between what each view and the
    others see, beside a prior: a view moves no farther than its pairs can be wrong, and a camera
    whose pose is known no farther than that is uncertain. The prior also holds what surfaces leave
    open, as planes do, and the frame.

    Args:
        only: the one view that may move; None for all.
    """
    start = Stack.of(surfaces)
    motions = np.tile(np.eye(4), (len(start), 1, 1))
    pairs = neighbours(start)
    moving = np.arange(len(start)) if only is None else np.array([only])
    if only is not None:
        pairs = pairs[(pairs == only).any(1)]
    now = start
    for apart in _APART:
        met = list(meetings(now, pairs, apart, _QUERIES))
        spread = typical_distance(met)
        if spread <= 0:
            break
        # Smaller ones are float32's rounding; weights beyond leave a matrix of rounding errors.
        spread = max(spread, 1e-6)
        equations = _NormalEquations(len(start))
        for m in met:
            equations.add_meetings(m, start, spread)
        equations.add_displacements(now, start, looseness.points)
        equations.add_poses(now, start, looseness)
        step = equations.solve(moving)
        rotations = rotation_from_vectors(step[:, :3])
        for v in range(len(start)):
            motions[v] = make_transform(rotations[v], step[v, 3:]) @ motions[v]
        now = start.moved(motions)
    return motions


def agree(surfaces: Sequence[Surface], only: int | None = None) -> list[Tensor]:
    """(h, w) per view: relative change of each point's distance from its camera.

    The robust weighted mean, along the point's ray, of its own place and of the other views'
    surfaces there.

    Args:
        only: the one view whose points may change; None for all.
    """
    stack = Stack.of(surfaces)
    pairs = neighbours(stack)
    if only is not None:
        pairs = pairs[pairs[:, 1] == only]
    push, mass = torch.zeros_like(stack.weight), torch.ones_like(stack.weight)
    met = list(meetings(stack, pairs, _APART_ON_RAY))
    spread = typical_distance(met)
    for m in met if spread > 0 else []:
        sight = m.point - stack.centres[m.other][:, None]
        far = sight.square().sum(-1).sqrt()
        slant = (m.normal * sight).sum(-1) / far
        shift = -m.away / (far * slant)
        meets = (m.weight > 0) & (slant.abs() > GRAZING) & (shift.abs() < _APART_ON_RAY)
        robust = slant.square() / (1.0 + (shift / (_WIDTH * spread)).square())
        robust = torch.where(meets, robust, 0.0)
        mass.index_add_(0, m.other, robust)
        push.index_add_(0, m.other, robust * torch.where(meets, shift, 0.0))
    changes = push / mass
    return [
        c[:n].view_as(s.weight) for c, n, s in zip(changes, stack.count, surfaces, strict=True)
    ]


class _NormalEquations:
    """Of the views' steps: a rotation about the world's origin and a translation each."""

    def __init__(self, count: int) -> None:
        self.matrix = np.zeros((count, count, 6, 6))
        self.gradient = np.zeros((count, 6))

    def solve(self, moving: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N, 6) steps of the views that may move; the others stay."""
        size = 6 * len(moving)
        flat = self.matrix[np.ix_(moving, moving)].transpose(0, 2, 1, 3).reshape(size, size)
        # A view whose points lie on a line says nothing about its turn about it.
        flat[np.diag_indices(size)] *= 1.0 + _DAMPING
        flat[np.diag_indices(size)] += _DAMPING * np.trace(flat) / size
        step = np.zeros_like(self.gradient)
        step[moving] = np.linalg.solve(flat, -self.gradient[moving].ravel()).reshape(-1, 6)
        return step

    def add_meetings(self, m: Meetings, stack: Stack, spread: float) -> None:
        """Adds ``sum w (n . (T_v p - T_u q))^2`` of all that meets on views' surfaces."""
        size = spread * m.reach
        robust = m.weight / (1.0 + (m.away / (_WIDTH * size)).square()) / size.square()
        jacobian = torch.cat([torch.linalg.cross(m.point, m.normal), m.normal], -1)
        weighted = jacobian * robust[..., None]
        share = _INDEPENDENT / stack.weight.sum(1).clamp_min(1e-30)
        share = (share * share.new_tensor(stack.count) / m.point.shape[1])[m.other]
        blocks = (share[:, None, None] * (weighted.mT @ jacobian)).double().cpu().numpy()
        slopes = (
            (share[:, None] * (weighted.mT @ m.away[..., None])[..., 0]).double().cpu().numpy()
        )
        u, v = m.view.cpu().numpy(), m.other.cpu().numpy()
        for rows, cols, sign in ((v, v, 1), (u, u, 1), (v, u, -1), (u, v, -1)):
            np.add.at(self.matrix, (rows, cols), sign * blocks)
        np.add.at(self.gradient, v, slopes)
        np.add.at(self.gradient, u, -slopes)

    def add_displacements(self, now: Stack, start: Stack, expected: NDArray) -> None:
        """Adds views' mean squared displacements, over what is expected [viewing distances]."""
        some = start.chosen(_DISPLACED)
        weight = torch.take_along_dim(start.weight, some, 1).double()
        point, origin = (
            torch.take_along_dim(s.points, some[..., None], 1).double() for s in (now, start)
        )
        valid = (weight > 0) & point.isfinite().all(2)
        weight = torch.where(valid, weight, 0.0)
        point, origin = (torch.where(valid[..., None], p, 0.0) for p in (point, origin))
        reach = (point - now.centres.double()[:, None]).square().sum(2)
        loose = point.new_tensor(np.maximum(expected, 1e-12))[:, None] ** 2 * reach
        share = weight / weight.sum(1, keepdim=True).clamp_min(1e-300) / loose.clamp_min(1e-300)
        jacobian = torch.from_numpy(_displacement(point.cpu().numpy())).to(point)
        weighted = (jacobian * share[..., None, None]).flatten(1, 2)
        blocks = weighted.mT @ jacobian.flatten(1, 2)
        slopes = weighted.mT @ (point - origin).flatten(1)[..., None]
        each = np.arange(len(now))
        self.matrix[each, each] += blocks.cpu().numpy()
        self.gradient += slopes[..., 0].cpu().numpy()
        # A view without points stays.
        empty = each[~valid.any(1).cpu().numpy()]
        self.matrix[empty, empty] += np.eye(6)

    def add_poses(self, now: Stack, start: Stack, looseness: Looseness) -> None:
        """Adds how far cameras are from their known poses, over their deviations."""
        for v in range(len(now)):
            pose, before = now.world_from_cam[v], start.world_from_cam[v]
            turned = pose[:3, :3] @ before[:3, :3].T
            for jacobian, residual, sigma in (
                (
                    _displacement(pose[None, :3, 3])[0],
                    pose[:3, 3] - before[:3, 3],
                    looseness.position[v],
                ),
                (np.eye(3, 6), vector_from_rotation(turned), looseness.rotation[v]),
            ):
                if np.isfinite(sigma):
                    share = max(sigma, 1e-12) ** -2
                    self.matrix[v, v] += share * jacobian.T @ jacobian
                    self.gradient[v] += share * jacobian.T @ residual


def _displacement(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3, 6) how points (..., 3) move with a view's step."""
    x, y, z = np.moveaxis(points, -1, 0)
    out = np.zeros((*points.shape, 6))
    out[..., 0, 1], out[..., 0, 2] = z, -y
    out[..., 1, 0], out[..., 1, 2] = -z, x
    out[..., 2, 0], out[..., 2, 1] = y, -x
    out[..., 3:] = np.eye(3)
    return out
