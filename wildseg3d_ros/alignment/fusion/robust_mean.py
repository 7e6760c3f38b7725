"""The robust mean of a pixel's observations: where its point is, from all pairs that see it."""

from __future__ import annotations

import torch
from torch import Tensor

_WIDTHS = (8.0, 4.0, 2.0, 2.0)
"""Widths of the Geman-McClure loss in typical residuals, pass by pass: it starts wide, so that it
does not settle on the wrong side of a depth edge, and ends narrow, so that flying pixels of some
pairs do not draw the point off the surface that the others agree on."""

_PASSES_OF_SPREAD = 4

_KNEE = 1.5
"""Knee of the Huber loss, in median residuals, that the typical residual is found with."""

_LEAST_SPREAD = 1e-6
"""Relative residuals below it are rounding."""

_TINY = 1e-30

_LEAST_UNIT = 1e-12
"""Its square is no zero in float32."""


def weighted_mean(y: Tensor, confidence: Tensor) -> Tensor:
    """(3, m) plain means of the observations; 0 where there is none. Arguments as
    :func:`robust_mean`."""
    return _mean(*_cleaned(y, confidence))


def typical_residual(y: Tensor, confidence: Tensor, ray: Tensor | None) -> float:
    """Median residual of observations about their point, in shares of its distance.

    Args:
        y, confidence, ray: as :func:`robust_mean`; of pixels that stand for a whole view.
    """
    y, weight = _cleaned(y, confidence)
    several = (weight > 0) & ((weight > 0).sum(0) > 1)
    if not bool(several.any()):
        return _LEAST_SPREAD
    robust, spread = weight, 0.0
    for _ in range(_PASSES_OF_SPREAD):
        chi = _mean(y, robust)
        chi = chi if ray is None else (chi * ray).sum(0) * ray
        residual = (y - chi).square_().sum(1).sqrt_() / chi.square().sum(0).sqrt_() + _TINY
        spread = float(residual[several].median())
        robust = weight / residual.clamp_min(max(_KNEE * spread, _TINY))
    return max(spread, _LEAST_SPREAD)


def robust_mean(
    y: Tensor,
    confidence: Tensor,
    ray: Tensor | None,
    spread: float,
    most: float = float("inf"),
) -> tuple[Tensor, Tensor]:
    """Geman-McClure mean of each pixel's observations, weights C, by graduated reweighting.

    Args:
        y: (d, 3, m) observed points, camera at the origin, world axes.
        confidence: (d, m) >= 0; not positive or NaN = no observation.
        ray: (3, m) unit directions to keep the points on, or None. The pixel is where it is: what
            observations say across its ray is error.
        spread: typical residual, in shares of the distance.
        most: confidences above it count as it.

    Returns:
        points (3, m), NaN where no observation has confidence, and their confidence (m,): the mean
        of the observations' confidences with the weights of the last pass, so that an observation
        that the others contradict does not vouch for the point.
    """
    y, weight = _cleaned(y, confidence, most)
    if ray is None:
        chi, robust = _free(y, weight, spread)
    else:
        along, chi_robust = _on_ray(y, weight, ray, spread)
        chi, robust = along * ray, chi_robust
    total = robust.sum(0)
    fused = (robust * weight).sum(0) / total.clamp_min(_TINY)
    empty = total <= 0
    if bool(empty.any()):
        chi, fused = torch.where(empty, torch.nan, chi), torch.where(empty, 0.0, fused)
    return chi, fused


def _cleaned(y: Tensor, confidence: Tensor, most: float = float("inf")) -> tuple[Tensor, Tensor]:
    """Points and weights without anything that is no number or more than ``most``; those given,
    where nothing is."""
    low, high = torch.aminmax(confidence)
    # NaN compares False, and a sum tells of any.
    is_bounded = float(high) <= most and float(high) < torch.inf
    if float(low) >= 0 and is_bounded and bool(torch.isfinite(y.sum())):
        return y, confidence
    valid = (confidence > 0) & (confidence < torch.inf) & y.isfinite().all(1)
    weight = torch.where(valid, confidence, 0.0).clamp_max_(most)
    return torch.where(valid[:, None], y, 0.0), weight


def _mean(y: Tensor, weight: Tensor) -> Tensor:
    """(3, m) weighted mean of (d, 3, m)."""
    return (y * weight[:, None]).sum(0) / weight.sum(0).clamp_min(_TINY)


def _free(y: Tensor, weight: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    chi, robust = _mean(y, weight), weight
    for width in _WIDTHS if len(y) > 1 else ():
        unit = ((width * spread) ** 2 * chi.square().sum(0)).clamp_min_(_TINY)
        far = (y - chi).square_().sum(1).div_(unit)
        robust = weight / far.add_(1.0).square_()
        chi = _mean(y, robust)
    return chi, robust


def _on_ray(y: Tensor, weight: Tensor, ray: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """Lengths (m,) along the ray and the weights (d, m) of the last pass.

    Along the ray the problem has one unknown; how far observations lie beside it is fixed.
    """
    along = torch.mul(y[:, 0], ray[0]).addcmul_(y[:, 1], ray[1]).addcmul_(y[:, 2], ray[2])
    total = weight.sum(0).clamp_min_(_TINY)
    if len(y) == 1:
        return along[0], weight
    first = torch.mul(along, weight).sum(0) / total
    beside = torch.mul(y[:, 0], y[:, 0]).addcmul_(y[:, 1], y[:, 1]).addcmul_(y[:, 2], y[:, 2])
    beside.addcmul_(along, along, value=-1.0).clamp_min_(0.0)
    # In typical residuals from here on: fewer operations a pass.
    unit = (spread * first.abs()).clamp_min_(_LEAST_UNIT)
    along, beside = along.div_(unit), beside.div_(unit * unit)
    chi, robust = first / unit, torch.empty_like(along)
    buffer = torch.empty_like(along)
    for width in _WIDTHS:
        torch.sub(along, chi, out=buffer)
        torch.addcmul(beside, buffer, buffer, out=buffer)
        buffer.mul_(width**-2).add_(1.0).square_()
        torch.div(weight, buffer, out=robust)
        chi = torch.mul(along, robust, out=buffer).sum(0) / robust.sum(0).clamp_min_(_TINY)
    return chi * unit, robust
