"""Arrays of several libraries read alike."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from wildseg3d_ros.core.arrays import (
    array_key,
    as_array,
    is_on_host,
    namespace,
    read_pixels,
    to_numpy,
)

IMAGE = np.arange(24, dtype=np.float32).reshape(2, 4, 3)


def of_torch(array):
    return pytest.importorskip("torch").from_numpy(array.copy())


@pytest.mark.parametrize("convert", [np.asarray, array_api_strict.asarray, of_torch])
def test_read_pixels_is_indexing(convert):
    pixels = np.array([0, 5, 7, 5])
    row, column = np.divmod(pixels, 4)
    read = read_pixels(convert(IMAGE), pixels)
    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read, IMAGE[row, column])
    np.testing.assert_array_equal(
        read_pixels(convert(IMAGE[..., 0]), pixels), IMAGE[row, column, 0]
    )


@pytest.mark.parametrize("convert", [np.asarray, array_api_strict.asarray, of_torch])
def test_as_array_goes_from_any_library_to_any(convert):
    for like in (np.zeros(1), array_api_strict.zeros(1), of_torch(np.zeros(1))):
        xp = namespace(like)
        made = as_array(convert(IMAGE), like, xp.float64)
        assert namespace(made) is xp and made.dtype == xp.float64
        np.testing.assert_array_equal(to_numpy(made), IMAGE)


def test_to_numpy_does_not_copy_what_is_numpy():
    assert to_numpy(IMAGE) is IMAGE


@pytest.mark.parametrize("convert", [np.asarray, of_torch])
def test_array_key_is_that_of_the_memory(convert):
    array = convert(IMAGE.copy())
    assert array_key(array) == array_key(array[:])
    assert array_key(array[0]) == array_key(array[0])
    assert len({array_key(array), array_key(array[0]), array_key(array[1])}) == 3
    assert array_key(array) != array_key(convert(IMAGE.copy()))


def test_array_key_of_another_library_is_its_object():
    array = array_api_strict.asarray(IMAGE)
    assert array_key(array) == array_key(array) != array_key(array_api_strict.asarray(IMAGE))


def test_is_on_host_asks_the_device():
    torch = pytest.importorskip("torch")
    assert is_on_host(IMAGE) and is_on_host(torch.zeros(1))
    assert not is_on_host(torch.empty(1, device="meta"))
