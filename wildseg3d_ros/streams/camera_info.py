"""CameraInfo -> a camera's lens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.streams.messages import CameraInfoMessage

_PERSPECTIVE, _FISHEYE = (4, 5, 8, 12, 14), (4,)
_MODELS = {
    **dict.fromkeys(("plumb_bob", "rational_polynomial", "thin_prism"), _PERSPECTIVE),
    **dict.fromkeys(("radtan", "brown_conrady"), _PERSPECTIVE),
    **dict.fromkeys(("equidistant", "fisheye", "kannala_brandt", "kannala_brandt4"), _FISHEYE),
}
"""Numbers of coefficients by distortion model: those of sensor_msgs/distortion_models, and other
names of the same.

The perspective models are one, k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tx ty, in OpenCV's order, which
may end where the rest is 0: drivers give plumb_bob eight coefficients too, and equidistant five.
"""


def published_size(message: CameraInfoMessage) -> tuple[int, int] | None:
    """(height, width) of the images that a calibration describes; None when it does not say."""
    if not (message.width and message.height):
        return None
    roi = message.roi
    height, width = roi.height or message.height, roi.width or message.width
    return height // max(message.binning_y, 1), width // max(message.binning_x, 1)


def lens_from_info(
    message: CameraInfoMessage,
    size: tuple[int, int],
    who: str,
    topic: str,
    rectified: bool = False,
) -> Lens:
    """Intrinsics and distortion of a camera, for images of the given size.

    Binning and region of interest are applied as image_geometry does.

    Args:
        message: calibration as published.
        size: (height, width) of the camera's images.
        who: the camera, for error text: "camera 'left'".
        topic: where the message came from, for error text.
        rectified: the images are rectified already: P holds, D does not apply.

    Raises:
        InputError: not calibrated (K[0] = 0), made for another image size, or a distortion model
            that is not known (all BAD_CALIBRATION).
    """
    matrices = message.k.reshape(3, 3), message.p.reshape(3, 4)[:, :3]
    K = np.array(matrices[rectified], dtype=np.float64)
    if not K.diagonal()[:2].all():
        name, other = ("P", "K") if rectified else ("K", "P")
        if matrices[not rectified].diagonal()[:2].all():
            raise _bad(
                f"{who}: {name} is zero but {other} holds in '{topic}': set the camera's "
                f"'rectified' to {str(not rectified).lower()}, if its images are "
                f"{'not ' if rectified else ''}rectified, or publish {name}"
            )
        raise _bad(
            f"{who}: the camera is not calibrated: {name} has the focal lengths {K[0, 0]:g} and "
            f"{K[1, 1]:g} in '{topic}'; calibrate it, or publish its intrinsics there"
        )
    binning = max(message.binning_x, 1), max(message.binning_y, 1)
    roi = message.roi
    K[0] = (K[0] - [0, 0, roi.x_offset]) / binning[0]
    K[1] = (K[1] - [0, 0, roi.y_offset]) / binning[1]
    height, width = published_size(message) or size
    if (height, width) != size:
        raise _bad(
            f"{who}: '{topic}' describes images of {width}x{height} but the images are "
            f"{size[1]}x{size[0]}; publish the calibration of the resolution in use"
        )
    coefficients = np.array(message.d, dtype=np.float64)
    model = (message.distortion_model or "plumb_bob").lower()
    fisheye = _MODELS.get(model) == _FISHEYE
    if rectified or not (np.any(coefficients) or (fisheye and len(coefficients))):
        return Lens(K, size)
    if model not in _MODELS:
        raise _bad(
            f"{who}: unknown distortion model '{shown(model)}' in '{topic}'; known are "
            f"{', '.join(_MODELS)}; else rectify the images and set the camera's 'rectified'"
        )
    coefficients = _without_zeros(coefficients, _MODELS[model])
    if len(coefficients) not in _MODELS[model] or not np.isfinite(coefficients).all():
        raise _bad(
            f"{who}: distortion model '{model}' takes {' or '.join(map(str, _MODELS[model]))} "
            f"finite coefficients, '{topic}' has {shown(coefficients.tolist())}"
        )
    return Lens(K, size, coefficients, fisheye)


def _without_zeros(coefficients: NDArray, sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """The coefficients up to a model's number of them, where only zeros follow."""
    for size in sizes:
        if len(coefficients) > size and not coefficients[size:].any():
            return coefficients[:size]
    return coefficients


def _bad(text: str) -> InputError:
    return InputError(text, ErrorCode.BAD_CALIBRATION)
