"""CameraInfo -> intrinsics, and the way between published (distorted) and pinhole pixels.

The core works on pinhole images. An image with lens distortion is undistorted when it is taken
into a scene, keeping K and size. Clicks and masks of a request refer to the image as published, so
they are carried over here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from wildseg3d_ros.core.errors import ErrorCode, InputError

_PLUMB_BOB_LENGTHS = (4, 5)
_RATIONAL_LENGTHS = (8, 12, 14)
_MODELS = {
    "plumb_bob": _PLUMB_BOB_LENGTHS,
    "rational_polynomial": _RATIONAL_LENGTHS,
    "thin_prism": _RATIONAL_LENGTHS,
    "equidistant": (4,),
    "fisheye": (4,),
}
"""Number of coefficients by distortion model (sensor_msgs/distortion_models)."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """One camera's intrinsics and lens, for images of one size.

    Attributes:
        K: (3, 3) intrinsics of the pinhole image, pixels.
        coefficients: distortion coefficients in OpenCV's order; empty without distortion.
        fisheye: whether they are those of the equidistant model.
        size: (height, width) of the published image.
        maps: per pinhole pixel its column and row in the published image, each (H, W) float32;
            None without distortion.
    """

    K: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    fisheye: bool
    size: tuple[int, int]
    maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @property
    def distorted(self) -> bool:
        """Whether published and pinhole pixels differ."""
        return self.maps is not None

    def pinhole_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) published image without distortion; black where the lens did not see."""
        if self.maps is None:
            return image
        return np.asarray(cv2.remap(image, *self.maps, cv2.INTER_LINEAR), np.uint8)

    def pinhole_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W) published depth without distortion: the nearest pixel's, never a mixture.

        Depth along the optical axis does not change, so it is only moved; 0 where unseen.
        """
        if self.maps is None:
            return depth
        return np.asarray(cv2.remap(depth, *self.maps, cv2.INTER_NEAREST), np.float32)

    def pinhole_pixel(self, u: float, v: float) -> tuple[float, float]:
        """Pixel of the pinhole image that shows what the published image shows at (u, v)."""
        if not self.distorted:
            return u, v
        uv = self._pinhole_pixels(np.array([[u, v]], dtype=np.float64))
        return float(uv[0, 0]), float(uv[0, 1])

    def published_labels(self, labels: NDArray) -> NDArray:
        """(H, W) labels or masks of the pinhole image, as they lie in the published image."""
        if not self.distorted:
            return labels
        map_u, map_v = self._published_maps
        as_number = labels.astype(np.uint8) if labels.dtype == bool else labels
        moved = cv2.remap(as_number, map_u, map_v, cv2.INTER_NEAREST)
        return moved.astype(labels.dtype)

    @cached_property
    def _published_maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Per published pixel its column and row in the pinhole image, each (H, W)."""
        height, width = self.size
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
        uv = self._pinhole_pixels(grid.reshape(-1, 2).astype(np.float64)).astype(np.float32)
        return uv[:, 0].reshape(height, width), uv[:, 1].reshape(height, width)

    def _pinhole_pixels(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        K = self.K
        if self.fisheye:
            moved = cv2.fisheye.undistortPoints(uv[:, None], K, self.coefficients, P=K)
        else:
            moved = cv2.undistortPoints(uv[:, None], K, self.coefficients, P=K)
        return np.asarray(moved, dtype=np.float64)[:, 0]


def published_size(message: CameraInfo) -> tuple[int, int] | None:
    """(height, width) of the images that a calibration describes; None when it does not say."""
    if not (message.width and message.height):
        return None
    roi = message.roi
    height, width = roi.height or message.height, roi.width or message.width
    return height // max(message.binning_y, 1), width // max(message.binning_x, 1)


def calibration_from_info(
    message: CameraInfo, size: tuple[int, int], who: str, topic: str, rectified: bool = False
) -> Calibration:
    """Intrinsics of a camera for images of the given size.

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
    matrix = message.p.reshape(3, 4)[:, :3] if rectified else message.k.reshape(3, 3)
    K = np.array(matrix, dtype=np.float64)
    if K[0, 0] == 0 or K[1, 1] == 0:
        name = "P" if rectified else "K"
        raise _bad(
            f"{who}: the camera is not calibrated: {name}[0] is {K[0, 0]:g} and {name}[4] is "
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
    model = message.distortion_model or "plumb_bob"
    fisheye = model in ("equidistant", "fisheye")
    # A fisheye lens whose coefficients are all zero still is no pinhole: its radius grows as the
    # angle.
    if rectified or not (np.any(coefficients) or (fisheye and len(coefficients))):
        return Calibration(K, np.zeros(0), False, size)
    if model not in _MODELS:
        raise _bad(
            f"{who}: unknown distortion model '{model}' in '{topic}'; known are "
            f"{', '.join(_MODELS)}; else rectify the images and set the camera's 'rectified'"
        )
    if len(coefficients) not in _MODELS[model] or not np.isfinite(coefficients).all():
        raise _bad(
            f"{who}: distortion model '{model}' takes {' or '.join(map(str, _MODELS[model]))} "
            f"finite coefficients, '{topic}' has {coefficients.tolist()}"
        )
    size_uv = (size[1], size[0])
    if fisheye:
        maps = cv2.fisheye.initUndistortRectifyMap(
            K, coefficients, np.eye(3), K, size_uv, cv2.CV_32FC1
        )
    else:
        maps = cv2.initUndistortRectifyMap(K, coefficients, np.eye(3), K, size_uv, cv2.CV_32FC1)
    map_u, map_v = (np.asarray(m, dtype=np.float32) for m in maps)
    return Calibration(K, coefficients, fisheye, size, (map_u, map_v))


def _bad(text: str) -> InputError:
    return InputError(text, ErrorCode.BAD_CALIBRATION)
