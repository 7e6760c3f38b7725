"""Settings: frozen dataclasses whose fields carry a description and a range.

Units stand in the description. An unknown key or a value outside its range is an error that names
the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from wildseg3d_ros.core.errors import ConfigError


def setting(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    """A configuration field with its description and, for numbers, its inclusive range."""
    return field(default=default, metadata={"text": text, "low": low, "high": high})


def check_setting(name: str, spec: dataclasses.Field, hint: Any, value: Any) -> Any:
    """Returns ``value`` converted to the setting's type.

    Raises:
        ConfigError: wrong type, not among the choices, or outside the range.
    """
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"'{name}' is one of {', '.join(choices)}; got {value!r}")
        return value
    if isinstance(hint, types.GenericAlias):
        raise TypeError(f"setting '{name}': containers are not supported")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(
            f"'{name}' is of type {hint.__name__}; got {type(value).__name__} {value!r}"
        )
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise ConfigError(f"'{name}' must lie in [{low}, {high}]; got {value!r}")
    return value


def check_order(section: str, config: Any, low: str, high: str) -> None:
    """Raises ConfigError unless one setting of a section is below another."""
    least, most = getattr(config, low), getattr(config, high)
    if not least < most:
        raise ConfigError(
            f"'{section}.{low}' must be below '{section}.{high}'; got {least!r} and {most!r}"
        )


def from_mapping(base: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """``base`` with other settings by name, by group; ``prefix`` stands before names in errors."""
    fields = {f.name: f for f in dataclasses.fields(base)}
    hints = typing.get_type_hints(type(base))
    chosen = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean '{prefix}{near[0]}'? " if near else ""
            raise ConfigError(
                f"unknown configuration key '{prefix}{key}'; {hint}valid keys here: "
                f"{', '.join(sorted(fields))}"
            )
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"'{prefix}{key}' is a group of settings, got {type(value).__name__} {value!r}"
                )
            chosen[key] = from_mapping(getattr(base, key), value, f"{prefix}{key}.")
        else:
            chosen[key] = check_setting(f"{prefix}{key}", fields[key], hints[key], value)
    return dataclasses.replace(base, **chosen)
