"""Best similarity between two sets of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform


def umeyama(
    source: NDArray, target: NDArray, weights: NDArray | None = None, with_scale: bool = True
) -> tuple[float, NDArray[np.float64]]:
    """Weighted least-squares similarity ``target = scale * R @ source + t``.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991; the sign of the determinant keeps reflections out.

    Args:
        source, target: (M, 3) points.
        weights: (M,) non-negative; None for ones.
        with_scale: False fixes the scale to 1.

    Returns:
        scale and the rigid (4, 4) ``target_from_source`` that is applied after it.

    Raises:
        ValueError: fewer than 3 points with weight, or all of them on one line.
    """
    source, target = (np.asarray(points, dtype=np.float64) for points in (source, target))
    share = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=np.float64)
    if np.count_nonzero(share > 0) < 3:
        raise ValueError(f"expected 3 or more points, got {np.count_nonzero(share > 0)}")
    share = share / share.sum()
    mean_source, mean_target = share @ source, share @ target
    centred_source, centred_target = source - mean_source, target - mean_target
    covariance = (centred_target * share[:, None]).T @ centred_source
    u, singular, vt = np.linalg.svd(covariance)
    if singular[1] < 1e-12 * max(singular[0], 1e-300):
        raise ValueError("points lie on one line: the rotation about it is undetermined")
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    variance = share @ (centred_source**2).sum(axis=1)
    scale = float(singular @ sign / variance) if with_scale else 1.0
    return scale, make_transform(rotation, mean_target - scale * rotation @ mean_source)
