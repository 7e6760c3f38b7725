"""The robust mean of a pixel's observations: where its point is, from all pairs that see it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.medians import lower_median
from wildseg3d_ros.core.arrays import Array, namespace

_WIDTHS = (8.0, 4.0, 2.0, 2.0)
"""Widths of the Geman-McClure loss in typical residuals, pass by pass: it starts wide, so that it
does not end on the wrong side of a depth edge, and ends narrow, so that flying pixels of some
pairs do not draw the point off the surface that the others agree on."""

_MIN_SIGMA = 1e-6
"""Relative residuals below it are rounding."""

_TINY = 1e-30
"""Divisors are no zero."""


def typical_residual(
    y: NDArray[np.float32], confidence: NDArray[np.float32], ray: NDArray[np.float32] | None
) -> float:
    """Median residual of observations about their point, in shares of its distance.

    The point is the mean with a Huber loss, whose knee is at 1.5 median residuals.

    Args:
        y, confidence, ray: as :func:`robust_mean`; of pixels that stand for a whole view.
    """
    y, weight = cleaned(y, confidence)
    several = (weight > 0) & (np.count_nonzero(weight > 0, axis=0) > 1)
    robust, sigma = weight, 0.0
    for _ in range(4 if several.any() else 0):
        chi = mean(y, robust)
        chi = chi if ray is None else (chi * ray).sum(0) * ray
        with np.errstate(invalid="ignore", divide="ignore"):
            residual = np.sqrt(np.square(y - chi).sum(1)) / np.sqrt(np.square(chi).sum(0)) + _TINY
        sigma = lower_median(residual[several], 0.0)
        robust = weight / np.maximum(residual, max(1.5 * sigma, _TINY))
    return max(sigma, _MIN_SIGMA)


def robust_mean(
    y: Array,
    confidence: Array,
    ray: Array | None,
    sigma: float,
    max_confidence: float = float("inf"),
) -> tuple[Array, Array]:
    """Geman-McClure mean of each pixel's observations, weights C, by graduated reweighting.

    Args:
        y: (d, 3, m) observed points, camera at the origin, world axes.
        confidence: (d, m) >= 0; not positive or NaN = no observation.
        ray: (3, m) unit directions to keep the points on, or None. The pixel is where it is: what
            observations say across its ray is error.
        sigma: typical residual, in shares of the distance.
        max_confidence: larger ones count as it.

    Returns:
        points (3, m), NaN where no observation has confidence, and their confidence (m,): the mean
        of the observations' confidences with the weights of the last pass, so that an observation
        that the others contradict does not vouch for the point.
    """
    xp = namespace(y)
    y, weight = cleaned(y, confidence, max_confidence)
    if ray is None:
        chi, robust = _free(y, weight, sigma)
    else:
        along, robust = _on_ray(y, weight, ray, sigma)
        chi = along * ray
    total = xp.sum(robust, axis=0)
    fused = xp.sum(robust * weight, axis=0) / xp.maximum(total, _TINY)
    empty = total <= 0
    if bool(xp.any(empty)):
        chi, fused = xp.where(empty, xp.nan, chi), xp.where(empty, 0.0, fused)
    return chi, fused


def cleaned(
    y: Array, confidence: Array, max_confidence: float = float("inf")
) -> tuple[Array, Array]:
    """Points and weights without anything that is no number, weights at most ``max_confidence``;
    the arguments themselves where nothing has to change."""
    xp = namespace(y)
    low, high = float(xp.min(confidence)), float(xp.max(confidence))
    # NaN compares False, and a sum tells of any.
    is_bounded = high <= max_confidence and high < xp.inf
    if low >= 0 and is_bounded and bool(xp.isfinite(xp.sum(y))):
        return y, confidence
    valid = (confidence > 0) & (confidence < xp.inf) & xp.all(xp.isfinite(y), axis=1)
    weight = xp.minimum(xp.where(valid, confidence, 0.0), max_confidence)
    return xp.where(valid[:, None, :], y, 0.0), weight


def mean(y: Array, weight: Array) -> Array:
    """(3, m) weighted mean of (d, 3, m); 0 where there is no weight."""
    xp = namespace(y)
    total = xp.maximum(xp.sum(weight, axis=0), _TINY)
    return xp.sum(y * weight[:, None, :], axis=0) / total


def _free(y: Array, weight: Array, sigma: float) -> tuple[Array, Array]:
    xp = namespace(y)
    chi, robust = mean(y, weight), weight
    for width in _WIDTHS if y.shape[0] > 1 else ():
        unit = xp.maximum((width * sigma) ** 2 * xp.sum(chi * chi, axis=0), _TINY)
        offset = y - chi
        offset *= offset
        scaled = xp.sum(offset, axis=1)
        scaled /= unit
        scaled += 1.0
        scaled *= scaled
        robust = weight / scaled
        chi = mean(y, robust)
    return chi, robust


def _on_ray(y: Array, weight: Array, ray: Array, sigma: float) -> tuple[Array, Array]:
    """Lengths (m,) along the ray and the weights (d, m) of the last pass.

    Along the ray the problem has one unknown; how far observations lie beside it is fixed.
    """
    xp = namespace(y)
    along, beside = y[:, 0, :] * ray[0, :], y[:, 0, :] * y[:, 0, :]
    for axis in (1, 2):
        along += y[:, axis, :] * ray[axis, :]
        beside += y[:, axis, :] * y[:, axis, :]
    if y.shape[0] == 1:
        return along[0, :], weight
    beside -= along * along
    first = xp.sum(along * weight, axis=0) / xp.maximum(xp.sum(weight, axis=0), _TINY)
    # In typical residuals from here on: fewer operations a pass.
    # The square of 1e-12 is no zero in float32.
    unit = xp.maximum(sigma * xp.abs(first), 1e-12)
    along /= unit
    beside /= unit * unit
    beside = xp.maximum(beside, 0.0)
    chi, robust = first / unit, weight
    for width in _WIDTHS:
        # The loss's factor width**4 is the same for all of a pixel's observations.
        square = along - chi
        square *= square
        square += beside
        square += width**2
        square *= square
        robust = weight / square
        chi = xp.sum(along * robust, axis=0) / xp.maximum(xp.sum(robust, axis=0), _TINY)
    return chi * unit, robust
