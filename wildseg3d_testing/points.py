"""Comparison of points whose world may lie anywhere and have any unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import apply


def robust_similarity(
    found: Sequence[NDArray], truth: Sequence[NDArray]
) -> tuple[float, NDArray[np.float64]]:
    """The scale and the (4, 4) rigid motion after it that bring most points to the truth.

    Args:
        found, truth: per view (H, W, 3); not finite = no point.
    """
    points = np.concatenate([p.reshape(-1, 3) for p in found]).astype(np.float64)
    target = np.concatenate([p.reshape(-1, 3) for p in truth])
    use = np.isfinite(points).all(1)
    points, target = points[use], target[use]
    weight = np.ones(len(points))
    scale, rigid = 1.0, np.eye(4)
    for _ in range(8):
        scale, rigid = umeyama(points, target, weight)
        error = np.linalg.norm(apply(rigid, scale * points) - target, axis=1)
        weight = 1.0 / np.maximum(error, 0.2 * np.median(error) + 1e-12)
    return scale, rigid


def errors_after(
    found: NDArray, truth: NDArray, similarity: tuple[float, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """(...) distances of points (..., 3) from the truth after a similarity."""
    scale, rigid = similarity
    return np.linalg.norm(apply(rigid, scale * found.astype(np.float64)) - truth, axis=-1)
