"""Focal lengths by pointmaps, and which given intrinsics they contradict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.least_squares import reweighted
from wildseg3d_ros.core.types import View

_WRONG_FOCAL = 1.08
"""Factor between a given focal length and the pointmaps' beyond which the given one is not
believed: pointmap networks are right within a few percent."""


def focal_from_pointmaps(
    points: NDArray, weight: NDArray, uv: NDArray, centre: NDArray
) -> float | None:
    """Focal length in pixels by a robust (Weiszfeld) fit of ``uv - centre = f (x, y) / z``.

    Args:
        points: (K, n, 3) in the camera's frame; weight: (K, n); uv: (n, 2); centre: (2,).

    Returns:
        None when no point lies in front of the camera and off its axis.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = points[..., :2] / points[..., 2:]
    use = (weight > 0) & (points[..., 2] > 0) & np.isfinite(direction).all(-1)
    offset = np.broadcast_to(uv - centre, direction.shape)[use]
    direction, weight = direction[use], weight[use]
    if len(direction) < 3 or np.abs(direction).max() < 1e-9:
        return None
    ratio = np.einsum("ik,ik->i", offset, direction), np.einsum("ik,ik->i", direction, direction)

    def fit(weights: NDArray) -> tuple[float, NDArray]:
        focal = float(weights @ ratio[0] / max(weights @ ratio[1], 1e-300))
        return focal, np.linalg.norm(offset - focal * direction, axis=1)

    def reweigh(residual: NDArray) -> NDArray:
        # Weights of an L1 fit, bounded at a tenth of the median residual.
        return weight / np.maximum(residual, 1e-3 + 0.1 * np.median(residual))

    focal, _ = reweighted(fit, reweigh, weight, passes=10)
    return focal if np.isfinite(focal) and focal > 0 else None


def contradicting_intrinsics(
    K: NDArray[np.float64],
    view: View,
    points: NDArray,
    weight: NDArray,
    uv: NDArray,
) -> NDArray[np.float64] | None:
    """Intrinsics (3, 3) that the pointmaps say where the given focal length contradicts them; None
    where it does not, or they say none.

    Args:
        points, weight, uv: as of :func:`focal_from_pointmaps`.
    """
    square = uv.copy()
    square[:, 1] = K[1, 2] + (uv[:, 1] - K[1, 2]) * K[0, 0] / K[1, 1]
    focal = focal_from_pointmaps(points, weight, square, K[:2, 2])
    if focal is not None and abs(np.log(focal / K[0, 0])) <= np.log(_WRONG_FOCAL):
        return None
    off = np.abs(K[:2, 2] - image_centre(view)) / np.array(view.size[::-1])
    # Farther from the middle than 0.15 of the size, they are of an image of another size.
    if focal is not None and off.max() <= 0.15:
        scaled = np.array(K, dtype=np.float64)
        scaled[:2, :2] *= focal / K[0, 0]
        return scaled
    focal = focal_from_pointmaps(points, weight, uv, image_centre(view))
    return None if focal is None else intrinsics_of(focal, view)


def contradicted_text(view: View, K: NDArray, said: NDArray, trusted: bool) -> str:
    """The warning that pointmaps say other intrinsics than ``K``, and which are used."""
    text = (
        f"the given focal length of '{view.name}', {K[0, 0]:.4g} px, contradicts its pointmaps, "
        f"which say {said[0, 0]:.4g} px; "
    )
    if trusted:
        return text + "the given one is kept (alignment.trust_intrinsics)"
    point = "the given principal point is kept"
    if (said[:2, 2] != K[:2, 2]).any():
        point = (
            f"the principal point ({K[0, 2]:.4g}, {K[1, 2]:.4g}), which is not that of such an "
            "image, becomes its middle"
        )
    return text + (
        f"theirs is used, and {point}. Check its calibration, and that it is of images of this "
        "size; set alignment.trust_intrinsics where it is right"
    )


def image_centre(view: View) -> NDArray[np.float64]:
    """(2,) middle of an image, pixels."""
    height, width = view.size
    return np.array([(width - 1) / 2.0, (height - 1) / 2.0])


def unusual_lenses(views: Sequence[View], intrinsics: NDArray) -> list[str]:
    """A warning for each focal length that was found and that hardly a lens has."""
    out = []
    for view, K in zip(views, intrinsics, strict=True):
        width = max(view.size)
        degrees = float(np.degrees(2.0 * np.arctan(width / (2.0 * K[0, 0]))))
        # What looks like a rarer lens is more often a focal length that the points do not tell.
        if view.K is None and not 10.0 <= degrees <= 120.0:
            out.append(
                f"the focal length found for camera '{view.name}', {K[0, 0]:.0f} px, means a "
                f"field of view of {degrees:.0f} degrees along {width} px, which few lenses have; "
                "give its intrinsics, and mistrust the shape of the scene until then"
            )
    return out


def intrinsics_of(focal: float, view: View) -> NDArray[np.float64]:
    """(3, 3) of a focal length [px], the principal point in the middle."""
    u, v = image_centre(view)
    return np.array([[focal, 0.0, u], [0.0, focal, v], [0.0, 0.0, 1.0]])
