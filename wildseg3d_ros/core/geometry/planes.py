"""Least-squares planes through points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fit_planes(
    points: NDArray, weights: NDArray | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Planes through sets of k points each, by the smallest principal axis.

    Args:
        points: (..., k, 3).
        weights: (..., k) >= 0; None for ones.

    Returns:
        (..., 3) unit normals of either sign, (..., 3) centroids, and (...) mean squared distances
        of the points to their plane.
    """
    points = points.astype(np.float64, copy=False)
    weights = np.ones(points.shape[:-1]) if weights is None else weights
    total = np.maximum(weights.sum(axis=-1), 1e-12)[..., None]
    centre = np.einsum("...k,...ki->...i", weights, points) / total
    offset = points - centre[..., None, :]
    scatter = np.swapaxes(offset * weights[..., None], -1, -2) @ offset
    values, axes = np.linalg.eigh(scatter)
    return axes[..., 0], centre, np.maximum(values[..., 0], 0.0) / total[..., 0]
