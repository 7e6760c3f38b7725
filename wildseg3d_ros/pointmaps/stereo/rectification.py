"""Rectification of two calibrated cameras: rows become epipolar lines, columns differ by depth.

The rotations follow Fusiello, Trucco and Verri, "A compact algorithm for rectification of stereo
pairs", Machine Vision and Applications 12, 2000: the new x axis is the baseline. OpenCV's own
``stereoRectify`` expects one image size, leaves vertical baselines vertical and puts converging
cameras' images side by side; here each camera keeps its size and the offset of its columns is
chosen from the depth range, so that the smallest disparity is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply, make_transform


@dataclass(frozen=True, eq=False)
class Rectified:
    """Two cameras rotated onto a common image plane, and a canvas for their images.

    A point (X, Y, Z) of the rectified frame of camera a has the column ``f X / Z + centres[0][0]``
    in the canvas of a, ``f (X - B) / Z + centres[1][0]`` in that of b, and the same row in both.
    The columns differ by a disparity in [0, disparities).

    Attributes:
        rotations: (3, 3) camera frame to rectified frame, of camera a and of camera b.
        centres: (2,) principal points [px] on their canvases; rows are equal.
        intrinsics: (3, 3) of the original images.
        focal: px. baseline: metres.
        near: minimum rectified Z that was asked for [m]; the disparities go a little nearer.
        disparities: number of candidates, a multiple of 16.
        size: (height, width) of the canvas; ``disparities`` columns are empty left and right of
            the images' common content, where a matcher cannot look.
    """

    rotations: tuple[NDArray[np.float64], NDArray[np.float64]]
    centres: tuple[NDArray[np.float64], NDArray[np.float64]]
    intrinsics: tuple[NDArray[np.float64], NDArray[np.float64]]
    focal: float
    baseline: float
    near: float
    disparities: int
    size: tuple[int, int]

    def warp(
        self, image: NDArray[np.uint8], side: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The image of a (side 0) or b (1) on the canvas, and which pixels it covers."""
        canvas_from_image = self._canvas_from_image(side)
        size, border = self.size[::-1], cv2.BORDER_REPLICATE
        # The rim goes on, because an edge there would be one in both images.
        warped = cv2.warpPerspective(image, canvas_from_image, size, None, cv2.INTER_CUBIC, border)
        inside = np.full(image.shape[:2], 255, dtype=np.uint8)
        covered = cv2.warpPerspective(inside, canvas_from_image, size)
        return np.asarray(warped, np.uint8), np.asarray(covered) == 255

    def columns_rows(
        self, height: int, width: int, side: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Columns and rows (H, W) float32 of the original image's pixels on the canvas, and the
        rectified frame's z (H, W) float32 of their rays, whose z is 1 in the camera's frame."""
        ray = self.rotations[side] @ np.linalg.inv(self.intrinsics[side])
        v, u = np.mgrid[0:height, 0:width].astype(np.float64)
        x, y, z = (ray[i, 0] * u + ray[i, 1] * v + ray[i, 2] for i in range(3))
        columns = self.focal * x / z + self.centres[side][0]
        rows = self.focal * y / z + self.centres[side][1]
        return columns.astype(np.float32), rows.astype(np.float32), z.astype(np.float32)

    def depth(self, disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rectified z [m] of canvas disparities; infinite or negative beyond infinity."""
        offset = np.float32(self.centres[1][0] - self.centres[0][0])
        with np.errstate(divide="ignore"):
            return np.float32(self.focal * self.baseline) / (disparity + offset)

    def _canvas_from_image(self, side: int) -> NDArray[np.float64]:
        x, y = self.centres[side]
        canvas = np.array([[self.focal, 0, x], [0, self.focal, y], [0, 0, 1.0]])
        return canvas @ self.rotations[side] @ np.linalg.inv(self.intrinsics[side])


def rectifying_rotations(
    a_from_b: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Rotations (3, 3) of cameras a and b onto a common image plane whose x axis is the baseline;
    None when the cameras stand one behind the other."""
    baseline = a_from_b[:3, 3] / max(float(np.linalg.norm(a_from_b[:3, 3])), 1e-12)
    ahead = np.array([0.0, 0.0, 1.0]) + a_from_b[:3, 2]
    ahead /= max(float(np.linalg.norm(ahead)), 1e-12)
    across = ahead - (ahead @ baseline) * baseline
    # At less than 35 degrees between baseline and view the epipole is in or near the image, and
    # rectified images grow without bound.
    if np.linalg.norm(across) < np.sin(np.deg2rad(35.0)):
        return None
    z = across / np.linalg.norm(across)
    rotation_a = np.stack([baseline, np.cross(z, baseline), z])
    return rotation_a, rotation_a @ a_from_b[:3, :3]


def rectify(
    intrinsics: tuple[NDArray, NDArray],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    a_from_b: NDArray[np.float64],
    near: float,
    far: float,
) -> Rectified | str:
    """Rectifies a pair for points between two depths.

    Args:
        intrinsics: (3, 3) of camera a and of camera b. sizes: (height, width) of their images.
        a_from_b: (4, 4) camera b in camera a's frame, metres.
        near, far: range of the rectified z [m], see :func:`rectifying_rotations`.

    Returns:
        The rectified pair, or why it cannot be rectified, to be put after the pair's name.
    """
    rotations = rectifying_rotations(a_from_b)
    if rotations is None:
        return "one camera stands behind the other"
    K_a, K_b = intrinsics
    focal = float(np.sqrt(np.sqrt(K_a[0, 0] * K_a[1, 1] * K_b[0, 0] * K_b[1, 1])))
    baseline = float(np.linalg.norm(a_from_b[:3, 3]))
    common = _common_area(rotations, intrinsics, sizes)
    if common is None:
        return "its cameras look too far past each other"
    (left, top), extent = common
    if extent[0] * focal < 16.0:  # a strip is not enough
        return "its cameras share no rows"
    # Rectified images of more than so many edges of the original ones are too oblique to match.
    if (extent * focal).max() > 2.5 * max(*sizes[0], *sizes[1]):
        return "its cameras look too far past each other"
    span = baseline * (1.0 / near - 1.0 / far)
    # The matcher keeps two tables of two bytes for each pixel and disparity, 0.6 GB for 150
    # million. Larger pairs are matched at a lower resolution.
    focal = min(focal, float(150e6 / (extent.prod() * span)) ** (1.0 / 3.0))
    disparities = 16 * int(np.ceil((focal * span + 1.0) / 16.0))
    height, width = np.ceil(focal * extent).astype(int).tolist()
    centre = np.array([disparities - focal * left, -focal * top])
    # Disparity 0 is at the far end: f B / far = columns' true difference there.
    centres = centre, centre + [focal * baseline / far, 0.0]
    size = height, width + 2 * disparities
    return Rectified(rotations, centres, intrinsics, focal, baseline, near, disparities, size)


def _common_area(
    rotations: tuple[NDArray, NDArray],
    intrinsics: tuple[NDArray, NDArray],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> tuple[tuple[float, float], NDArray[np.float64]] | None:
    """Left and top edge of what the canvas has to hold, and its height and width, as tangents.

    It holds the columns of camera a and the rows of both. None where an image would be seen at an
    angle of more than 78 degrees.
    """
    boxes = []
    for rotation, K, (height, width) in zip(rotations, intrinsics, sizes, strict=True):
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1.0]])
        rectified = corners @ (rotation @ np.linalg.inv(K)).T
        if (rectified[:, 2] < 0.2 * np.linalg.norm(rectified, axis=1)).any():
            return None
        tangents = rectified[:, :2] / rectified[:, 2:]
        boxes.append((tangents.min(0), tangents.max(0)))
    (low, high), (low_b, high_b) = boxes
    top, bottom = max(low[1], low_b[1]), min(high[1], high_b[1])
    return (low[0], top), np.array([bottom - top, high[0] - low[0]])


def rectified_depth(points_in_a: NDArray, a_from_b: NDArray) -> NDArray[np.float64]:
    """Rectified z > 0 [m] of points (M, 3) in camera a's frame that have one."""
    rotations = rectifying_rotations(a_from_b)
    if rotations is None:
        return np.zeros(0)
    z = apply(make_transform(rotations[0], np.zeros(3)), points_in_a)[:, 2]
    return z[z > 0]
