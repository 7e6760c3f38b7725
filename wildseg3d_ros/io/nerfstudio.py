"""Lenses in the terms of nerfstudio's ``transforms.json``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.lens import Lens

COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Keys of all distortion coefficients."""

# In nerfstudio every perspective model may carry coefficients; the name does not limit them.
_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_UNUSED = {**dict.fromkeys(_PERSPECTIVE, ("k4",)), "OPENCV_FISHEYE": ("p1", "p2")}
"""Coefficients that a camera model does not have."""


def lens_from_nerfstudio(
    name: str,
    model: str,
    K: NDArray[np.float64] | None,
    coefficients: Mapping[str, float],
    size: tuple[int, int],
) -> Lens:
    """A lens from its camera model and coefficients.

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
    for coefficient in _UNUSED[model]:
        if coefficients.get(coefficient, 0.0):
            raise InputError(
                f"camera '{name}': camera_model {model} has no coefficient {coefficient}, got "
                f"{coefficients[coefficient]}; choose the model that fits, or undistort",
                ErrorCode.BAD_CALIBRATION,
            )
    fisheye = model == "OPENCV_FISHEYE"
    order = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3")
    values = np.array([coefficients.get(key, 0.0) for key in order], np.float64)
    if not (fisheye or values.any()):
        return Lens(K, size)
    if K is None:
        raise InputError(
            f"camera '{name}': its lens is said to distort ({model}), but has no "
            "intrinsics to undistort the image with; give fl_x, fl_y, cx, cy as well, or "
            "an undistorted image",
            ErrorCode.BAD_CALIBRATION,
        )
    return Lens(K, size, values, fisheye)
