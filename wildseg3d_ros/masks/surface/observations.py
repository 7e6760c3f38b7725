"""What one view contributes: points, depth and colour at a common working resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply, invert


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

    @property
    def cam_from_world(self) -> NDArray[np.float64]:
        """(4, 4) float64."""
        return invert(self.world_from_cam)


def observe(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    confidence: NDArray[np.float32],
    world_from_cam: NDArray[np.float64],
    K: NDArray[np.float64],
    long_edge: int,
) -> Observation:
    """Brings a view and its world pointmap to the working resolution and drops bad points.

    Args:
        image: (H, W, 3) uint8 RGB.
        points: (H, W, 3) world points, NaN where there is none.
        confidence: (H, W), 0 where there is no point.
        world_from_cam, K: the solved camera.
        long_edge: the longer image edge at the working resolution is at most this [px].
    """
    height, width = image.shape[:2]
    stride = max(1, -(-max(height, width) // long_edge))
    # The pixel that stands for a block is its centre: K is shifted accordingly.
    first = stride // 2
    rows, cols = (
        slice(min(first, height - 1), None, stride),
        slice(min(first, width - 1), None, stride),
    )
    if stride > 1:
        image = np.asarray(cv2.blur(image, (stride, stride)), np.uint8)
    image = np.ascontiguousarray(image[rows, cols])
    points = points[rows, cols]
    weight = np.nan_to_num(confidence[rows, cols].astype(np.float32), posinf=0.0)
    finite = np.isfinite(points).all(axis=2) & (weight > 0)
    depth = np.zeros(points.shape[:2], np.float32)
    depth[finite] = apply(invert(world_from_cam), points[finite])[:, 2]
    finite &= depth > 0
    if finite.any():
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


def _flying(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels between a near and a far surface: neighbours clearly nearer and clearly farther.

    A pixel on the rim of a surface has the jump on one side only and stays.
    """
    valid = depth > 0
    near = cv2.erode(np.where(valid, depth, np.float32(np.inf)), np.ones((3, 3), np.uint8))
    far = cv2.dilate(depth, np.ones((3, 3), np.uint8))
    step = 0.02 * depth
    return valid & (near < depth - step) & (far > depth + step)
