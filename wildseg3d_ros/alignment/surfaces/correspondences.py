"""Where points of one view fall onto the surface that another view sees.

Surfaces are sampled on a grid of some thousand pixels per view: errors that matter are smooth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GRID = 3072
"""Points per view that a surface is made of."""

_BLOCK = 49152
"""Points that are compared at once: what fits into a processor's cache."""

_NEIGHBOURS = 12
"""Other views that a view is compared with, those that see most of it."""

_PROBES = 64

_TURNED = 0.7
"""Least cosine between the normals of one surface seen by two views."""

GRAZING = 0.25
"""Least cosine between a normal and the line of sight: flatter ones tell no distance."""


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

    def moved(self, rigid: NDArray[np.float64]) -> Surface:
        """The surface and its camera after a rigid motion (4, 4) of the world."""
        turn, shift = (self.points.new_tensor(part) for part in (rigid[:3, :3], rigid[:3, 3]))
        return replace(
            self, points=self.points @ turn.T + shift, world_from_cam=rigid @ self.world_from_cam
        )

    def normals(self) -> Tensor:
        """(h, w, 3) of the surface, by differences of neighbours; NaN at the border."""
        out = torch.full_like(self.points, torch.nan)
        if min(self.points.shape[:2]) > 2:
            along_u = self.points[1:-1, 2:] - self.points[1:-1, :-2]
            along_v = self.points[2:, 1:-1] - self.points[:-2, 1:-1]
            normal = torch.linalg.cross(along_u, along_v)
            out[1:-1, 1:-1] = normal / normal.square().sum(-1, keepdim=True).sqrt()
        return out


@dataclass(frozen=True, eq=False)
class Stack:
    """The surfaces of all views, padded to the same number of points.

    Attributes:
        points: (N, G, 3) world, NaN where there is none, as the last is in every view; normals:
            (N, G, 3); weight: (N, G).
        count: (N,) points of each view's grid.
        shape: (N, 2) rows and columns of the grids; first: (N, 2) their first pixel; spacing:
            (N, 2) pixels between neighbours.
        K: (N, 3, 3); world_from_cam: (N, 4, 4) float64.
    """

    points: Tensor
    normals: Tensor
    weight: Tensor
    count: NDArray[np.int64]
    shape: NDArray[np.int64]
    first: NDArray[np.float64]
    spacing: NDArray[np.float64]
    K: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]

    @classmethod
    def of(cls, surfaces: Sequence[Surface]) -> Stack:
        """Of views whose grids may differ."""
        count = np.array([s.weight.numel() for s in surfaces])
        like = surfaces[0].points
        points = like.new_full((len(surfaces), int(count.max()) + 1, 3), torch.nan)
        normals, weight = points.clone(), like.new_zeros(points.shape[:2])
        for v, s in enumerate(surfaces):
            points[v, : count[v]] = s.points.view(-1, 3)
            normals[v, : count[v]] = s.normals().view(-1, 3)
            weight[v, : count[v]] = s.weight.view(-1)
        return cls(
            points,
            normals,
            weight,
            count,
            np.array([s.weight.shape for s in surfaces]),
            np.array([(s.rows[0], s.cols[0]) for s in surfaces], dtype=np.float64),
            np.array([(_spacing(s.rows), _spacing(s.cols)) for s in surfaces]),
            np.stack([s.K for s in surfaces]),
            np.stack([s.world_from_cam for s in surfaces]),
        )

    def __len__(self) -> int:
        return len(self.count)

    @property
    def centres(self) -> Tensor:
        """(N, 3) of the cameras."""
        return self.points.new_tensor(self.world_from_cam[:, :3, 3])

    def moved(self, rigid: NDArray[np.float64]) -> Stack:
        """The surfaces and their cameras after rigid motions (N, 4, 4)."""
        turn, shift = (self.points.new_tensor(p) for p in (rigid[:, :3, :3], rigid[:, :3, 3]))
        return replace(
            self,
            points=torch.baddbmm(shift[:, None], self.points, turn.mT),
            normals=torch.bmm(self.normals, turn.mT),
            world_from_cam=rigid @ self.world_from_cam,
        )

    def chosen(self, wanted: int) -> Tensor:
        """(N, q) numbers of about ``wanted`` points of each view, padded with one that is none."""
        # An odd step walks through all columns of the grid.
        steps = np.maximum(1, self.count // wanted) | 1
        number = np.arange(int(np.ceil(self.count / steps).max())) * steps[:, None]
        none = self.weight.shape[1] - 1
        number = np.where(number < self.count[:, None], number, none)
        return torch.as_tensor(number, device=self.points.device)

    def cells(self, points: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """Number (S, q) of the cell of the grids of views (S,) that sees points (S, q, 3), -1
        where none does, and how near its centre that is: 1 there, 0 where the next cell begins.
        """
        v = view.cpu().numpy()
        turn = self.world_from_cam[v, :3, :3] @ self.K[v].transpose(0, 2, 1)
        image = torch.bmm(points - self.centres[view][:, None], points.new_tensor(turn))
        first, spacing, shape = (
            points.new_tensor(part[v])[..., None]
            for part in (self.first, self.spacing, self.shape)
        )
        inverse = 1.0 / image[..., 2]
        along_v = (image[..., 1] * inverse - first[:, 0]) / spacing[:, 0]
        along_u = (image[..., 0] * inverse - first[:, 1]) / spacing[:, 1]
        row, col = torch.round(along_v), torch.round(along_u)
        central = (1.0 - (2.0 * (along_v - row)).square()) * (
            1.0 - (2.0 * (along_u - col)).square()
        )
        # NaN compares False.
        inside = (image[..., 2] > 0) & (row >= 0) & (row < shape[:, 0])
        inside &= (col >= 0) & (col < shape[:, 1])
        return torch.where(inside, row * shape[:, 1] + col, -1.0).to(torch.int64), central


def _spacing(pixels: NDArray[np.int64]) -> float:
    return float(pixels[-1] - pixels[0]) / (len(pixels) - 1) if len(pixels) > 1 else 1.0


def grid_of(size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a regular grid of about :data:`GRID` pixels, or of all."""
    step = max(1, int(np.ceil(np.sqrt(size[0] * size[1] / GRID))))
    rows, cols = (np.arange((n % step or step) // 2, n, step, dtype=np.int64) for n in size)
    return rows, cols


@dataclass(frozen=True, eq=False)
class Meetings:
    """Points of views that fall onto the surfaces of others, for S pairs of views.

    Attributes:
        view: (S,) whose surface; other: (S,) whose points.
        point: (S, q, 3); normal: (S, q, 3) of the surface; away: (S, q) signed distance from it.
        reach: (S, q) viewing distance; weight: (S, q), 0 where nothing meets.
    """

    view: Tensor
    other: Tensor
    point: Tensor
    normal: Tensor
    away: Tensor
    reach: Tensor
    weight: Tensor


def neighbours(stack: Stack) -> NDArray[np.int64]:
    """(S, 2) pairs of a view and another that is compared with it, those that see most of it."""
    count = len(stack)
    if count <= _NEIGHBOURS + 1:
        both = 1.0 - np.eye(count)
    else:
        probes = stack.points[:, :: max(1, stack.points.shape[1] // _PROBES)]
        everything = probes.reshape(1, -1, 3).expand(1, -1, -1)
        seen = np.zeros((count, count))
        for u in range(count):
            cell = stack.cells(everything, torch.tensor([u], device=probes.device))[0]
            seen[:, u] = (cell.view(count, -1) >= 0).sum(1).cpu().numpy()
        np.fill_diagonal(seen, 0.0)
        both = np.sqrt(seen * seen.T)
    order = np.argsort(-both, axis=1, kind="stable")[:, :_NEIGHBOURS]
    rows = np.repeat(np.arange(count), order.shape[1])
    pairs = np.stack([rows, order.ravel()], axis=1)
    return pairs[both[pairs[:, 0], pairs[:, 1]] > 0]


def meetings(
    stack: Stack, pairs: NDArray[np.int64], apart: float, queries: int | None = None
) -> Iterator[Meetings]:
    """Where points of views fall onto the surfaces of their neighbours, some pairs at a time.

    Args:
        pairs: (S, 2) views whose surface and whose points are meant.
        apart: farthest from the surface, in viewing distances.
        queries: about how many points of a view to take; None for all.
    """
    points, normals, weights, size = (
        stack.points,
        stack.normals,
        stack.weight,
        stack.weight.shape[1],
    )
    if queries is not None:
        some = stack.chosen(queries)
        weights = torch.take_along_dim(weights, some, 1)
        points, normals = (
            torch.take_along_dim(part, some[..., None], 1) for part in (points, normals)
        )
    flat_points, flat_normals = stack.points.view(-1, 3), stack.normals.view(-1, 3)
    block = max(1, _BLOCK // points.shape[1])
    for first in range(0, len(pairs), block):
        view, other = torch.as_tensor(pairs[first : first + block].T, device=points.device)
        point, normal = points[other], normals[other]
        cell, central = stack.cells(point, view)
        hit = cell.clamp_min(0) + view[:, None] * size
        facing = flat_normals[hit]
        target = flat_points[hit]
        offset = point - target
        away = (facing * offset).sum(-1)
        sight = target.sub_(stack.centres[view][:, None])
        reach = sight.square().sum(-1).sqrt_()
        # Every gate fades, so that the answer does not hang on points at its edge.
        gates = (
            central,
            1.0 - (away / (apart * reach)).square(),
            1.0 - offset.square().sum(-1) / (2 * apart * reach).square(),
            ((facing * normal).sum(-1) - _TURNED) / (1.0 - _TURNED),
            ((facing * sight).sum(-1).abs() / reach - GRAZING) / (1.0 - GRAZING),
        )
        weight = (weights[other] * stack.weight.view(-1)[hit]).sqrt_()
        for gate in gates:
            weight.mul_(gate.clamp_min_(0.0))
        # NaN compares False.
        meets = (cell >= 0) & (weight > 0)
        weight = torch.where(meets, weight, 0.0)
        point, facing = (torch.where(meets[..., None], part, 0.0) for part in (point, facing))
        away, reach = torch.where(meets, away, 0.0), torch.where(meets, reach, 1.0)
        yield Meetings(view, other, point, facing, away, reach, weight)


def typical_distance(met: Sequence[Meetings]) -> float:
    """Median distance from surfaces, in viewing distances, over all that meets; 0 for nothing."""
    values = [(m.away.abs() / m.reach)[m.weight > 0] for m in met]
    joined = torch.cat(values) if values else torch.zeros(0)
    return float(joined.median()) if joined.numel() else 0.0
