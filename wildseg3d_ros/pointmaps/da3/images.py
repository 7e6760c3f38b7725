"""Between a view's pixels and the network's: resizing, and maps brought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.types import View

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Of ImageNet's images in [0, 1], which the network was trained with."""

_SMALLEST = 28
_STEEPEST = np.tan(np.deg2rad(84.0))
"""Slope of a surface that is hardly seen any more; what is steeper is the edge of a surface."""


@dataclass(frozen=True)
class Fitting:
    """How an image is brought to the network's size, as the authors do: the longer side to a
    given length, then both sides to the nearest multiples of the patch, which may stretch it by a
    few per cent. Nothing is cut off.

    Attributes:
        size: (height, width) of the view's image.
        scaled: the same with the longer side at its length.
        inner: (height, width) for the network.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    inner: tuple[int, int]

    @classmethod
    def of(cls, view: View, long_side: int, patch: int) -> Fitting:
        """The fitting of a view.

        Raises:
            InputError: the image is too small or too narrow.
        """
        height, width = view.size
        scale = long_side / max(height, width)
        scaled = max(1, round(height * scale)), max(1, round(width * scale))
        rows, cols = (int(side / patch + 0.5) * patch for side in scaled)
        if min(height, width, rows, cols) < _SMALLEST:
            raise InputError(
                f"camera '{view.name}': its image of {width}x{height} pixels is too small: the "
                f"'da3' back end needs {_SMALLEST} pixels on the shorter side, also when the "
                f"longer one is resized to {long_side} (pointmaps.da3.image_size)"
            )
        return cls((height, width), scaled, (rows, cols))

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The image (H, W, 3) as the network's (3, h, w), normalised."""
        made: Any = image
        for rows, cols in (self.scaled, self.inner):
            height, width = made.shape[:2]
            if (rows, cols) == (height, width):
                continue
            way = cv2.INTER_CUBIC if rows > height or cols > width else cv2.INTER_AREA
            made = cv2.resize(made, (cols, rows), interpolation=way)
        normal = (made.astype(np.float32) / np.float32(255.0) - MEAN) / DEVIATION
        return np.ascontiguousarray(normal.transpose(2, 0, 1))

    def to_network(self, K: NDArray) -> NDArray[np.float64]:
        """Intrinsics (3, 3) of the image's pixels for the network's."""
        return _resized_intrinsics(K, self.size, self.inner)

    def to_image(self, K: NDArray) -> NDArray[np.float64]:
        """Intrinsics (3, 3) of the network's pixels for the image's."""
        return _resized_intrinsics(K, self.inner, self.size)

    def restore(
        self, depth: NDArray[np.float32], other: NDArray[np.float32], focal: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Depth and another map of the network (h, w) for every pixel (H, W) of the image.

        Between pixels of one surface it is interpolated; across the edge of a surface the nearest
        pixel is taken, because a point in between would fly free.

        Args:
            focal: focal length in the network's pixels.
        """
        if self.size == self.inner:
            return depth, other
        (smooth, near), (smooth_other, near_other) = map(self._resized, (depth, other))
        # A surface may change by half a pixel's step between a pixel and the one nearest to it.
        edge = ~(np.abs(smooth - near) <= 0.5 * _STEEPEST / focal * near)
        smooth[edge], smooth_other[edge] = near[edge], near_other[edge]
        return smooth, smooth_other

    def _resized(self, values: NDArray[np.float32]) -> tuple[Any, Any]:
        """Interpolated, and nearest."""
        size = self.size[::-1]
        return (
            cv2.resize(values, size, interpolation=cv2.INTER_LINEAR),
            cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT),
        )


def _resized_intrinsics(
    K: NDArray, size: tuple[int, int], new: tuple[int, int]
) -> NDArray[np.float64]:
    """Pixels keep their outer edges, so that the middle of the first one moves."""
    by = np.diag([new[1] / size[1], new[0] / size[0], 1.0])
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    return np.linalg.inv(half) @ by @ half @ K
