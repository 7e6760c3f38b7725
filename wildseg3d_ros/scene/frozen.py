"""Read-only arrays: a snapshot shares its arrays with its readers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_only(array: NDArray) -> NDArray:
    """A read-only view; the caller's own handle to the array stays as it is. An array that is
    read-only already is returned itself."""
    array = np.asarray(array)
    if not array.flags.writeable:
        return array
    array = array.view()
    array.flags.writeable = False
    return array


def freeze_fields(value: Any) -> None:
    """Makes the arrays in a frozen dataclass read-only, those in its parts and tuples too.

    Call it from ``__post_init__`` and from ``__setstate__``: pickling forgets the flag.
    """
    for spec in dataclasses.fields(value):
        object.__setattr__(value, spec.name, _frozen(getattr(value, spec.name)))


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return read_only(value)
    if isinstance(value, tuple):
        items = tuple(_frozen(item) for item in value)
        return value if _same(items, value) else items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: _frozen(getattr(value, f.name)) for f in dataclasses.fields(value)}
        before = [getattr(value, name) for name in parts]
        return value if _same(parts.values(), before) else dataclasses.replace(value, **parts)
    return value


def _same(one: Iterable[object], other: Iterable[object]) -> bool:
    return all(a is b for a, b in zip(one, other, strict=True))
