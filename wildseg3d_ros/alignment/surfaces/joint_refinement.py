"""Joint refinement: views, then points, move until what several views see is one surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.similarities import skew
from wildseg3d_ros.alignment.surfaces.correspondences import (
    GRAZING,
    Correspondences,
    Stack,
    Surface,
    dot,
    find_correspondences,
    length,
    neighbours,
    typical_distance,
)
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    rotation_from_vector,
    vector_from_rotation,
)

_QUERIES = 768
"""Points per view that are compared with the other views' surfaces, a quarter of GRID: errors are
smooth."""

_MAX_DISTANCES = (0.04, 0.02)
"""From a surface, in shares of the viewing distance, of points that may lie on it: at first, and
once the views have moved."""

_MAX_DISTANCE_ON_RAY = 0.03
"""The same where points move along their rays."""

_INDEPENDENT = 40.0
"""Independent errors that a view's surface counts as: errors of pointmaps are smooth."""

_LOSS_WIDTH = 2.0
"""Of the Cauchy loss, in median distances."""


@dataclass(frozen=True, eq=False)
class MotionPrior:
    """How far views may lie from where they are: standard deviations.

    Attributes:
        points: (N,) of a view's points, in shares of the viewing distance.
        position, rotation: (N,) of cameras whose poses are known [world units, rad]; inf where
            they are not.
    """

    points: NDArray[np.float64]
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]


def refine_jointly(
    surfaces: Sequence[Surface], prior: MotionPrior, only: int | None = None
) -> NDArray[np.float64]:
    """Rigid motions (N, 4, 4) of the views that make their surfaces agree.

    Minimises the robust sum of squared distances, point to plane, between what each view and the
    others see, beside the prior: a view moves no farther than its pairs can be wrong, and a camera
    whose pose is known no farther than that is uncertain. The prior also fixes what surfaces leave
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
    # Not the shared gauss_newton: one step for each of the distances.
    for max_distance in _MAX_DISTANCES:
        found = list(find_correspondences(now, pairs, max_distance, _QUERIES))
        sigma = typical_distance(found)
        if sigma <= 0:
            break
        # Smaller ones are float32's rounding; weights beyond leave a matrix of rounding errors.
        sigma = max(sigma, 1e-6)
        equations = _NormalEquations(len(start))
        for c in found:
            equations.add_correspondences(c, start, sigma)
        equations.add_displacements(now, start, prior.points)
        equations.add_poses(now, start, prior)
        step = equations.solve(moving)
        for v in range(len(start)):
            rotation = rotation_from_vector(step[v, :3])
            motions[v] = make_transform(rotation, step[v, 3:]) @ motions[v]
        now = start.moved(motions)
    return motions


def average_along_rays(
    surfaces: Sequence[Surface], only: int | None = None
) -> list[NDArray[np.float32]]:
    """(h, w) per view: relative change of each point's distance from its camera.

    The robust weighted mean, along the point's ray, of where it is and of the other views'
    surfaces there.

    Args:
        only: the one view whose points may change; None for all.
    """
    stack = Stack.of(surfaces)
    pairs = neighbours(stack)
    if only is not None:
        pairs = pairs[pairs[:, 1] == only]
    shifts, total = np.zeros_like(stack.weight), np.ones_like(stack.weight)
    found = list(find_correspondences(stack, pairs, _MAX_DISTANCE_ON_RAY))
    sigma = typical_distance(found)
    for c in found if sigma > 0 else []:
        sight = c.point - stack.centres[c.other][:, None]
        depth = length(sight)
        with np.errstate(invalid="ignore", divide="ignore"):
            slant = dot(c.normal, sight) / depth
            shift = -c.distance / (depth * slant)
            hits = (c.weight > 0) & (np.abs(slant) > GRAZING)
            hits &= np.abs(shift) < _MAX_DISTANCE_ON_RAY
            robust = np.square(slant) / (1.0 + np.square(shift / (_LOSS_WIDTH * sigma)))
        robust, shift = np.where(hits, robust, 0.0), np.where(hits, shift, 0.0)
        for v, weight, change in zip(c.other, robust, robust * shift, strict=True):
            total[v] += weight
            shifts[v] += change
    shifts /= total
    return [
        c[:n].reshape(s.weight.shape)
        for c, n, s in zip(shifts, stack.count, surfaces, strict=True)
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
        # Points on a line leave the rotation about it open: a share of the curvature is added.
        damping = 1e-12
        flat[np.diag_indices(size)] *= 1.0 + damping
        flat[np.diag_indices(size)] += damping * np.trace(flat) / size
        step = np.zeros_like(self.gradient)
        step[moving] = np.linalg.solve(flat, -self.gradient[moving].ravel()).reshape(-1, 6)
        return step

    def add_correspondences(self, c: Correspondences, stack: Stack, sigma: float) -> None:
        """Adds ``sum w (n . (T_v p - T_u q))^2`` of all points on views' surfaces."""
        scale = sigma * c.depth
        robust = c.weight / (1.0 + np.square(c.distance / (_LOSS_WIDTH * scale)))
        robust /= np.square(scale)
        jacobian = np.concatenate([np.cross(c.point, c.normal), c.normal], -1)
        weighted = (jacobian * robust[..., None]).transpose(0, 2, 1)
        share = _INDEPENDENT / np.maximum(stack.weight.sum(1), 1e-30)
        share = (share * stack.count / c.point.shape[1])[c.other]
        blocks = share[:, None, None] * (weighted @ jacobian)
        slopes = share[:, None] * (weighted @ c.distance[..., None])[..., 0]
        u, v = c.view, c.other
        for rows, cols, sign in ((v, v, 1), (u, u, 1), (v, u, -1), (u, v, -1)):
            np.add.at(self.matrix, (rows, cols), sign * blocks)
        np.add.at(self.gradient, v, slopes)
        np.add.at(self.gradient, u, -slopes)

    def add_displacements(self, now: Stack, start: Stack, expected: NDArray) -> None:
        """Adds views' mean squared displacements, over what is expected [viewing distances]."""
        # 256 points stand for a view's displacement.
        some = start.some(256)
        weight = np.take_along_axis(start.weight, some, 1).astype(np.float64)
        point, origin = (
            np.take_along_axis(s.points, some[..., None], 1).astype(np.float64)
            for s in (now, start)
        )
        valid = (weight > 0) & np.isfinite(point).all(2)
        weight[~valid], point[~valid], origin[~valid] = 0.0, 0.0, 0.0
        offset = point - now.world_from_cam[:, None, :3, 3]
        variance = np.maximum(expected, 1e-12)[:, None] ** 2 * dot(offset, offset)
        share = weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)
        share /= np.maximum(variance, 1e-300)
        jacobian = _displacement(point)
        count = len(now)
        weighted = (jacobian * share[..., None, None]).reshape(count, -1, 6).transpose(0, 2, 1)
        each = np.arange(count)
        self.matrix[each, each] += weighted @ jacobian.reshape(count, -1, 6)
        self.gradient += (weighted @ (point - origin).reshape(count, -1, 1))[..., 0]
        # A view without points stays.
        empty = each[~valid.any(1)]
        self.matrix[empty, empty] += np.eye(6)

    def add_poses(self, now: Stack, start: Stack, prior: MotionPrior) -> None:
        """Adds how far cameras are from their known poses, over their deviations."""
        for v in range(len(now)):
            pose, before = now.world_from_cam[v], start.world_from_cam[v]
            rotation = pose[:3, :3] @ before[:3, :3].T
            for jacobian, residual, sigma in (
                (_displacement(pose[:3, 3]), pose[:3, 3] - before[:3, 3], prior.position[v]),
                (np.eye(3, 6), vector_from_rotation(rotation), prior.rotation[v]),
            ):
                if np.isfinite(sigma):
                    share = max(sigma, 1e-12) ** -2
                    self.matrix[v, v] += share * jacobian.T @ jacobian
                    self.gradient[v] += share * jacobian.T @ residual


def _displacement(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3, 6) how points (..., 3) move with a view's step."""
    out = np.empty((*points.shape, 6))
    out[..., :3], out[..., 3:] = -skew(points), np.eye(3)
    return out
