"""Images at another size: their pixels, intrinsics and maps. Integer coordinates are pixel
centres, so that edges scale and not centres. Sizes are (height, width).

OpenCV is imported where it is called: prompts need this module, and help is to be printed at once.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
_Float = TypeVar("_Float", float, NDArray[np.float64])


def size_within(size: Size, megapixels: float) -> Size:
    """The size, or the largest one of its shape that has at most so many million pixels."""
    height, width = size
    factor = math.sqrt(megapixels * 1e6 / (height * width))
    if factor >= 1.0:
        return size
    return max(1, math.floor(factor * height)), max(1, math.floor(factor * width))


def rescaled(K: NDArray[np.float64], size: Size, new_size: Size) -> NDArray[np.float64]:
    """Intrinsics of an image that was resized."""
    scale_y, scale_x = new_size[0] / size[0], new_size[1] / size[1]
    K = K.copy()
    K[0] *= scale_x
    K[1] *= scale_y
    K[0, 2] += (scale_x - 1) / 2
    K[1, 2] += (scale_y - 1) / 2
    return K


def pixel_at(u: _Float, v: _Float, size: Size, new_size: Size) -> tuple[_Float, _Float]:
    """The pixel (u, v) of an image, or arrays of them, in that image at another size."""
    if size == new_size:
        return u, v
    scale_y, scale_x = new_size[0] / size[0], new_size[1] / size[1]
    return (u + 0.5) * scale_x - 0.5, (v + 0.5) * scale_y - 0.5


def nearest(array: NDArray, size: Size) -> NDArray:
    """Maps (H, W, ...) of labels, depth or points at another size: each pixel is what the nearest
    one of the array is, never a mixture."""
    if array.shape[:2] == size:
        return array
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for new, old in zip(size, array.shape[:2], strict=True)
    )
    return array[rows[:, None], columns[None]]


def smaller_image(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An image (H, W, 3) at a smaller size: means over what a pixel covers."""
    import cv2

    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def larger_image(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An image (H, W, 3) at a larger size, interpolated."""
    if image.shape[:2] == size:
        return image
    import cv2

    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def smaller_mask(mask: NDArray[np.bool_], size: Size) -> NDArray[np.bool_]:
    """A mask (H, W) at a smaller size: pixels of which half is on it or, where it is too small
    for that, those of which most is."""
    if mask.shape == size:
        return mask
    import cv2

    share = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return share >= min(0.5, float(share.max()))
