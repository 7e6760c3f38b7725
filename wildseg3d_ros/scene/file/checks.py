"""Checks of values that come from a file; each names the value and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InvalidScene


def expect(holds: bool, what: str, expected: str, got: object) -> None:
    """Raises InvalidScene, naming ``what``, unless it holds."""
    if not holds:
        raise InvalidScene(f"{what}: expected {expected}, got {_short(got)}")


def check_array(
    array: Any, what: str, dtype: type[np.generic], shape: Sequence[int | None]
) -> NDArray:
    """The array; raises InvalidScene unless it has that number type and shape (None: any)."""
    wanted = f"({', '.join('any' if n is None else str(n) for n in shape)})"
    expected = f"an array of {np.dtype(dtype)} with shape {wanted}"
    expect(isinstance(array, np.ndarray), what, expected, type(array).__name__)
    fits = array.ndim == len(shape) and all(
        n is None or n == m for n, m in zip(shape, array.shape, strict=True)
    )
    got = f"{array.dtype} with shape {array.shape}"
    expect(fits and array.dtype == np.dtype(dtype), what, expected, got)
    return array


def check_range(array: NDArray, what: str, low: float, high: float) -> None:
    """Raises InvalidScene unless all values are numbers in [low, high]."""
    inside = (array >= low) & (array <= high)
    if not inside.all():
        others = f"{np.count_nonzero(~inside)} others such as {array[~inside].flat[0]}"
        expect(False, what, f"numbers from {low:g} to {high:g}", others)


def check_finite(array: NDArray, what: str) -> None:
    """Raises InvalidScene unless all values are finite."""
    finite = np.isfinite(array)
    expect(bool(finite.all()), what, "finite values", f"{np.count_nonzero(~finite)} others")


def check_integer(value: Any, what: str, low: int, high: int) -> int:
    """The value; raises InvalidScene unless it is a whole number in [low, high]."""
    fits = isinstance(value, Integral) and low <= int(value) <= high
    expect(fits, what, f"a whole number from {low} to {high}", value)
    return int(value)


def check_text(value: Any, what: str) -> str:
    """The value; raises InvalidScene unless it is a text that can be written and sent."""
    expect(isinstance(value, str), what, "a text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        expect(False, what, "a text of valid characters", value.encode("utf-8", "replace"))
    return value


def check_tuple(value: Any, what: str, length: int | None = None) -> tuple:
    """The value; raises InvalidScene unless it is a tuple, of that length if one is given."""
    expect(isinstance(value, tuple), what, "a list", value)
    expect(length in (None, len(value)), what, f"{length} entries", len(value))
    return value


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
