"""One RGB-D view prepared once for all registrations that it takes part in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.surface import LocalPlanes

LEVELS = 2
"""Image scales of the colour term: full and half resolution."""

FLAT = 8.0
"""Grey levels of local contrast below which a region counts as flat."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Geometry and image of one view, in its camera's frame, and the points it registers with.

    Attributes:
        K: (3, 3) intrinsics.
        points: (H, W, 3) float32 metres.
        normals: (H, W, 3) float32 unit vectors to the camera; zero where unknown.
        sigma: (H, W) float32 standard deviation of the depth [m]; infinite where there is no
            point.
        texture: per level (H / 2^l, W / 2^l, 3) float32: locally normalised brightness and its
            derivatives along u and v, per full-resolution pixel.
        texture_noise: per level, standard deviation that the image's noise gives the derivatives
            of the texture in regions without contrast.
        gray: (H, W) uint8 brightness.
        sample_points: (M, 3) float64, points to register, in random order.
        sample_normals: (M, 3) float64.
        sample_normal_sigma: (M,) float64 rad, uncertainty of the normals' directions.
        sample_sigma: (M,) float64 metres.
        sample_brightness: per level (M,) float32.
    """

    K: NDArray[np.float64]
    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    sigma: NDArray[np.float32]
    texture: tuple[NDArray[np.float32], ...]
    texture_noise: tuple[float, ...]
    gray: NDArray[np.uint8]
    sample_points: NDArray[np.float64]
    sample_normals: NDArray[np.float64]
    sample_normal_sigma: NDArray[np.float64]
    sample_sigma: NDArray[np.float64]
    sample_brightness: tuple[NDArray[np.float32], ...]

    @classmethod
    def create(
        cls,
        image: NDArray[np.uint8],
        K: NDArray,
        points: NDArray[np.float32],
        planes: LocalPlanes,
        sigma: NDArray[np.float32],
        samples: int = 3000,
    ) -> Frame:
        """Prepares a view; what is not said here is as in the attributes.

        Args:
            image: (H, W, 3) uint8 RGB.
            planes: local planes of the depth.
            samples: upper bound of points that take part in a registration.
        """
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        texture = _texture_pyramid(gray)
        normals = planes.normals
        usable = np.isfinite(sigma) & (normals[..., 2] != 0)
        index = _draw_samples(usable, normals, sigma, texture[0], samples)
        rows, cols = np.divmod(index, gray.shape[1])
        return cls(
            np.asarray(K, dtype=np.float64),
            points,
            normals,
            sigma,
            texture,
            _texture_noise(gray),
            gray,
            points[rows, cols].astype(np.float64),
            normals[rows, cols].astype(np.float64),
            planes.normal_sigma[rows, cols].astype(np.float64),
            sigma[rows, cols].astype(np.float64),
            tuple(
                sample_texture(level, np.stack([cols, rows], axis=-1), 2**i)[:, 0]
                for i, level in enumerate(texture)
            ),
        )


def sample_texture(texture: NDArray[np.float32], uv: NDArray, step: int) -> NDArray[np.float32]:
    """(M, 3) brightness and derivatives at full-resolution pixels ``uv``, bilinear.

    Args:
        texture: one level of a frame's pyramid.
        uv: (M, 2) pixels, inside the image.
        step: full-resolution pixels per pixel of the level.
    """
    if len(uv) == 0:
        return np.zeros((0, texture.shape[2]), dtype=np.float32)
    # Pixel centres of a half-resolution image lie between those of the full one.
    at = (np.asarray(uv, dtype=np.float32) + 0.5) / np.float32(step) - 0.5
    u, v = np.ascontiguousarray(at.T)
    found = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, dtype=np.float32).reshape(-1, texture.shape[2])


def _texture_pyramid(gray: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
    """Brightness with its local mean and contrast taken out, so that exposure and shading, which
    differ between cameras, do not matter; noise in flat regions is not blown up to texture."""
    levels = []
    image = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.0)
    # Of exposure and shading: 10 pixels of 640.
    neighbourhood = max(gray.shape) / 64.0
    for level in range(LEVELS):
        step = 2**level
        mean = cv2.GaussianBlur(image, (0, 0), neighbourhood / step)
        centred = image - mean
        contrast = cv2.GaussianBlur(centred * centred, (0, 0), neighbourhood / step)
        normalised = centred / np.sqrt(contrast + FLAT**2)
        du = cv2.Scharr(normalised, cv2.CV_32F, 1, 0, scale=1.0 / (32.0 * step))
        dv = cv2.Scharr(normalised, cv2.CV_32F, 0, 1, scale=1.0 / (32.0 * step))
        levels.append(np.stack([normalised, du, dv], axis=-1))
        if level + 1 < LEVELS:
            smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
            half = (max(gray.shape[1] // (2 * step), 1), max(gray.shape[0] // (2 * step), 1))
            image = cv2.resize(smooth, half, interpolation=cv2.INTER_AREA)
    return tuple(levels)


def _texture_noise(gray: NDArray[np.uint8]) -> tuple[float, ...]:
    """Noise of the derivatives of :func:`_texture_pyramid` per level, where FLAT is the divisor.

    The image's noise is that of Immerkaer, "Fast noise variance estimation", CVIU 1996. White
    noise through the derivative of a Gaussian of width s keeps 1 / (sqrt(8 pi) s^2) of its
    deviation.
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    response = np.abs(cv2.filter2D(gray.astype(np.float32), cv2.CV_32F, mask))
    # The median instead of Immerkaer's mean: structure is the outlier here.
    noise = float(np.median(response)) * 1.4826 / 6.0
    widths_squared = (1.0, 3.0)
    return tuple(noise / (np.sqrt(8.0 * np.pi) * w * FLAT) for w in widths_squared[:LEVELS])


def _draw_samples(
    usable: NDArray[np.bool_],
    normals: NDArray[np.float32],
    sigma: NDArray[np.float32],
    texture: NDArray[np.float32],
    count: int,
) -> NDArray[np.int64]:
    """Flat indices of the pixels that constrain a pose best, in random but repeatable order.

    A third is drawn evenly over the image, a third evenly over normal directions (normal-space
    sampling, Rusinkiewicz and Levoy, "Efficient variants of the ICP algorithm", 3DIM 2001), so
    that a small ledge can fix what a large wall lets slide, and a third by texture.
    """
    index = np.flatnonzero(usable)
    if len(index) == 0:
        return index
    direction = normals.reshape(-1, 3)[index]
    bins = ((direction + 1.0) * 2.5).astype(np.int64).clip(0, 4) @ np.array([1, 5, 25])
    population = np.bincount(bins, minlength=125)
    slope = np.abs(texture[..., 1:]).sum(axis=-1).reshape(-1)[index]
    chance = 1.0 / len(index) + 1.0 / (population[bins] * np.count_nonzero(population))
    chance += slope / max(float(slope.sum()), 1e-12)
    # Imprecise points say little.
    precision = 1.0 / sigma.reshape(-1)[index]
    chance *= np.minimum(precision / np.median(precision), 1.0)
    keys = np.random.default_rng(0).exponential(size=len(index)) / chance
    chosen = np.argsort(keys)[:count] if len(index) > count else np.arange(len(index))
    return np.random.default_rng(1).permutation(index[chosen])
