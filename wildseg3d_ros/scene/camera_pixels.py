"""A scene in the pixels of its cameras' own images.

A scene of large images is built at a smaller size (``max_megapixels``), and so are all its arrays.
Whoever points into it, or is shown something of it, knows the cameras' images alone: prompts,
masks of answers and what is here are in their pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.resizing import (
    larger_image,
    nearest,
    pixel_at,
    rescaled,
    smaller_mask,
)
from wildseg3d_ros.core.types import ViewMask
from wildseg3d_ros.scene.scene import Scene


def to_scene(scene: Scene, view: int, u: float, v: float) -> tuple[float, float]:
    """The pixel of the scene's image that shows what the camera's own shows at (u, v)."""
    return pixel_at(u, v, scene.camera_size(view), _size(scene, view))


def to_camera(scene: Scene, view: int, u: float, v: float) -> tuple[float, float]:
    """The reverse of :func:`to_scene`."""
    return pixel_at(u, v, _size(scene, view), scene.camera_size(view))


def mask_in_scene(scene: Scene, view: int, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of the camera's image at the scene's size; not empty."""
    return smaller_mask(mask, _size(scene, view))


def mask_at_camera(scene: Scene, view: int, mask: NDArray[np.bool_]) -> ViewMask:
    """A mask of the scene's image as a prompt."""
    return ViewMask(scene.view_names[view], at_camera(scene, view, mask))


def at_camera(scene: Scene, view: int, array: NDArray) -> NDArray:
    """Labels, depth or points of a view (H, W, ...) at the camera's size, of the nearest pixel."""
    return nearest(array, scene.camera_size(view))


def camera_image(scene: Scene, view: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB image of a view at the camera's size; enlarged from the scene's."""
    return larger_image(scene.images[view], scene.camera_size(view))


def camera_labels(scene: Scene, view: int) -> NDArray[np.int32]:
    """(H, W) ids of whole objects at the camera's size, 0 = none."""
    return at_camera(scene, view, scene.labels[view])


def camera_intrinsics(scene: Scene, view: int) -> NDArray[np.float64]:
    """(3, 3) intrinsics of the camera's own image."""
    return rescaled(scene.K[view], _size(scene, view), scene.camera_size(view))


def _size(scene: Scene, view: int) -> tuple[int, int]:
    height, width = scene.images[view].shape[:2]
    return height, width
