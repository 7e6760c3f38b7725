"""Cameras from the pixels of world points, all views at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.graph import MIN_POINTS
from wildseg3d_ros.alignment.graph.medians import lower_median
from wildseg3d_ros.alignment.graph.similarities import rotation_from_vectors
from wildseg3d_ros.core.geometry.least_squares import gauss_newton


@dataclass(frozen=True, eq=False)
class Sightings:
    """World points of V views and the pixels that they were seen at.

    Attributes:
        world: (V, n, 3); uv: (V, n, 2) pixels; weight: (V, n), 0 = no point.
    """

    world: NDArray[np.float64]
    uv: NDArray[np.float64]
    weight: NDArray[np.float64]


class _Cameras(NamedTuple):
    """(V, 3, 4) cam_from_world, (V, 3, 3) K and (V,) :func:`robust_errors`."""

    pose: NDArray[np.float64]
    K: NDArray[np.float64]
    error: NDArray[np.float64]


def refine_cameras(
    seen: Sightings,
    cam_from_world: NDArray[np.float64],
    K: NDArray[np.float64],
    with_focal: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Newton on reprojection errors, with a Cauchy loss of each view's median error.

    Args:
        seen: what is projected; cam_from_world: (V, 3, 4) to start from; K: (V, 3, 3).
        with_focal: (V,) bool, whether a view's focal length is refined too.

    Returns:
        the best cam_from_world and K that were met on the way: those given, where the points do
        not support a step.
    """

    def linearise(state: tuple[_Cameras, _Cameras]) -> tuple[NDArray, NDArray]:
        error, jacobian, front = _project(seen, state[0].pose, state[0].K)
        norm = np.sqrt(np.square(error).sum(-1))
        medians = [lower_median(n[f], np.nan) for n, f in zip(norm, front, strict=True)]
        # Of the Cauchy loss: the median error of a view [px]; exact points need a least one.
        width = np.maximum(medians, 1e-3)
        robust = seen.weight * front / (1.0 + np.square(norm / width[:, None]))
        jacobian[..., 6] *= with_focal[:, None, None]
        views = len(jacobian)
        rows = jacobian.reshape(views, -1, 7)
        weighted = (jacobian * robust[..., None, None]).reshape(views, -1, 7)
        normal = np.swapaxes(weighted, 1, 2) @ rows
        gradient = (np.swapaxes(weighted, 1, 2) @ error.reshape(views, -1, 1))[..., 0]
        diagonal = np.einsum("vii->vi", normal)
        diagonal += 1e-6 * diagonal + 1e-12 * diagonal.sum(1, keepdims=True) + 1e-300
        still = (front.sum(1) < MIN_POINTS) | ~np.isfinite(normal).all((1, 2))
        still |= ~np.isfinite(gradient).all(1)
        normal[still], gradient[still] = np.eye(7), 0.0
        return normal, gradient

    def retract(state: tuple[_Cameras, _Cameras], step: NDArray) -> tuple[_Cameras, _Cameras]:
        now, best = state
        step = np.where(np.isfinite(step).all(1, keepdims=True), step, 0.0)
        rotation = rotation_from_vectors(step[:, :3])
        pose = rotation @ now.pose
        pose[:, :, 3] += step[:, 3:6]
        # By a factor of 1.65 at most: the linearisation holds no farther.
        focal = now.K[:, 0, 0] * np.exp(np.clip(step[:, 6], -0.5, 0.5))
        intrinsics = now.K.copy()
        intrinsics[:, 0, 0] = focal
        # One focal length for both axes, where it is not given.
        intrinsics[:, 1, 1] = np.where(with_focal, focal, now.K[:, 1, 1])
        now = _Cameras(pose, intrinsics, robust_errors(seen, pose, intrinsics))
        better = now.error < best.error
        kept = [
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(now, best, strict=True)
        ]
        return now, _Cameras(*kept)

    start = _Cameras(cam_from_world, K, robust_errors(seen, cam_from_world, K))
    # Cameras are finished where a step [rad, scene sizes, log focal length] is below 1e-4.
    _, best = gauss_newton((start, start), linearise, retract, passes=8, tolerance=1e-4).state
    return best.pose, best.K


def robust_errors(
    seen: Sightings, cam_from_world: NDArray[np.float64], K: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(V,) weighted means of truncated reprojection errors [px]; points behind count in full."""
    error, _, front = _project(seen, cam_from_world, K)
    # A tenth of the image, so that outliers and points behind do not decide which camera is best.
    limit = 0.1 * (seen.uv.max((1, 2)) + 1.0)[:, None]
    norm = np.where(front, np.minimum(np.sqrt(np.square(error).sum(-1)), limit), limit)
    return (seen.weight * norm).sum(1) / np.maximum(seen.weight.sum(1), 1e-300)


def _project(
    seen: Sightings, cam_from_world: NDArray, K: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Errors (V, n, 2), derivatives (V, n, 2, 7) over (rotation, translation, log f), and whether
    points are in front (V, n)."""
    points = (
        seen.world @ np.swapaxes(cam_from_world[..., :3], 1, 2) + cam_from_world[:, None, :, 3]
    )
    depth = points[..., 2]
    front = depth > 1e-6 * np.abs(points).max((1, 2))[:, None]
    inverse = 1.0 / np.where(front, depth, 1.0)
    x, y = points[..., 0] * inverse, points[..., 1] * inverse
    fx, fy, skew = (K[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 1)))
    pixel = np.stack([fx * x + skew * y + K[:, 0, 2, None], fy * y + K[:, 1, 2, None]], -1)
    one, zero = np.ones_like(x), np.zeros_like(x)
    along_u = np.stack([-x * y, one + x * x, -y, inverse, zero, -x * inverse], -1)
    along_v = np.stack([-one - y * y, x * y, x, zero, inverse, -y * inverse], -1)
    jacobian = np.empty((*x.shape, 2, 7))
    jacobian[..., 0, :6] = fx[..., None] * along_u + skew[..., None] * along_v
    jacobian[..., 1, :6] = fy[..., None] * along_v
    jacobian[..., 0, 6], jacobian[..., 1, 6] = fx * x, fy * y
    return pixel - seen.uv, jacobian, front
