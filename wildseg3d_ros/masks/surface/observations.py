"""What one view contributes: points, depth and colour at a common working resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.core.types import WorldPointmaps

LONG_EDGE = 640
"""Longer edge of the working resolution [px]; outlines are refined at half of it or more."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One view at the working resolution (h, w), an integer fraction of the image's.

    Attributes:
        lab: (h, w, 3) float32 CIE Lab, L in 0..100.
        points: (h, w, 3) float32 world points; NaN where there is none.
        depth: (h, w) float32 along the optical axis, 0 = none.
        weight: (h, w) float32 >= 0, confidence over its median; 0 where there is no usable point.
        world_from_cam: (4, 4) float64.
        K: (3, 3) float64 at the working resolution.
        stride: working pixels are every ``stride``-th pixel of the image.
        full_size: (H, W) of the image.
    """

    lab: NDArray[np.float32]
    points: NDArray[np.float32]
    depth: NDArray[np.float32]
    weight: NDArray[np.float32]
    world_from_cam: NDArray[np.float64]
    K: NDArray[np.float64]
    stride: int
    full_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the working resolution."""
        return self.depth.shape[0], self.depth.shape[1]


def observe_views(
    images: Sequence[NDArray[np.uint8]],
    world: WorldPointmaps,
    K: NDArray[np.float64],
    world_from_cam: NDArray[np.float64],
    progress: Callable[[float], None] = lambda _: None,
) -> list[Observation]:
    """Brings views and their world pointmaps to the working resolution and drops bad points.

    Args:
        images: per view (H, W, 3) uint8 RGB.
        world: points by view.
        K, world_from_cam: (N, 3, 3) and (N, 4, 4), the solved cameras.
        progress: told the share of the work that is done.
    """
    each = (images, world.points, world.confidence, world_from_cam, K)
    observations = []
    with ThreadPoolExecutor(THREADS) as pool:
        for observation in pool.map(_observe, *each):
            observations.append(observation)
            progress(len(observations) / len(images))
    return observations


def _observe(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    confidence: NDArray[np.float32],
    world_from_cam: NDArray[np.float64],
    K: NDArray[np.float64],
) -> Observation:
    height, width = image.shape[:2]
    stride = max(1, -(-max(height, width) // LONG_EDGE))
    # The pixel that stands for a block is its centre: K is shifted accordingly.
    first = stride // 2
    rows, cols = (slice(min(first, n - 1), None, stride) for n in (height, width))
    if stride > 1:
        image = np.asarray(cv2.blur(image, (stride, stride)), np.uint8)
    image = np.ascontiguousarray(image[rows, cols])
    at = _measured(np.isfinite(points).all(axis=2) & (confidence > 0), rows, cols)
    points = points[at]
    weight = np.nan_to_num(confidence[at].astype(np.float32), posinf=0.0)
    finite = np.isfinite(points).all(axis=2) & (weight > 0)
    depth = np.zeros(points.shape[:2], np.float32)
    depth[finite] = apply(invert(world_from_cam), points[finite])[:, 2]
    finite &= depth > 0
    if finite.any():
        # In medians of the view: beyond twice it counts no more, below a twentieth not at all.
        weight = np.clip(weight / np.median(weight[finite]), 0.0, 2.0)
    good = finite & (weight > 0.05) & ~_flying(np.where(finite, depth, 0.0))
    working_K = K.copy()
    working_K[:2, 2] -= first
    working_K[:2] /= stride
    lab = np.asarray(cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab), np.float32)
    return Observation(
        lab=lab,
        points=np.where(good[..., None], points, np.nan).astype(np.float32),
        depth=np.where(good, depth, 0.0).astype(np.float32),
        weight=np.where(good, weight, 0.0).astype(np.float32),
        world_from_cam=world_from_cam,
        K=working_K,
        stride=stride,
        full_size=(height, width),
    )


def _measured(
    valid: NDArray[np.bool_], rows: slice, cols: slice
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column (h, w) of the pixel that stands for each block: its centre, or the measured
    pixel nearest to it. Depth that was registered to a larger image is full of pinholes."""
    height, width = valid.shape
    row, col = np.meshgrid(np.arange(height)[rows], np.arange(width)[cols], indexing="ij")
    stride, first = rows.step, rows.start
    inside = [(dr, dc) for dr in range(stride) for dc in range(stride)]
    found = valid[row, col]
    chosen = row.copy(), col.copy()
    for dr, dc in sorted(inside, key=lambda d: (d[0] - first) ** 2 + (d[1] - first) ** 2)[1:]:
        r = np.clip(row + dr - first, 0, height - 1)
        c = np.clip(col + dc - first, 0, width - 1)
        taken = ~found & valid[r, c]
        chosen[0][taken], chosen[1][taken] = r[taken], c[taken]
        found |= taken
    return chosen


def _flying(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels between a near and a far surface: neighbours clearly nearer and clearly farther.

    A pixel on the rim of a surface has the jump on one side only and stays.
    """
    near, far = depth_range(depth)
    step = 0.02 * depth  # clearly: by 2 %
    return (depth > 0) & (near < depth - step) & (far > depth + step)


def depth_range(depth: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smallest and largest valid depth in 3x3 pixels; inf and 0 where there is none."""
    kernel = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), kernel)
    farthest = cv2.dilate(depth, kernel)
    return np.asarray(nearest, np.float32), np.asarray(farthest, np.float32)


def colour_distance(difference: NDArray) -> NDArray:
    """(...) length of differences (..., 3) in Lab, lightness counted at 0.7: shading changes it
    on one object."""
    return np.linalg.norm(difference * np.array([0.7, 1.0, 1.0], difference.dtype), axis=-1)
