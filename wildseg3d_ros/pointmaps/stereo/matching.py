"""Dense depth of a rectified pair by semi-global matching in both directions.

H. Hirschmueller, "Stereo processing by semiglobal matching and mutual information", PAMI 2008, as
OpenCV implements it (with Birchfield and Tomasi's cost).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA, edge_quality
from wildseg3d_ros.pointmaps.refined_poses import MIN_FEATURES
from wildseg3d_ros.pointmaps.stereo.confidence import disparity_sigma
from wildseg3d_ros.pointmaps.stereo.rectification import Rectified


def brightness_ratio(
    image_a: NDArray[np.uint8],
    image_b: NDArray[np.uint8],
    uv_a: NDArray[np.float64],
    uv_b: NDArray[np.float64],
) -> float:
    """How many times brighter image b (H, W, 3) shows the same points (M, 2 pixels) as image a
    does, in the median: cameras expose each for themselves. 1 where too few points are well lit.
    """
    if len(uv_a) < MIN_FEATURES:
        return 1.0
    levels = []
    for image, uv in ((image_a, uv_a), (image_b, uv_b)):
        gray = cv2.blur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5))
        columns, rows = np.ascontiguousarray(uv.T, np.float32)
        levels.append(np.asarray(cv2.remap(gray, columns, rows, cv2.INTER_NEAREST)).ravel())
    a, b = levels
    # Grey levels near black or white do not tell the exposure.
    lit = (np.minimum(a, b) >= 8) & (np.maximum(a, b) <= 247)
    if np.count_nonzero(lit) < MIN_FEATURES:
        return 1.0
    return float(np.median(b[lit] / a[lit].astype(np.float64)))


def match_pair(
    pair: Rectified,
    image_a: NDArray[np.uint8],
    image_b: NDArray[np.uint8],
    brightness: float = 1.0,
) -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]:
    """Pointmap (H, W, 3) and confidence (H, W), both float32, of each of the two views.

    Points are in their own camera's frame, on the rays of the original pixels; the confidence is
    UNIT_SIGMA over the expected standard deviation of the depth, 0 where the directions contradict
    each other (occlusions), where nothing was matched, and where the images contradict it (see
    :func:`disparity_sigma`).

    Args:
        brightness: of image b over that of image a; the brighter one is darkened.
    """
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (image_a, image_b)]
    # Images of nearly the same exposure stay as they are.
    if max(brightness, 1.0 / brightness) > 1.03:
        brighter = int(brightness > 1.0)
        factor = min(brightness, 1.0 / brightness)
        gray[brighter] = cv2.convertScaleAbs(gray[brighter], alpha=factor)
    (warped_a, covers_a), (warped_b, covers_b) = (
        pair.warp(np.asarray(image, np.uint8), side) for side, image in enumerate(gray)
    )
    forth = _disparity(warped_a, warped_b, pair.disparities)
    # Seen in a mirror, b is the left image.
    back = _disparity(warped_b[:, ::-1], warped_a[:, ::-1], pair.disparities)
    back = np.ascontiguousarray(back[:, ::-1])
    forth[~covers_a], back[~covers_b] = np.nan, np.nan
    found = []
    for side, size, mine, other, image, other_image in (
        (0, image_a.shape[:2], forth, back, warped_a, warped_b),
        (1, image_b.shape[:2], back, forth, warped_b, warped_a),
    ):
        sigma = disparity_sigma(mine, other, 2.0 * side - 1.0, image, other_image)
        found.append(_in_view(pair, mine, sigma, size, side))
    return tuple(found)


def _disparity(
    left: NDArray[np.uint8], right: NDArray[np.uint8], count: int
) -> NDArray[np.float32]:
    """(H, W) disparity of the left image [px], NaN where there is none."""
    block = 3
    matcher = cv2.StereoSGBM_create(  # pyright: ignore[reportAttributeAccessIssue]
        minDisparity=0,
        numDisparities=count,
        blockSize=block,
        # For a step of one disparity a quarter of what OpenCV proposes: on surfaces seen aslant
        # there is one at every few pixels. For a larger one, and as the uniqueness ratio, what it
        # proposes.
        P1=2 * block**2,
        P2=32 * block**2,
        uniquenessRatio=5,
        preFilterCap=31,
        # All eight paths: half the error of five, at twice the time.
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    found = matcher.compute(np.ascontiguousarray(left), np.ascontiguousarray(right))
    # Islands of less than a hundred pixels, all within 1 px (16 steps), are chance matches.
    cv2.filterSpeckles(found, -16, 100, 16)
    disparity = found.astype(np.float32) / 16.0
    disparity[found < 0] = np.nan
    return disparity


def _in_view(
    pair: Rectified,
    disparity: NDArray[np.float32],
    sigma: NDArray[np.float32],
    size: tuple[int, int],
    side: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points and confidence of the original image's pixels."""
    columns, rows, ray_z = pair.columns_rows(*size, side)
    here = _sample(np.where(np.isfinite(sigma), disparity, np.nan), columns, rows)
    here_sigma = np.asarray(
        cv2.remap(sigma, columns, rows, cv2.INTER_NEAREST, borderValue=(np.inf,))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        rectified = pair.depth(here)
        depth = rectified / ray_z
        # z = f B / d, so dz = z^2 / (f B) dd.
        depth_sigma = rectified * depth / np.float32(pair.focal * pair.baseline) * here_sigma
        good = np.isfinite(depth_sigma) & (rectified >= pair.near) & (depth > 0)
    depth = np.where(good, depth, np.float32(0.0)).astype(np.float32)
    quality = edge_quality(depth, pair.intrinsics[side], np.where(good, depth_sigma, 0.0))
    depth_sigma = np.where(good, depth_sigma, np.float32(np.inf))
    confidence = np.float32(UNIT_SIGMA) / depth_sigma * quality
    return back_project(depth, pair.intrinsics[side]), confidence.astype(np.float32)


def _sample(
    disparity: NDArray[np.float32], columns: NDArray[np.float32], rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The disparity at fractional places: interpolated on a surface, the nearest at its edges."""
    nearest, linear = (
        np.asarray(cv2.remap(disparity, columns, rows, how, borderValue=(np.nan,)))
        for how in (cv2.INTER_NEAREST, cv2.INTER_LINEAR)
    )
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(linear - nearest) < 1.0, linear, nearest)
