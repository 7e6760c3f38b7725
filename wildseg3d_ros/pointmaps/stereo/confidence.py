"""The standard deviation of a disparity, and where it has no support of its own.

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

WINDOW = 9
"""Edge of the window in which the two images are compared at the found disparity [px]."""


def disparity_sigma(
    mine: NDArray[np.float32],
    other: NDArray[np.float32],
    sign: float,
    image: NDArray[np.uint8],
    other_image: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """(H, W) expected standard deviation [px]; infinite where the disparity is not to be used.

    The sum of: what the matcher's steps of 1/16 px, its pull to whole pixels, and the refined
    poses make; half of what the two directions differ by; the bound of Cramer and Rao for a shift,
    which is what the images differ by at the found disparity over the root of the summed squared
    gradients, noise taken out; and the shift between the images that their gradients still show
    (Lucas and Kanade, IJCAI 1981), because errors that noise does not explain do not average out
    in a window.

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
    second = np.asarray(cv2.remap(grey, there, v, cv2.INTER_LINEAR), np.float32)
    correlation, blur, shift = _comparison(first, second, np.isfinite(mine))
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(back) - mine)
        # 0.25 px of steps, pull and poses, and half of what the directions differ by.
        sigma = np.sqrt(0.25**2 + 0.25 * apart**2 + blur**2 + shift**2)
        good = (apart <= CONSISTENT) & (np.abs(shift) <= CONSISTENT) & np.isfinite(blur)
        # Where a surface is plainer than the camera's noise, the matcher continues its neighbours'
        # disparities, and the images do not correlate. What is beyond the range lies at its end.
        good &= (correlation >= 0.75) & (mine >= CONSISTENT)
    good = supported(good, mine, image)
    return np.where(good, sigma, np.float32(np.inf)).astype(np.float32)


def _comparison(
    first: NDArray[np.float32], second: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Two images of the same surface in windows about each pixel, of which the valid ones count.

    Returns:
        (H, W) each: correlation; standard deviation of a shift by noise [px], infinite where noise
        explains all gradients; and the shift that remains [px].
    """
    mask = valid.astype(np.float32)

    def window_sum(values: NDArray) -> NDArray[np.float32]:
        size = (WINDOW, WINDOW)
        total = cv2.boxFilter(values * mask, cv2.CV_32F, size, normalize=False)
        return np.asarray(total, np.float32)

    count = np.maximum(window_sum(np.ones_like(mask)), np.float32(1.0))

    def covariance(x: NDArray, y: NDArray) -> NDArray[np.float32]:
        products = window_sum(x * y) - window_sum(x) * window_sum(y) / count
        return np.asarray(products / count, np.float32)

    # The variance of the images' difference that rounding to grey levels leaves.
    rounding = np.float32(0.5)
    variance_1, variance_2 = (np.maximum(covariance(i, i), 0.0) for i in (first, second))
    shared = covariance(first, second)
    correlation = shared / np.sqrt(
        np.maximum(variance_1, rounding / 2) * np.maximum(variance_2, rounding / 2)
    )
    residual = np.maximum(variance_1 + variance_2 - 2.0 * shared, rounding)
    # Each image has half of the noise that they differ by, and Sobel's gradient of white noise
    # has the sum of its squared weights, 12 / 64, as variance.
    signal = window_sum(_gradient(first) ** 2) - count * (12.0 / 64.0) * 0.5 * residual
    blur = np.where(signal > 0, np.sqrt(residual / np.maximum(signal, 1e-6)), np.float32(np.inf))
    slope = _gradient(0.5 * (first + second))
    shift = covariance(slope, first - second) / np.maximum(covariance(slope, slope), 1e-6)
    return correlation, blur, shift


def supported(
    good: NDArray[np.bool_], disparity: NDArray[np.float32], image: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Which of the ``good`` (H, W) pixels lie in texture, or between such pixels of one surface.

    Beyond the last texture of a surface a disparity is not interpolated but continued, into the
    background as well. So pixels whose window has all its texture on one side are removed, unless
    others of about their disparity enclose them. The outermost pixel of what remains is removed,
    too: it mixes the light of two surfaces.

    Args:
        disparity: (H, W) px. image: (H, W) grey, rectified.
    """
    radius = WINDOW // 2
    steps, ones = np.arange(-radius, radius + 1, dtype=np.float32), np.ones(WINDOW, np.float32)
    strength = _gradient(image.astype(np.float32)) ** 2

    def moment(along: NDArray, down: NDArray) -> NDArray[np.float32]:
        return np.asarray(cv2.sepFilter2D(strength, cv2.CV_32F, along, down), np.float32)

    aside = np.hypot(moment(steps, ones), moment(ones, steps))
    # In the mean the texture may lie half as far aside as that of an edge along the window's rim.
    within = good & (aside < 0.5 * radius * moment(ones, ones))
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (WINDOW, WINDOW))
    closed = cv2.morphologyEx(within.astype(np.uint8), cv2.MORPH_CLOSE, around)
    high = cv2.dilate(np.where(within, disparity, np.float32(-1e6)), around)
    low = cv2.erode(np.where(within, disparity, np.float32(1e6)), around)
    # A surface seen aslant has a disparity per pixel around a gap, an edge between foreground and
    # background more.
    enclosed = (np.asarray(closed) > 0) & (within | (high - low < WINDOW + 1))
    inner = cv2.erode(enclosed.astype(np.uint8), np.ones((3, 3), np.uint8))
    return good & (np.asarray(inner) > 0)


def _gradient(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) along the rows, grey levels per pixel."""
    return np.asarray(cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=3, scale=1.0 / 8.0), np.float32)
