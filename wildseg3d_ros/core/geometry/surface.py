"""Local planes of a depth image: normals, roughness, and how far each pixel is off its plane."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_BAND_PIXELS = 160_000


@dataclass(frozen=True, eq=False)
class LocalPlanes:
    """The plane through the neighbourhood of each pixel.

    Attributes:
        normals: (H, W, 3) float32 unit vectors in the camera's frame that point to the camera;
            zero where too few neighbours have depth.
        roughness: (H, W) float32 metres, standard deviation of the neighbourhood's depth about the
            plane; infinite where there is no plane.
        offset: (H, W) float32 metres, the pixel's own depth minus the plane's; 0 where no plane.
        normal_sigma: (H, W) float32 rad, standard deviation of the normal's direction that the
            roughness causes; infinite where there is no plane.
    """

    normals: NDArray[np.float32]
    roughness: NDArray[np.float32]
    offset: NDArray[np.float32]
    normal_sigma: NDArray[np.float32]


def local_planes(
    depth: NDArray[np.float32],
    K: NDArray,
    sigma: NDArray[np.float32],
    radius: int = 4,
) -> LocalPlanes:
    """Fits a plane to the square neighbourhood of each pixel, without blurring over creases.

    The inverse depth of a plane is affine in the pixel coordinates, so the least-squares fit needs
    ten window sums only. Where the centred window does not fit to within the noise (it crosses a
    crease or a depth edge), the best of the eight windows displaced by ``radius`` is taken
    instead: Kuwahara's rule (Kuwahara et al. 1976), which keeps normals constant up to the crease.

    Args:
        depth: (H, W) metres, 0 = none.
        sigma: (H, W) expected standard deviation of the depth, metres.
        radius: half edge of the window [px], of which a third must have depth.
    """
    # Band by band, with all that its windows reach: what is in between takes 50 times the depth.
    height, reach = len(depth), 2 * radius
    edge = max(_BAND_PIXELS // max(depth.shape[1], 1), reach, 1)
    bands = []
    for top in range(0, height, edge):
        first, last = max(top - reach, 0), min(top + edge + reach, height)
        part = _planes_of(depth[first:last], K, sigma[first:last], radius, first)
        own = np.s_[top - first : min(top + edge, height) - first]
        bands.append([image[own] for image in part])
    return LocalPlanes(*(np.concatenate(images) for images in zip(*bands, strict=True)))


def _planes_of(
    depth: NDArray[np.float32],
    K: NDArray,
    sigma: NDArray[np.float32],
    radius: int,
    first_row: int,
) -> tuple[NDArray[np.float32], ...]:
    """What :class:`LocalPlanes` has, of rows of an image; windows end where the rows do."""
    height, width = depth.shape
    valid = depth > 0
    inverse = np.zeros(depth.shape)
    np.divide(1.0, depth, out=inverse, where=valid)
    fits, fill = _window_fits(inverse, valid, radius)
    few = fill < max(6.0, 0.3 * (2 * radius + 1) ** 2)
    fits[..., 3][few] = np.inf

    # Standard deviations carry over as d(1/z) = dz / z^2.
    expected = (sigma * inverse**2) ** 2
    chosen = fits.copy()
    rows, cols = np.nonzero(valid & ~(fits[..., 3] < 2.0 * expected))
    own, flat = inverse[rows, cols], fits.reshape(-1, 4)
    best, fit = np.full(len(rows), np.inf), chosen[rows, cols]
    for dv in (0, -radius, radius):
        for du in (0, -radius, radius):
            r = np.clip(rows + dv, 0, height - 1)
            c = np.clip(cols + du, 0, width - 1)
            other = flat.take(r * width + c, axis=0)
            other[:, 2] -= other[:, 0] * (c - cols) + other[:, 1] * (r - rows)
            score = other[:, 3] + (own - other[:, 2]) ** 2
            better = np.nonzero(score < best)[0]
            best[better], fit[better] = score[better], other[better]
    chosen[rows, cols] = fit

    slope_u, slope_v, here, variance = np.moveaxis(chosen, 2, 0)
    fitted = valid & np.isfinite(variance) & (here > 0)
    # A plane m.X = 1 has inverse depth m.K^-1 (u, v, 1), so m is K^T times the affine
    # coefficients.
    constant = (
        here - slope_u * np.arange(width) - slope_v * (first_row + np.arange(height))[:, None]
    )
    y = K[0, 1] * slope_u + K[1, 1] * slope_v
    z = K[0, 2] * slope_u + K[1, 2] * slope_v + constant
    m = np.stack([K[0, 0] * slope_u, y, z], axis=-1)
    length = np.sqrt(np.einsum("hwi,hwi->hw", m, m))
    fitted &= length > 0
    scale = np.zeros(depth.shape)
    # m.X = 1 > 0 in front of the camera, so -m points back at it.
    np.divide(-1.0, length, out=scale, where=fitted)
    roughness = np.full(depth.shape, np.inf, dtype=np.float32)
    roughness[fitted] = np.sqrt(variance[fitted]) * depth[fitted].astype(np.float64) ** 2
    # Slope of a line fit: sigma over the square root of the sum of squared abscissae, which is
    # (a pixel's size on the surface) * sqrt(n r (r + 1) / 3).
    lever = np.sqrt(np.maximum(fill, 1.0) * radius * (radius + 1) / 3.0)
    normal_sigma = np.full(depth.shape, np.inf, dtype=np.float32)
    focal = float(np.sqrt(K[0, 0] * K[1, 1]))
    normal_sigma[fitted] = roughness[fitted] * focal / (depth[fitted] * lever[fitted])
    offset = np.zeros(depth.shape, dtype=np.float32)
    offset[fitted] = depth[fitted] - 1.0 / here[fitted]
    normals = (m * scale[..., None]).astype(np.float32)
    return normals, roughness, offset, normal_sigma


def _window_fits(
    inverse: NDArray[np.float64], valid: NDArray[np.bool_], radius: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Affine fits of the inverse depth in every window.

    Returns:
        (H, W, 4) slope along u, slope along v, value at the window's centre, residual variance;
        (H, W) number of pixels in each window.
    """
    ones = np.ones(2 * radius + 1)
    ramp = np.arange(-radius, radius + 1, dtype=np.float64)

    def window_sum(image: NDArray, along_u: NDArray, along_v: NDArray) -> NDArray[np.float64]:
        border = cv2.BORDER_CONSTANT
        total = cv2.sepFilter2D(image, cv2.CV_64F, along_u, along_v, borderType=border)
        return np.asarray(total, dtype=np.float64)

    w = valid.astype(np.float64)
    count = window_sum(w, ones, ones)
    n = np.maximum(count, 1.0)
    mean_u, mean_v = window_sum(w, ramp, ones) / n, window_sum(w, ones, ramp) / n
    mean_d = window_sum(inverse, ones, ones) / n
    uu = window_sum(w, ramp**2, ones) / n - mean_u**2
    vv = window_sum(w, ones, ramp**2) / n - mean_v**2
    uv = window_sum(w, ramp, ramp) / n - mean_u * mean_v
    ud = window_sum(inverse, ramp, ones) / n - mean_u * mean_d
    vd = window_sum(inverse, ones, ramp) / n - mean_v * mean_d
    dd = window_sum(inverse * inverse, ones, ones) / n - mean_d**2
    determinant = uu * vv - uv**2
    # Windows whose pixels lie on one line have no slope across it.
    good = determinant > 0.05 * np.maximum(uu, vv) ** 2
    safe = np.where(good, determinant, 1.0)
    slope_u = (vv * ud - uv * vd) / safe
    slope_v = (uu * vd - uv * ud) / safe
    variance = np.maximum(dd - slope_u * ud - slope_v * vd, 0.0) * n / np.maximum(n - 3.0, 1.0)
    variance[~good] = np.inf
    centre = mean_d - slope_u * mean_u - slope_v * mean_v
    return np.stack([slope_u, slope_v, centre, variance], axis=-1), count
