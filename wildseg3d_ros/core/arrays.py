"""Arrays of any library that follows the array API standard: NumPy's, or a network's tensors.

Whatever touches every pixel of a scene is written for the standard, so that it runs where the
pointmaps are: NumPy arrays on the processor, without torch; torch tensors on their GPU.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array, to_device
from numpy.typing import NDArray

Array = Any
"""An array of a library that follows the standard (2024.12); its namespace is `namespace(x)`."""


namespace = array_namespace
"""The module of array functions that fits all arrays given; TypeError where they are of different
libraries, or of one that does not follow the standard."""


def as_array(values: Array, like: Array, dtype: Any = None) -> Array:
    """The values in the library and on the device of another array.

    Args:
        values: an array of any library, on any device.
        like: an array of the wanted library.
        dtype: of ``like``'s library; None keeps the values' own.
    """
    xp = namespace(like)
    if isinstance(values, np.ndarray) or namespace(values) is not xp:
        values = xp.asarray(to_numpy(values), device=device(like))
    else:
        values = to_device(values, device(like))
    return values if dtype is None else xp.astype(values, dtype, copy=False)


def is_on_host(array: Array) -> bool:
    """Whether the array is in the processor's memory."""
    return not is_torch_array(array) or array.device.type == "cpu"


def array_key(array: Array) -> Hashable:
    """Equal for arrays that are the same memory seen the same way."""
    if is_torch_array(array):
        return array.device, array.data_ptr(), array.shape, array.stride(), array.dtype
    if not hasattr(array, "__array_interface__"):
        return id(array)
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def to_numpy(array: Array) -> NDArray:
    """The array in the processor's memory; without a copy where it is there already."""
    if isinstance(array, np.ndarray):
        return array
    # torch tensors on a GPU; NumPy reads what others keep in the processor's memory.
    return np.asarray(array.detach().cpu() if is_torch_array(array) else array)


def read_pixels(array: Array, pixels: NDArray[np.int64]) -> NDArray:
    """(n, ...) values of an image (H, W, ...) at pixels (n,) numbered row by row, as NumPy.

    Only these values leave the device.
    """
    if isinstance(array, np.ndarray):
        # Taking from a flat array is several times as fast as indexing rows and columns.
        return np.take(array.reshape(-1, *array.shape[2:]), pixels, axis=0)
    xp = namespace(array)
    flat = xp.reshape(array, (-1, *array.shape[2:]))
    return to_numpy(xp.take(flat, xp.asarray(pixels, device=device(array)), axis=0))
