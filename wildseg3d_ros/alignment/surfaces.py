"""What several views see must be one surface.

Each pixel's point is the mean of its own view's observations, so two views of one surface may lie
apart: by the error of their poses, and by what all pairs of a view have in common. Both show where
a point of one view is projected into another: its distance from that view's surface, point to
plane.

- :func:`settle` moves views rigidly until their surfaces agree (all views at once, Gauss-Newton).
- :func:`agree` moves points along their rays to the mean of the surfaces that the views see.

Surfaces are sampled on a grid of some thousand pixels per view: errors that matter are smooth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.similarity import rotation_from_vectors
from wildseg3d_ros.geometry.transforms import make_transform, vector_from_rotation

GRID = 3072
"""Points per view that a surface is made of."""

_QUERIES = 768
"""Points per view that are compared with the other views' surfaces."""

_NEIGHBOURS = 12
"""Other views that a view is compared with, those that see most of it."""

_PROBES = 64

_APART = (0.04, 0.02)
"""Distance from a surface, in shares of the viewing distance, of points that may lie on it: at
first, and once the views have moved."""

_APART_ON_RAY = 0.03
"""The same where points move along their rays."""

_TURNED = 0.7
"""Least cosine between the normals of one surface seen by two views."""

_GRAZING = 0.25
"""Least cosine between a normal and the line of sight: flatter ones tell no distance."""

_INDEPENDENT = 40.0
"""Independent errors that a view's surface counts as: errors of pointmaps are smooth."""

_WIDTH = 2.0
"""Width of the Cauchy loss in median distances."""

_DAMPING = 1e-12
"""Share of the curvature that is added, so that there is always a step."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A grid of one view's points.

    Attributes:
        points: (h, w, 3) float32, world, NaN where there is none; weight: (h, w) >= 0.
        rows: (h,) and cols: (w,) int pixels of the grid, evenly spaced.
        K: (3, 3); world_from_cam: (4, 4) float64.
    """

    points: Tensor
    weight: Tensor
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    K: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]

    @property
    def centre(self) -> Tensor:
        """(3,) the camera's."""
        return self.points.new_tensor(self.world_from_cam[:3, 3])

    def normals(self) -> Tensor:
        """(h, w, 3) of the surface, by differences of neighbours; NaN at the border."""
        out = torch.full_like(self.points, torch.nan)
        if min(self.points.shape[:2]) > 2:
            along_u = self.points[1:-1, 2:] - self.points[1:-1, :-2]
            along_v = self.points[2:, 1:-1] - self.points[:-2, 1:-1]
            normal = torch.linalg.cross(along_u, along_v)
            out[1:-1, 1:-1] = normal / normal.square().sum(-1, keepdim=True).sqrt()
        return out

    def cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(m,) flat number of the grid's cell that sees points (m, 3), -1 where none does, and how
        near its centre that is (m,): 1 there, 0 where the next cell begins."""
        turn, centre = self.world_from_cam[:3, :3], self.centre
        image = (points - centre) @ points.new_tensor(turn @ self.K.T)
        u, v = image[:, 0] / image[:, 2], image[:, 1] / image[:, 2]
        h, w = self.weight.shape
        steps = [_spacing(self.rows), _spacing(self.cols)]
        v, u = (v - float(self.rows[0])) / steps[0], (u - float(self.cols[0])) / steps[1]
        row, col = torch.round(v), torch.round(u)
        central = (1.0 - (2.0 * (v - row)).square()) * (1.0 - (2.0 * (u - col)).square())
        # NaN compares False.
        inside = (image[:, 2] > 0) & (row >= 0) & (row < h) & (col >= 0) & (col < w)
        return torch.where(inside, row * w + col, -1.0).to(torch.int64), central

    def moved(self, rigid: NDArray[np.float64]) -> Surface:
        """The surface and its camera after a rigid motion (4, 4) of the world."""
        turn, shift = (self.points.new_tensor(part) for part in (rigid[:3, :3], rigid[:3, 3]))
        return replace(
            self, points=self.points @ turn.T + shift, world_from_cam=rigid @ self.world_from_cam
        )


def _spacing(pixels: NDArray[np.int64]) -> float:
    return float(pixels[-1] - pixels[0]) / (len(pixels) - 1) if len(pixels) > 1 else 1.0


def grid_of(size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a regular grid of about :data:`GRID` pixels, or of all."""
    step = max(1, int(np.ceil(np.sqrt(size[0] * size[1] / GRID))))
    rows, cols = (np.arange((n % step or step) // 2, n, step, dtype=np.int64) for n in size)
    return rows, cols


@dataclass(frozen=True, eq=False)
class _Meetings:
    """Points of other views that fall onto one view's surface.

    Attributes:
        view: whose surface; others: (S,) whose points.
        point: (S, q, 3); normal: (S, q, 3) of the surface; away: (S, q) signed distance from it.
        reach: (S, q) viewing distance; weight: (S, q), 0 where nothing meets.
    """

    view: int
    others: list[int]
    point: Tensor
    normal: Tensor
    away: Tensor
    reach: Tensor
    weight: Tensor


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


def settle(surfaces: Sequence[Surface], looseness: Looseness) -> NDArray[np.float64]:
    """Rigid motions (N, 4, 4) of the views that make their surfaces agree.

    Minimises the robust sum of squared distances, point to plane, between what each view and the
    others see, beside a prior: a view moves no farther than its pairs can be wrong, and a camera
    whose pose is known no farther than that is uncertain. The prior also holds what surfaces leave
    open, as planes do, and the frame.
    """
    count = len(surfaces)
    motions = np.tile(np.eye(4), (count, 1, 1))
    neighbours = _neighbours(surfaces)
    now = list(surfaces)
    for apart in _APART:
        met = _meetings(now, neighbours, apart, _QUERIES)
        spread = _typical(met)
        if not met or spread <= 0:
            break
        equations = _NormalEquations(count)
        for m in met:
            equations.add_meetings(m, surfaces, spread)
        for v in range(count):
            equations.add_displacement(v, now[v], surfaces[v], looseness.points[v])
            equations.add_pose(v, now[v], surfaces[v], looseness)
        step = equations.solve()
        rotations = rotation_from_vectors(torch.from_numpy(step[:, :3])).numpy()
        for v in range(count):
            motions[v] = make_transform(rotations[v], step[v, 3:]) @ motions[v]
            now[v] = surfaces[v].moved(motions[v])
    return motions


def agree(surfaces: Sequence[Surface]) -> list[Tensor]:
    """(h, w) per view: relative change of each point's distance from its camera.

    The robust weighted mean, along the point's ray, of its own place and of the other views'
    surfaces there.
    """
    push = [torch.zeros_like(s.weight).view(-1) for s in surfaces]
    mass = [torch.ones_like(s.weight).view(-1) for s in surfaces]
    met = _meetings(surfaces, _neighbours(surfaces), _APART_ON_RAY)
    spread = _typical(met)
    for m in met if spread > 0 else []:
        for k, v in enumerate(m.others):
            count = surfaces[v].weight.numel()
            sight = m.point[k, :count] - surfaces[v].centre
            far = sight.square().sum(1).sqrt()
            slant = (m.normal[k, :count] * sight).sum(1) / far
            shift = -m.away[k, :count] / (far * slant)
            meets = (m.weight[k, :count] > 0) & (slant.abs() > _GRAZING)
            meets &= shift.abs() < _APART_ON_RAY
            robust = slant.square() / (1.0 + (shift / (_WIDTH * spread)).square())
            robust = torch.where(meets, robust, 0.0)
            mass[v] += robust
            push[v] += robust * torch.where(meets, shift, 0.0)
    return [(p / m).view_as(s.weight) for p, m, s in zip(push, mass, surfaces, strict=True)]


def _neighbours(surfaces: Sequence[Surface]) -> list[list[int]]:
    """For each view, the others that see most of it."""
    count = len(surfaces)
    if count <= _NEIGHBOURS + 1:
        return [[u for u in range(count) if u != v] for v in range(count)]
    seen = np.zeros((count, count))
    for v, surface in enumerate(surfaces):
        points = surface.points.view(-1, 3)
        probes = points[:: max(1, len(points) // _PROBES)]
        for u in range(count):
            seen[v, u] = float((surfaces[u].cells(probes)[0] >= 0).sum())
    np.fill_diagonal(seen, 0.0)
    both = np.sqrt(seen * seen.T)
    order = np.argsort(-both, axis=1, kind="stable")[:, :_NEIGHBOURS]
    return [[int(u) for u in order[v] if both[v, u] > 0] for v in range(count)]


def _meetings(
    surfaces: Sequence[Surface],
    neighbours: Sequence[list[int]],
    apart: float,
    queries: int | None = None,
) -> list[_Meetings]:
    """Where points of views fall onto the surfaces of their neighbours.

    Args:
        apart: farthest from the surface, in viewing distances.
        queries: about how many points of a view to take; None for all.
    """
    normals = [s.normals().view(-1, 3) for s in surfaces]
    chosen = []
    for s in surfaces:
        points = s.points.view(-1, 3)
        # An odd step walks through all columns of the grid.
        step = 1 if queries is None else max(1, len(points) // queries) | 1
        chosen.append(torch.arange(0, len(points), step, device=points.device))
    longest = max(len(c) for c in chosen)
    out = []
    for u, surface in enumerate(surfaces):
        others = neighbours[u]
        if not others:
            continue
        point = surface.points.new_full((len(others), longest, 3), torch.nan)
        normal, weight = point.clone(), point.new_zeros(point.shape[:2])
        for k, v in enumerate(others):
            n = len(chosen[v])
            point[k, :n] = surfaces[v].points.view(-1, 3)[chosen[v]]
            normal[k, :n] = normals[v][chosen[v]]
            weight[k, :n] = surfaces[v].weight.view(-1)[chosen[v]]
        cell, central = surface.cells(point.view(-1, 3))
        hit = cell.clamp_min(0)
        target = surface.points.view(-1, 3)[hit].view_as(point)
        facing = normals[u][hit].view_as(point)
        offset = point - target
        away = (facing * offset).sum(-1)
        sight = target - surface.centre
        reach = sight.square().sum(-1).sqrt()
        # Every gate fades, so that the answer does not hang on points at its edge.
        gates = (
            central.view_as(away),
            1.0 - (away / (apart * reach)).square(),
            1.0 - offset.square().sum(-1) / (2 * apart * reach).square(),
            ((facing * normal).sum(-1) - _TURNED) / (1.0 - _TURNED),
            ((facing * sight).sum(-1).abs() / reach - _GRAZING) / (1.0 - _GRAZING),
        )
        weight = (weight * surface.weight.view(-1)[hit].view_as(away)).sqrt()
        for gate in gates:
            weight = weight * gate.clamp_min(0.0)
        # NaN compares False.
        meets = (cell >= 0).view_as(away) & (weight > 0)
        weight = torch.where(meets, weight, 0.0)
        point, facing = (torch.where(meets[..., None], part, 0.0) for part in (point, facing))
        away, reach = torch.where(meets, away, 0.0), torch.where(meets, reach, 1.0)
        out.append(_Meetings(u, others, point, facing, away, reach, weight))
    return out


def _typical(met: Sequence[_Meetings]) -> float:
    """Median distance from surfaces, in viewing distances, over all that meets; 0 for nothing."""
    values = [(m.away.abs() / m.reach)[m.weight > 0] for m in met]
    joined = torch.cat(values) if values else torch.zeros(0)
    return float(joined.median()) if joined.numel() else 0.0


class _NormalEquations:
    """Of the views' steps: a rotation about the world's origin and a translation each."""

    def __init__(self, count: int) -> None:
        self.matrix = np.zeros((count, 6, count, 6))
        self.gradient = np.zeros((count, 6))

    def solve(self) -> NDArray[np.float64]:
        """(N, 6) steps."""
        size = self.gradient.size
        flat = self.matrix.reshape(size, size)
        # A view whose points lie on a line says nothing about its turn about it.
        flat[np.diag_indices(size)] *= 1.0 + _DAMPING
        flat[np.diag_indices(size)] += _DAMPING * np.trace(flat) / size
        step = np.linalg.solve(flat, -self.gradient.ravel())
        return step.reshape(-1, 6).astype(np.float64, copy=False)

    def add_meetings(self, m: _Meetings, surfaces: Sequence[Surface], spread: float) -> None:
        """Adds ``sum w (n . (T_v p - T_u q))^2`` of all that meets on a view's surface."""
        size = spread * m.reach
        robust = m.weight / (1.0 + (m.away / (_WIDTH * size)).square()) / size.square()
        jacobian = torch.cat([torch.linalg.cross(m.point, m.normal), m.normal], -1)
        weighted = jacobian * robust[..., None]
        blocks = (weighted.mT @ jacobian).double().cpu().numpy()
        slopes = (weighted.mT @ m.away[..., None])[..., 0].double().cpu().numpy()
        for k, v in enumerate(m.others):
            share = _INDEPENDENT / max(float(surfaces[v].weight.sum()), 1e-30)
            share *= surfaces[v].weight.numel() / m.point.shape[1]
            block, slope = share * blocks[k], share * slopes[k]
            self.matrix[v, :, v] += block
            self.matrix[m.view, :, m.view] += block
            self.matrix[v, :, m.view] -= block
            self.matrix[m.view, :, v] -= block
            self.gradient[v] += slope
            self.gradient[m.view] -= slope

    def add_displacement(self, v: int, now: Surface, start: Surface, expected: float) -> None:
        """Adds a view's mean squared displacement, over what is expected [viewing distances]."""
        step = max(1, now.weight.numel() // 256)
        point, origin = (s.points.view(-1, 3)[::step].double() for s in (now, start))
        weight = start.weight.view(-1)[::step].double()
        valid = (weight > 0) & point.isfinite().all(1)
        if not bool(valid.any()):
            self.matrix[v, :, v] += np.eye(6)
            return
        point, origin, weight = point[valid], origin[valid], weight[valid]
        reach = (point - now.centre.double()).square().sum(1).sqrt()
        share = weight / weight.sum() / (max(expected, 1e-12) * reach).square()
        jacobian = torch.from_numpy(_displacement(point.cpu().numpy())).to(point)
        weighted = jacobian * share[:, None, None]
        self.matrix[v, :, v] += torch.einsum("nik,nil->kl", weighted, jacobian).cpu().numpy()
        self.gradient[v] += torch.einsum("nik,ni->k", weighted, point - origin).cpu().numpy()

    def add_pose(self, v: int, now: Surface, start: Surface, looseness: Looseness) -> None:
        """Adds how far a camera is from its known pose, over its deviations."""
        centre, before = now.world_from_cam[:3, 3], start.world_from_cam[:3, 3]
        turned = now.world_from_cam[:3, :3] @ start.world_from_cam[:3, :3].T
        for jacobian, residual, sigma in (
            (_displacement(centre[None])[0], centre - before, looseness.position[v]),
            (np.eye(3, 6), vector_from_rotation(turned), looseness.rotation[v]),
        ):
            share = max(sigma, 1e-12) ** -2
            self.matrix[v, :, v] += share * jacobian.T @ jacobian
            self.gradient[v] += share * jacobian.T @ residual


def _displacement(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 6) how points (n, 3) move with a view's step."""
    x, y, z = points.T
    out = np.zeros((len(points), 3, 6))
    out[:, 0, 1], out[:, 0, 2] = z, -y
    out[:, 1, 0], out[:, 1, 2] = -z, x
    out[:, 2, 0], out[:, 2, 1] = y, -x
    out[:, :, 3:] = np.eye(3)
    return out
