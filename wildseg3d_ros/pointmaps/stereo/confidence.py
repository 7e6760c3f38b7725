"""How sure a disparity is, and where it has no support of its own.

Two directions that agree and images that correlate do not prove a disparity: where a plain
background lies beside an object, a matcher continues the object's depth beyond its outline, in
both directions alike, and a window there still holds the outline, which matches perfectly. So a
pixel also needs texture on all sides, or such pixels of its own surface around it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

CONSISTENT = 1.0
"""Largest difference [px] between the disparities of a point in the two directions, and largest
shift that the images still show between them at the found disparity."""

DISPARITY_SIGMA = 0.25
"""Least standard deviation of a disparity [px]: the matcher's steps of 1/16 px, its pull to whole
pixels, and what the poses are off after their refinement."""

WINDOW = 9
"""Edge of the window in which the two images are compared at the found disparity [px]."""

LEAST_CORRELATION = 0.75
"""Correlation of the two images in that window below which they do not show the same: where a
surface is plainer than the camera's noise, the matcher continues its neighbours' disparities."""

LEAST_RESIDUAL = 0.5
"""Least variance of the images' difference: what rounding to grey levels leaves."""

ONE_SIDED = 2.0
"""Distance [px] of a window's texture, in the mean, from its middle, beyond which the middle is
beside the texture and not in it: half of what a window with an edge along its rim has."""

ONE_SURFACE = 10.0
"""Largest range [px] of the disparities around a gap that is closed: a surface seen aslant has a
pixel per pixel, and an edge at which foreground and background meet has more."""

_GRADIENT_NOISE = 0.1875
"""Variance of the horizontal gradient (Sobel's, per pixel) of white noise of variance 1."""


def disparity_sigma(
    mine: NDArray[np.float32],
    other: NDArray[np.float32],
    sign: float,
    image: NDArray[np.uint8],
    other_image: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """(H, W) expected standard deviation [px]; infinite where the disparity is not to be used.

    The sum of: :data:`DISPARITY_SIGMA`; half of what the two directions differ by; the bound of
    Cramer and Rao for a shift, which is what the images differ by at the found disparity over the
    root of the summed squared gradients, noise taken out; and the shift between the images that
    their gradients still show (Lucas and Kanade, IJCAI 1981), because errors that noise does not
    explain do not average out in a window.

    Args:
        mine, other: (H, W) disparity of this image and of the other one [px], NaN where none.
        sign: of the way from a column of this image to that of the other one.
        image, other_image: (H, W) grey, rectified.
    """
    height, width = mine.shape
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    there = u + sign * np.nan_to_num(mine)
    back = cv2.remap(
        other, there, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(np.nan,)
    )
    # About their middle, so that single precision holds the windows' variances.
    first, grey = (i.astype(np.float32) - np.float32(128.0) for i in (image, other_image))
    second = np.asarray(cv2.remap(grey, there, v, cv2.INTER_LINEAR))
    valid = np.isfinite(mine).astype(np.float32)

    def window_sum(values: NDArray) -> NDArray[np.float32]:
        size = (WINDOW, WINDOW)
        total = cv2.boxFilter(values * valid, cv2.CV_32F, size, normalize=False)
        return np.asarray(total, np.float32)

    count = np.maximum(window_sum(np.ones_like(valid)), np.float32(1.0))

    def covariance(x: NDArray, y: NDArray) -> NDArray[np.float32]:
        products = window_sum(x * y) - window_sum(x) * window_sum(y) / count
        return np.asarray(products / count, np.float32)

    variance_1, variance_2 = (np.maximum(covariance(i, i), 0.0) for i in (first, second))
    shared = covariance(first, second)
    least = np.float32(0.5 * LEAST_RESIDUAL)
    correlation = shared / np.sqrt(np.maximum(variance_1, least) * np.maximum(variance_2, least))
    residual = np.maximum(variance_1 + variance_2 - 2.0 * shared, LEAST_RESIDUAL)
    gradient = _gradient(first)
    # Each image has half of the noise that they differ by.
    signal = window_sum(gradient**2) - count * _GRADIENT_NOISE * 0.5 * residual
    blur = np.sqrt(residual / np.maximum(signal, 1e-6))
    slope = _gradient(0.5 * (first + second))
    shift = covariance(slope, first - second) / np.maximum(covariance(slope, slope), 1e-6)
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(back) - mine)
        sigma = np.sqrt(DISPARITY_SIGMA**2 + 0.25 * apart**2 + blur**2 + shift**2)
        good = (apart <= CONSISTENT) & (np.abs(shift) <= CONSISTENT) & (signal > 0)
        # At the end of the range lies what is beyond it.
        good &= (correlation >= LEAST_CORRELATION) & (mine >= CONSISTENT)
    good = supported(good, mine, image)
    return np.where(good, sigma, np.float32(np.inf)).astype(np.float32)


def supported(
    good: NDArray[np.bool_], disparity: NDArray[np.float32], image: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Which of the ``good`` (H, W) pixels lie in texture, or between such pixels of one surface.

    Beyond the last texture of a surface a disparity is not interpolated but continued, into the
    background as well: pixels whose window has all its texture on one side go, unless others of
    about their disparity enclose them, and so does the outermost pixel of what remains, which
    mixes the light of two surfaces.

    Args:
        disparity: (H, W) px. image: (H, W) grey, rectified.
    """
    reach = WINDOW // 2
    steps, ones = np.arange(-reach, reach + 1, dtype=np.float32), np.ones(WINDOW, np.float32)
    strength = _gradient(image.astype(np.float32)) ** 2

    def moment(along: NDArray, down: NDArray) -> NDArray[np.float32]:
        return np.asarray(cv2.sepFilter2D(strength, cv2.CV_32F, along, down), np.float32)

    aside = np.hypot(moment(steps, ones), moment(ones, steps))
    within = good & (aside < ONE_SIDED * moment(ones, ones))
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (WINDOW, WINDOW))
    closed = cv2.morphologyEx(within.astype(np.uint8), cv2.MORPH_CLOSE, around)
    most = cv2.dilate(np.where(within, disparity, np.float32(-1e6)), around)
    least = cv2.erode(np.where(within, disparity, np.float32(1e6)), around)
    enclosed = (np.asarray(closed) > 0) & (within | (most - least < ONE_SURFACE))
    inner = cv2.erode(enclosed.astype(np.uint8), np.ones((3, 3), np.uint8))
    return good & (np.asarray(inner) > 0)


def _gradient(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) along the rows, grey levels per pixel."""
    return np.asarray(cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=3, scale=1.0 / 8.0), np.float32)
