"""Robust similarities between many point sets at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fit_similarities(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weight: NDArray[np.float64],
    fixed: NDArray[np.bool_],
    rounds: int = 3,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
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
    for k in range(rounds):
        scale, rotation, translation = _umeyama(x, y, current, fixed)
        if k + 1 < rounds:
            moved = transform(scale, rotation, translation, x)
            residual = lengths(np.subtract(moved, y, out=moved))
            mean = (weight * residual).sum(1) / np.maximum(weight.sum(1), 1e-300)
            # Weights of an L1 fit, bounded at a fifth of the mean residual. Exact data leave
            # residuals of rounding size: all points count alike then.
            floor = 0.2 * mean + 1e-9 * np.abs(y).max((1, 2), initial=0.0) + 1e-300
            current = weight / np.maximum(residual, floor[:, None], out=residual)
    return scale, rotation, translation


def lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n) Euclidean lengths of (..., 3, n)."""
    square = np.einsum("...kn,...kn->...n", vectors, vectors)
    return np.sqrt(square, out=square)


def transform(
    scale: NDArray[np.float64],
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(B, 3, n) points ``scale * R x + t``."""
    y = (scale[:, None, None] * rotation) @ x
    y += translation[..., None]
    return y


def _umeyama(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weight: NDArray[np.float64],
    fixed: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    share = weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)
    mean_x, mean_y = (p @ share[..., None] for p in (x, y))
    centred_x, centred_y = x - mean_x, y - mean_y
    variance = np.einsum("bn,bkn,bkn->b", share, centred_x, centred_x)
    centred_y *= share[:, None]
    u, singular, vt = np.linalg.svd(centred_y @ centred_x.swapaxes(1, 2))
    sign = np.ones_like(singular)
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (singular * sign).sum(1) / np.maximum(variance, 1e-300)
    scale = np.where(fixed | ~(scale > 1e-12), 1.0, scale)
    return scale, rotation, (mean_y - scale[:, None, None] * (rotation @ mean_x))[..., 0]


def rotation_from_vectors(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, 3, 3) rotations by |vector| rad about the vectors (B, 3)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    cross = skew(vectors)
    # NumPy's sinc is sin(pi x) / (pi x), exact at 0.
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + first * cross + second * (cross @ cross)


def skew(vectors: NDArray) -> NDArray:
    """(..., 3, 3) matrices that take a vector to the cross product of (..., 3) with it."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return rows.reshape(*vectors.shape, 3)
