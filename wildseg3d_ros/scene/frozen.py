"""Read-only arrays: a snapshot shares its arrays with its readers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


class ReadOnlyArrays:
    """Base of a frozen dataclass whose arrays are read-only, those in its parts and tuples too.

    The caller's own handles to the arrays stay as they are.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, _frozen(value))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()  # pickling forgets the flag


def _frozen(value: Any) -> Any:
    """The value itself where it is read-only already."""
    if isinstance(value, np.ndarray) and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    elif isinstance(value, tuple):
        items = tuple(_frozen(item) for item in value)
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        frozen = {name: _frozen(part) for name, part in parts.items()}
        changed = {name: part for name, part in frozen.items() if part is not parts[name]}
        return dataclasses.replace(value, **changed) if changed else value
    return value
