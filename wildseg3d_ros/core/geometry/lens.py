"""Lens distortion and its removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError

# In nerfstudio every perspective model may carry coefficients; the name does not limit them.
_UNUSED = {
    "PINHOLE": ("k4",),
    "SIMPLE_PINHOLE": ("k4",),
    "SIMPLE_RADIAL": ("k4",),
    "RADIAL": ("k4",),
    "OPENCV": ("k4",),
    "OPENCV_FISHEYE": ("p1", "p2"),
}
"""Coefficients that a camera model does not have."""


@dataclass(frozen=True, eq=False)
class Lens:
    """Intrinsics of the undistorted image, and where its pixels lie in the distorted one.

    The undistorted image keeps K and size; pixels that the lens did not see are black, have no
    depth and are not scored. Depth along the optical axis does not change by undistortion, so it
    is only resampled.

    Attributes:
        K: (3, 3) intrinsics in pixels; None when unknown, and nothing is undistorted.
        map_u, map_v: (H, W) float32 distorted pixel of each undistorted one; None: the same.
    """

    COEFFICIENTS: ClassVar[tuple[str, ...]] = ("k1", "k2", "k3", "k4", "p1", "p2")

    K: NDArray[np.float64] | None
    map_u: NDArray[np.float32] | None = None
    map_v: NDArray[np.float32] | None = None

    @classmethod
    def create(
        cls,
        name: str,
        model: str,
        K: NDArray[np.float64] | None,
        coefficients: Mapping[str, float],
        size: tuple[int, int],
    ) -> Lens:
        """A lens in nerfstudio's terms.

        Args:
            name: camera name, for error text.
            model: OPENCV and the other perspective models (k1..k3 radial, p1, p2 tangential) or
                OPENCV_FISHEYE (k1..k4 in powers of the angle).
            K: (3, 3) intrinsics in pixels; None when unknown.
            coefficients: value by name; a missing one is 0.
            size: (height, width).

        Raises:
            InputError: another model, a coefficient that the model does not have, or distortion
                without K.
        """
        if model not in _UNUSED:
            raise InputError(
                f"camera '{name}': unknown camera_model '{model}'; known are {', '.join(_UNUSED)}",
                ErrorCode.BAD_CALIBRATION,
            )
        k1, k2, k3, k4, p1, p2 = (float(coefficients.get(c, 0.0)) for c in cls.COEFFICIENTS)
        for coefficient in _UNUSED[model]:
            if coefficients.get(coefficient, 0.0):
                raise InputError(
                    f"camera '{name}': camera_model {model} has no coefficient {coefficient}, got "
                    f"{coefficients[coefficient]}; choose the model that fits, or undistort",
                    ErrorCode.BAD_CALIBRATION,
                )
        if K is None:
            if model == "OPENCV_FISHEYE" or any((k1, k2, k3, p1, p2)):
                raise InputError(
                    f"camera '{name}': its lens is said to distort ({model}), but has no "
                    "intrinsics to undistort the image with; give fl_x, fl_y, cx, cy as well, or "
                    "an undistorted image",
                    ErrorCode.BAD_CALIBRATION,
                )
            return cls(None)
        size_uv = (size[1], size[0])
        if model == "OPENCV_FISHEYE":
            # Even without coefficients a fisheye is no pinhole: its radius grows as the angle.
            maps = cv2.fisheye.initUndistortRectifyMap(
                K, np.array([k1, k2, k3, k4]), np.eye(3), K, size_uv, cv2.CV_32FC1
            )
        elif any((k1, k2, k3, p1, p2)):
            maps = cv2.initUndistortRectifyMap(
                K, np.array([k1, k2, p1, p2, k3]), None, K, size_uv, cv2.CV_32FC1
            )
        else:
            return cls(K)
        return cls(K, np.asarray(maps[0], np.float32), np.asarray(maps[1], np.float32))

    def undistort_color(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) image, interpolated."""
        if self.map_u is None or self.map_v is None:
            return image
        moved = cv2.remap(image, self.map_u, self.map_v, cv2.INTER_LINEAR)
        return np.asarray(moved, np.uint8)

    def undistort_labels(self, array: NDArray, outside: int) -> NDArray:
        """(H, W) labels or depth, each pixel taken from its nearest one, never a mixture.

        Args:
            array: values in the distorted image.
            outside: value of pixels that the lens did not see.
        """
        if self.map_u is None or self.map_v is None:
            return array
        return cv2.remap(
            array, self.map_u, self.map_v, cv2.INTER_NEAREST, borderValue=float(outside)
        )
