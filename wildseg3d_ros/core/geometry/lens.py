"""A camera's lens: the pixels of published (distorted) images and of pinhole images.

All computations use pinhole images. An image with lens distortion is undistorted when it is read,
keeping K and size. Clicks and masks of a request refer to the published image; they are
transferred here as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError

_LARGEST = 1e9
"""Of what intrinsics and coefficients hold; computations with more overflow."""
_Maps = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Lens:
    """One camera's intrinsics and lens distortion, for images of one size.

    Pixels that the lens did not see are black, have no depth and are not scored. Undistortion does
    not change depth along the optical axis, so depth is only resampled.

    Attributes:
        K: (3, 3) intrinsics of the pinhole image, pixels; None when unknown: then nothing is
            undistorted.
        size: (height, width).
        coefficients: distortion coefficients in OpenCV's order; empty without distortion.
        fisheye: whether they are those of OpenCV's fisheye (equidistant) model. With coefficients
            that are all zero this model is still no pinhole: its radius grows as the angle.
    """

    K: NDArray[np.float64] | None
    size: tuple[int, int]
    coefficients: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    fisheye: bool = False

    def __post_init__(self) -> None:
        for what, numbers in (("intrinsics", self.K), ("distortion", self.coefficients)):
            # Also what is not a number is not below.
            if numbers is not None and not (np.abs(numbers) < _LARGEST).all():
                raise InputError(
                    f"a camera's {what} must be numbers below {_LARGEST:.0e}, got "
                    f"{np.asarray(numbers).tolist()}; calibrate it, or leave its calibration out",
                    ErrorCode.BAD_CALIBRATION,
                )

    @property
    def distorted(self) -> bool:
        """Whether published and pinhole pixels differ."""
        return self.K is not None and len(self.coefficients) > 0

    def undistort_color(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) pinhole image of a published one, interpolated."""
        if not self.distorted:
            return image
        return np.asarray(cv2.remap(image, *self._pinhole_maps, cv2.INTER_LINEAR), np.uint8)

    def undistort_labels(self, array: NDArray, outside: float = 0) -> NDArray:
        """(H, W) labels or depth of the pinhole image by those of the published one: the nearest
        pixel's, never a mixture; ``outside`` where the lens saw nothing."""
        return _nearest(array, self._pinhole_maps, outside) if self.distorted else array

    def published_labels(self, array: NDArray, outside: float = 0) -> NDArray:
        """(H, W, ...) labels, masks or points of the pinhole image as they lie in the published
        one, never mixed; ``outside`` where the pinhole image holds nothing."""
        return _nearest(array, self._published_maps, outside) if self.distorted else array

    def pinhole_pixel(self, u: float, v: float) -> tuple[float, float]:
        """Pixel of the pinhole image that shows what the published image shows at (u, v)."""
        if not self.distorted:
            return u, v
        moved = self._pinhole_pixels(np.array([[u, v]], np.float64))[0]
        return float(moved[0]), float(moved[1])

    def pinhole_box(
        self, u0: float, v0: float, u1: float, v1: float
    ) -> tuple[float, float, float, float]:
        """Bounds in the pinhole image of a box in the published image, cut to that image."""
        if not self.distorted:
            return u0, v0, u1, v1
        height, width = self.size
        u0, u1 = np.clip([u0, u1], 0, width - 1)
        v0, v1 = np.clip([v0, v1], 0, height - 1)
        # Straight edges become curves: nine points along each give their extent.
        us, vs = np.linspace(u0, u1, 9), np.linspace(v0, v1, 9)
        rim = [(u, v) for u in us for v in (v0, v1)] + [(u, v) for u in (u0, u1) for v in vs]
        moved = self._pinhole_pixels(np.array(rim))
        (u0, v0), (u1, v1) = moved.min(axis=0), moved.max(axis=0)
        return float(u0), float(v0), float(u1), float(v1)

    @cached_property
    def _pinhole_maps(self) -> _Maps:
        """Per pinhole pixel its column and row in the published image, each (H, W)."""
        assert self.K is not None
        make = cv2.fisheye.initUndistortRectifyMap if self.fisheye else cv2.initUndistortRectifyMap
        size_uv = (self.size[1], self.size[0])
        map_u, map_v = make(self.K, self.coefficients, np.eye(3), self.K, size_uv, cv2.CV_32FC1)
        return np.asarray(map_u, np.float32), np.asarray(map_v, np.float32)

    @cached_property
    def _published_maps(self) -> _Maps:
        """Per published pixel its column and row in the pinhole image, each (H, W)."""
        height, width = self.size
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
        uv = self._pinhole_pixels(grid.reshape(-1, 2).astype(np.float64)).astype(np.float32)
        return uv[:, 0].reshape(self.size), uv[:, 1].reshape(self.size)

    def _pinhole_pixels(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self.K is not None
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        moved = undistort(uv[:, None], self.K, self.coefficients, P=self.K)
        return np.asarray(moved, np.float64)[:, 0]


_SMALLEST = 32
"""Times that an image's edge may have that of its depth: a telephone's have 16."""


def resampled(array: NDArray, size: tuple[int, int]) -> NDArray:
    """(H, W) depth or labels at another size, of the nearest pixel, never a mixture; as they are
    where their shape is another than that of the size by a pixel or more, or they are so small
    that any shape is."""
    (height, width), (new_height, new_width) = array.shape[:2], size
    if array.shape[:2] == size or not array.size:
        return array
    if abs(width * new_height - height * new_width) >= max(size):
        return array
    if min(array.shape[:2]) * _SMALLEST < min(size):
        return array
    return cv2.resize(array, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _nearest(array: NDArray, maps: _Maps, outside: float) -> NDArray:
    as_number = array.astype(np.uint8) if array.dtype == bool else array
    moved = cv2.remap(as_number, *maps, cv2.INTER_NEAREST, borderValue=(float(outside),) * 4)
    return moved.astype(array.dtype, copy=False)
