"""Where points of one view fall onto the surface that another view sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.medians import lower_median
from wildseg3d_ros.core.geometry.transforms import apply

GRID = 3072
"""Points per view that a surface is made of, about 64 x 48: errors that matter are smooth."""

_BLOCK = 49152
"""Points that are compared at once: what fits into a processor's cache."""

_NEIGHBOURS = 12
"""Other views that a view is compared with, those that see most of it: the cost of
comparing all grows with the square."""

GRAZING = 0.25
"""Min cosine between a normal and the line of sight: flatter ones, below 14.5 degrees, tell no
distance."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A grid of one view's points.

    Attributes:
        points: (h, w, 3) float32, world, NaN where there is none; weight: (h, w) float32 >= 0.
        rows: (h,) and cols: (w,) int pixels of the grid, evenly spaced.
        K: (3, 3); world_from_cam: (4, 4) float64.
    """

    points: NDArray[np.float32]
    weight: NDArray[np.float32]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    K: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]

    @property
    def centre(self) -> NDArray[np.float32]:
        """(3,) the camera's."""
        return self.world_from_cam[:3, 3].astype(np.float32)

    def moved(self, rigid: NDArray[np.float64]) -> Surface:
        """The surface and its camera after a rigid motion (4, 4) of the world."""
        return replace(
            self,
            points=apply(rigid, self.points),
            world_from_cam=rigid @ self.world_from_cam,
        )

    def depth(self) -> float:
        """Median distance of its points from the camera; 1 for none."""
        return lower_median(length(self.points - self.centre)[self.weight > 0], 1.0)

    def normals(self) -> NDArray[np.float32]:
        """(h, w, 3) of the surface, by differences of neighbours; NaN at the border."""
        out = np.full_like(self.points, np.nan)
        if min(self.points.shape[:2]) > 2:
            along_u = self.points[1:-1, 2:] - self.points[1:-1, :-2]
            along_v = self.points[2:, 1:-1] - self.points[:-2, 1:-1]
            normal = np.cross(along_u, along_v)
            out[1:-1, 1:-1] = normal / length(normal)[..., None]
        return out


@dataclass(frozen=True, eq=False)
class Stack:
    """The surfaces of all views, padded to the same number of points.

    Attributes:
        points: (N, G, 3) float32 world, NaN where there is none, as the last is in every view;
            normals: (N, G, 3); weight: (N, G).
        count: (N,) points of each view's grid.
        shape: (N, 2) rows and columns of the grids; first: (N, 2) their first pixel; spacing:
            (N, 2) pixels between neighbours.
        K: (N, 3, 3); world_from_cam: (N, 4, 4) float64.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    weight: NDArray[np.float32]
    count: NDArray[np.int64]
    shape: NDArray[np.int64]
    first: NDArray[np.float64]
    spacing: NDArray[np.float64]
    K: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]

    @classmethod
    @np.errstate(invalid="ignore", divide="ignore")
    def of(cls, surfaces: Sequence[Surface]) -> Stack:
        """Of views whose grids may differ."""
        count = np.array([s.weight.size for s in surfaces])
        points = np.full((len(surfaces), int(count.max()) + 1, 3), np.nan, dtype=np.float32)
        normals, weight = points.copy(), np.zeros(points.shape[:2], dtype=np.float32)
        for v, s in enumerate(surfaces):
            points[v, : count[v]] = s.points.reshape(-1, 3)
            normals[v, : count[v]] = s.normals().reshape(-1, 3)
            weight[v, : count[v]] = s.weight.ravel()
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
    def centres(self) -> NDArray[np.float32]:
        """(N, 3) of the cameras."""
        return self.world_from_cam[:, :3, 3].astype(np.float32)

    def moved(self, rigid: NDArray[np.float64]) -> Stack:
        """The surfaces and their cameras after rigid motions (N, 4, 4)."""
        rotation = rigid[:, :3, :3].transpose(0, 2, 1).astype(np.float32)
        return replace(
            self,
            points=self.points @ rotation + rigid[:, None, :3, 3].astype(np.float32),
            normals=self.normals @ rotation,
            world_from_cam=rigid @ self.world_from_cam,
        )

    def some(self, wanted: int) -> NDArray[np.int64]:
        """(N, q) numbers of about ``wanted`` points of each view, padded with one that is none."""
        # An odd step walks through all columns of the grid.
        steps = np.maximum(1, self.count // wanted) | 1
        number = np.arange(int(np.ceil(self.count / steps).max())) * steps[:, None]
        return np.where(number < self.count[:, None], number, self.weight.shape[1] - 1)

    def cells(
        self, points: NDArray[np.float32], view: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
        """Number (S, q) of the cell of the grids of views (S,) that sees points (S, q, 3), -1
        where none does, and how near its centre that is: 1 there, 0 where the next cell begins.
        """
        rotation = self.world_from_cam[view, :3, :3] @ self.K[view].transpose(0, 2, 1)
        image = (points - self.centres[view][:, None]) @ rotation.astype(np.float32)
        first, spacing = (
            part[view].astype(np.float32)[..., None] for part in (self.first, self.spacing)
        )
        rows, cols = self.shape[view].T[..., None]
        inverse = 1.0 / image[..., 2]
        along_v = (image[..., 1] * inverse - first[:, 0]) / spacing[:, 0]
        along_u = (image[..., 0] * inverse - first[:, 1]) / spacing[:, 1]
        row, col = np.rint(along_v), np.rint(along_u)
        central = (1.0 - np.square(2.0 * (along_v - row))) * (
            1.0 - np.square(2.0 * (along_u - col))
        )
        # NaN compares False.
        inside = (image[..., 2] > 0) & (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        number = np.where(inside, row, 0.0).astype(np.int64) * cols
        number += np.where(inside, col, 0.0).astype(np.int64)
        return np.where(inside, number, -1), central


def _spacing(pixels: NDArray[np.int64]) -> float:
    return float(pixels[-1] - pixels[0]) / (len(pixels) - 1) if len(pixels) > 1 else 1.0


def grid_of(size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a regular grid of about :data:`GRID` pixels, or of all."""
    step = max(1, int(np.ceil(np.sqrt(size[0] * size[1] / GRID))))
    rows, cols = (np.arange((n % step or step) // 2, n, step, dtype=np.int64) for n in size)
    return rows, cols


def dot(a: NDArray, b: NDArray) -> NDArray:
    """(...) of vectors (..., 3)."""
    return np.einsum("...i,...i->...", a, b)


def length(vectors: NDArray) -> NDArray:
    """(...) of vectors (..., 3)."""
    return np.sqrt(dot(vectors, vectors))


@dataclass(frozen=True, eq=False)
class Correspondences:
    """Points of views that fall onto the surfaces of others, for S pairs of views.

    Attributes:
        view: (S,) whose surface; other: (S,) whose points.
        point: (S, q, 3); normal: (S, q, 3) of the surface; distance: (S, q) signed, from it.
        depth: (S, q) viewing distance; weight: (S, q), 0 where there is no correspondence.
    """

    view: NDArray[np.int64]
    other: NDArray[np.int64]
    point: NDArray[np.float32]
    normal: NDArray[np.float32]
    distance: NDArray[np.float32]
    depth: NDArray[np.float32]
    weight: NDArray[np.float32]


@np.errstate(invalid="ignore", divide="ignore", over="ignore")
def neighbours(stack: Stack) -> NDArray[np.int64]:
    """(S, 2) pairs of a view and another that is compared with it, those that see most of it."""
    count = len(stack)
    if count <= _NEIGHBOURS + 1:
        both = 1.0 - np.eye(count)
    else:
        # About 64 points of a view tell which others see it.
        probes = stack.points[:, :: max(1, stack.points.shape[1] // 64)].reshape(1, -1, 3)
        seen = np.zeros((count, count))
        for u in range(count):
            cell = stack.cells(probes, np.array([u]))[0]
            seen[:, u] = np.count_nonzero(cell.reshape(count, -1) >= 0, axis=1)
        np.fill_diagonal(seen, 0.0)
        both = np.sqrt(seen * seen.T)
    order = np.argsort(-both, axis=1, kind="stable")[:, :_NEIGHBOURS]
    rows = np.repeat(np.arange(count), order.shape[1])
    pairs = np.stack([rows, order.ravel()], axis=1)
    return pairs[both[pairs[:, 0], pairs[:, 1]] > 0]


def find_correspondences(
    stack: Stack, pairs: NDArray[np.int64], max_distance: float, queries: int | None = None
) -> Iterator[Correspondences]:
    """Where points of views fall onto the surfaces of their neighbours, some pairs at a time.

    Args:
        pairs: (S, 2) views whose surface and whose points are meant.
        max_distance: from the surface, in viewing distances.
        queries: about how many points of a view to take; None for all.
    """
    chosen = stack
    if queries is not None:
        some = stack.some(queries)
        points, normals = (
            np.take_along_axis(p, some[..., None], 1) for p in (stack.points, stack.normals)
        )
        weight = np.take_along_axis(stack.weight, some, 1)
        chosen = replace(stack, points=points, normals=normals, weight=weight)
    block = max(1, _BLOCK // chosen.points.shape[1])
    for first in range(0, len(pairs), block):
        yield _correspond(stack, chosen, pairs[first : first + block], max_distance)


@np.errstate(invalid="ignore", divide="ignore", over="ignore")
def _correspond(
    stack: Stack, chosen: Stack, pairs: NDArray[np.int64], max_distance: float
) -> Correspondences:
    """Those of the chosen points with the surfaces of the stack, for pairs (S, 2) of views."""
    view, other = pairs.T
    point, normal, weight = chosen.points[other], chosen.normals[other], chosen.weight[other]
    cell, central = stack.cells(point, view)
    hit = np.maximum(cell, 0) + view[:, None] * stack.weight.shape[1]
    # Taking from a flat array is several times as fast as indexing.
    facing = np.take(stack.normals.reshape(-1, 3), hit, axis=0)
    sight = np.take(stack.points.reshape(-1, 3), hit, axis=0)
    offset = point - sight
    distance = dot(facing, offset)
    sight -= stack.centres[view][:, None]
    depth = length(sight)
    radius = max_distance * depth
    # Normals of one surface that two views see differ by less than 45 degrees.
    min_cosine = 0.7
    # Every gate fades, so that the answer does not hang on points at its edge.
    gates = (
        central,
        1.0 - np.square(distance / radius),
        1.0 - dot(offset, offset) / np.square(2.0 * radius),
        (dot(facing, normal) - min_cosine) / (1.0 - min_cosine),
        (np.abs(dot(facing, sight)) / depth - GRAZING) / (1.0 - GRAZING),
    )
    weight = np.sqrt(weight * np.take(stack.weight.ravel(), hit))
    for gate in gates:
        weight *= np.maximum(gate, 0.0)
    # NaN compares False.
    hits = (cell >= 0) & (weight > 0)
    return Correspondences(
        view,
        other,
        np.where(hits[..., None], point, 0.0),
        np.where(hits[..., None], facing, 0.0),
        np.where(hits, distance, 0.0),
        np.where(hits, depth, 1.0),
        np.where(hits, weight, 0.0),
    )


def typical_distance(found: Sequence[Correspondences]) -> float:
    """Median distance from surfaces, in viewing distances; 0 without correspondences."""
    values = [(np.abs(c.distance) / c.depth)[c.weight > 0] for c in found]
    return lower_median(np.concatenate(values), 0.0) if values else 0.0
