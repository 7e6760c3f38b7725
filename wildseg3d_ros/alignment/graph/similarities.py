"""Batched robust similarities between point sets, in torch."""

from __future__ import annotations

import torch
from torch import Tensor


def fit_similarities(
    x: Tensor, y: Tensor, weight: Tensor, fixed: Tensor, rounds: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """Robust similarities ``y = scale * R x + t`` of many point sets at once.

    Weighted Umeyama (PAMI 1991), then ``rounds - 1`` times again with weights over
    ``max(r, 0.2 mean r)``.

    Args:
        x, y: (B, 3, n) points.
        weight: (B, n) >= 0.
        fixed: (B,) bool, sets whose scale is 1.

    Returns:
        scale (B,), R (B, 3, 3), t (B, 3).
    """
    current = weight
    for turn in range(rounds):
        scale, rotation, translation = _umeyama(x, y, current, fixed)
        if turn + 1 < rounds:
            moved = transform(scale, rotation, translation, x)
            residual = lengths(moved - y)
            mean = (weight * residual).sum(1) / weight.sum(1).clamp_min(1e-300)
            # Exact data leave residuals of rounding size: all points count alike then.
            floor = 0.2 * mean + 1e-9 * y.abs().amax((1, 2)) + 1e-300
            current = weight / torch.maximum(residual, floor[:, None])
    return scale, rotation, translation


def lengths(vectors: Tensor) -> Tensor:
    """(..., n) Euclidean lengths of (..., 3, n); torch's own norm is 20 times slower here."""
    return vectors.square().sum(-2).sqrt_()


def transform(scale: Tensor, rotation: Tensor, translation: Tensor, x: Tensor) -> Tensor:
    """(B, 3, n) points ``scale * R x + t``."""
    return torch.baddbmm(translation[..., None], scale[:, None, None] * rotation, x)


def _umeyama(x: Tensor, y: Tensor, weight: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    share = weight / weight.sum(1, keepdim=True).clamp_min(1e-300)
    mean_x, mean_y = (p @ share[..., None] for p in (x, y))
    centred_x, centred_y = x - mean_x, y - mean_y
    covariance = (share[:, None] * centred_y) @ centred_x.mT
    u, singular, vt = torch.linalg.svd(covariance)
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = (u * sign[:, None]) @ vt
    spread = (share * centred_x.square().sum(1)).sum(1)
    scale = (singular * sign).sum(1) / spread.clamp_min(1e-300)
    scale = torch.where(fixed | ~(scale > 1e-12), torch.ones_like(scale), scale)
    return scale, rotation, (mean_y - scale[:, None, None] * (rotation @ mean_x))[..., 0]


def rotation_from_vectors(vectors: Tensor) -> Tensor:
    """(B, 3, 3) rotations by |vector| rad about the vectors (B, 3)."""
    angle = vectors.norm(dim=-1)[:, None, None]
    zero = torch.zeros_like(vectors[:, 0])
    x, y, z = vectors.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    # torch.sinc is sin(pi x) / (pi x), exact at 0.
    first = torch.sinc(angle / torch.pi)
    second = 0.5 * torch.sinc(angle / (2 * torch.pi)).square()
    eye = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return eye + first * skew + second * (skew @ skew)
