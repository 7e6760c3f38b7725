"""Cameras from the pixels of world points, all views at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wildseg3d_ros.alignment.graph.graph import MIN_POINTS
from wildseg3d_ros.alignment.graph.similarities import rotation_from_vectors

_PASSES = 8

_STEP = 1e-4
"""Largest step [rad, scene sizes, log focal length] of finished cameras."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """World points of V views and the pixels that they were seen at.

    Attributes:
        world: (V, n, 3); uv: (V, n, 2) pixels; weight: (V, n), 0 = no point.
    """

    world: Tensor
    uv: Tensor
    weight: Tensor


def refine_cameras(
    seen: Sightings, cam_from_world: Tensor, K: Tensor, with_focal: Tensor
) -> tuple[Tensor, Tensor]:
    """Gauss-Newton on reprojection errors, with a Cauchy loss of each view's median error.

    Args:
        seen: what is projected; cam_from_world: (V, 3, 4) to start from; K: (V, 3, 3).
        with_focal: (V,) bool, whether a view's focal length is refined too.

    Returns:
        the best cam_from_world and K that were met on the way: those given, where the points do
        not support a step.
    """
    best_pose, best_K = cam_from_world, K
    best = robust_errors(seen, cam_from_world, K)
    for _ in range(_PASSES):
        error, jacobian, front = _project(seen, cam_from_world, K)
        norm = error.square().sum(-1).sqrt()
        width = torch.where(front, norm, torch.nan).nanmedian(1).values.clamp_min(1e-3)
        robust = seen.weight * front / (1.0 + (norm / width[:, None]).square())
        jacobian[..., 6] *= with_focal[:, None, None]
        weighted = (jacobian * robust[..., None, None]).flatten(1, 2)
        normal = weighted.mT @ jacobian.flatten(1, 2)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        diagonal += 1e-6 * diagonal + 1e-12 * diagonal.sum(1, keepdim=True) + 1e-300
        gradient = weighted.mT @ error.flatten(1, 2)[..., None]
        xi = -torch.linalg.solve_ex(normal, gradient).result[..., 0]
        supported = (front.sum(1) >= MIN_POINTS) & xi.isfinite().all(1)
        xi = torch.where(supported[:, None], xi, 0.0)
        turn = torch.from_numpy(rotation_from_vectors(xi[:, :3].numpy()))
        cam_from_world = turn @ cam_from_world
        cam_from_world[:, :, 3] += xi[:, 3:6]
        grow = torch.exp(xi[:, 6].clamp(-0.5, 0.5))
        K = K.clone()
        # One focal length for both axes, where it is not given.
        K[:, 0, 0] *= grow
        K[:, 1, 1] = torch.where(with_focal, K[:, 0, 0], K[:, 1, 1])
        now = robust_errors(seen, cam_from_world, K)
        better = now < best
        best = torch.where(better, now, best)
        best_pose = torch.where(better[:, None, None], cam_from_world, best_pose)
        best_K = torch.where(better[:, None, None], K, best_K)
        if float(xi.abs().max()) < _STEP:
            break
    return best_pose, best_K


def robust_errors(seen: Sightings, cam_from_world: Tensor, K: Tensor) -> Tensor:
    """(V,) weighted means of truncated reprojection errors [px]; points behind count in full."""
    error, _, front = _project(seen, cam_from_world, K)
    limit = 0.1 * (seen.uv.amax((1, 2)) + 1.0)[:, None]
    norm = torch.where(front, torch.minimum(error.square().sum(-1).sqrt(), limit), limit)
    return (seen.weight * norm).sum(1) / seen.weight.sum(1).clamp_min(1e-300)


def _project(seen: Sightings, cam_from_world: Tensor, K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Errors (V, n, 2), derivatives (V, n, 2, 7) over (rotation, translation, log f), and whether
    points are in front (V, n)."""
    points = torch.baddbmm(cam_from_world[:, None, :, 3], seen.world, cam_from_world[..., :3].mT)
    depth = points[..., 2]
    front = depth > 1e-6 * points.abs().amax((1, 2))[:, None]
    inverse = 1.0 / torch.where(front, depth, 1.0)
    x, y = points[..., 0] * inverse, points[..., 1] * inverse
    fx, fy, skew = (K[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 1)))
    pixel = torch.stack([fx * x + skew * y + K[:, 0, 2, None], fy * y + K[:, 1, 2, None]], -1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    along_u = torch.stack([-x * y, one + x * x, -y, inverse, zero, -x * inverse], -1)
    along_v = torch.stack([-one - y * y, x * y, x, zero, inverse, -y * inverse], -1)
    jacobian = torch.empty((*x.shape, 2, 7), dtype=x.dtype, device=x.device)
    jacobian[..., 0, :6] = fx[..., None] * along_u + skew[..., None] * along_v
    jacobian[..., 1, :6] = fy[..., None] * along_v
    jacobian[..., 0, 6], jacobian[..., 1, 6] = fx * x, fy * y
    return pixel - seen.uv, jacobian, front
