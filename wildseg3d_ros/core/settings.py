"""Settings: frozen dataclasses whose fields carry a description and a range.

A section holds settings and groups of settings, which are sections again. Units stand in the
description. An unknown key or a value outside its range is an error that names the nearest valid
one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import cache, singledispatch
from typing import Any, Literal, NamedTuple, TypeVar

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.reading import shown

_Section = TypeVar("_Section")


class Setting(NamedTuple):
    """One setting of a section, or one group.

    Attributes:
        name: in the section or, with the groups before it, from where a walk began.
        spec: the dataclass's field: default, description, range.
        hint: the type; a Literal where there are choices.
        value: as it is in this section.
    """

    name: str
    spec: dataclasses.Field
    hint: Any
    value: Any


def setting(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    """A configuration field with its description and, for numbers, its inclusive range."""
    return field(default=default, metadata={"text": text, "low": low, "high": high})


@singledispatch
def members(section: Any) -> list[Setting]:
    """The settings and groups of one section."""
    hints = _hints(type(section))
    return [
        Setting(spec.name, spec, hints[spec.name], getattr(section, spec.name))
        for spec in dataclasses.fields(section)
    ]


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def walk(section: Any, prefix: str = "") -> Iterator[Setting]:
    """All settings of a section and its groups, named from there on, after ``prefix``."""
    for each in members(section):
        if dataclasses.is_dataclass(each.value):
            yield from walk(each.value, f"{prefix}{each.name}.")
        else:
            yield each._replace(name=prefix + each.name)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within mappings from dotted names: ``{"a.b": 1}`` becomes ``{"a": {"b": 1}}``.

    Raises:
        ConfigError: a name is used as a setting and as a group.
    """
    outermost: dict[str, Any] = {}
    for key, value in values.items():
        *groups, name = key.split(".")
        place = outermost
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ConfigError(f"'{group}' in '{key}' is a setting, not a group")
        place[name] = value
    return outermost


def nearest(word: str, known: Iterable[str], prefix: str = "", cutoff: float = 0.6) -> str:
    """The hint " (did you mean '...'?)" with the most similar known word; empty without one of at
    least the similarity ``cutoff``, or for a text longer than any name."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff) if len(word) < 200 else []
    return f" (did you mean '{prefix}{near[0]}'?)" if near else ""


def check_setting(name: str, spec: dataclasses.Field, hint: Any, value: Any) -> Any:
    """Returns ``value`` converted to the setting's type.

    Raises:
        ConfigError: wrong type, not among the choices, or outside the range.
    """
    if isinstance(value, Mapping):
        raise ConfigError(f"'{name}' is a setting, not a group; got {_short(value)}")
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if not isinstance(value, str) or value not in choices:
            why = spec.metadata.get("refused", {}).get(str(value), "")
            raise ConfigError(
                f"'{name}' is one of {', '.join(choices)}; got {_short(value)}"
                f"{f', which {why}' if why else nearest(str(value), choices)}"
            )
        return value
    if isinstance(hint, types.GenericAlias):
        raise TypeError(f"setting '{name}': containers are not supported")
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML 1.1 takes 1e-5 for a text; and a whole number may be beyond all floats.
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if type(value) is not hint:
        raise ConfigError(
            f"'{name}' is of type {hint.__name__}; got {type(value).__name__} {_short(value)}"
        )
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise ConfigError(f"'{name}' must lie in [{low}, {high}]; got {_short(value)}")
    return value


def _short(value: Any) -> str:
    """A value for error text."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_order(section: str, config: Any, low: str, high: str) -> None:
    """Raises ConfigError unless one setting of a section is below another."""
    below, above = getattr(config, low), getattr(config, high)
    if not below < above:
        raise ConfigError(
            f"'{section}.{low}' must be below '{section}.{high}'; got {below!r} and {above!r}"
        )


def from_mapping(base: _Section, values: Mapping[str, Any], prefix: str = "") -> _Section:
    """``base`` with other settings by name, by group; ``prefix`` stands before names in errors.

    Raises:
        ConfigError: an unknown name, or a value that does not fit.
    """
    known = {each.name: each for each in members(base)}
    chosen = {}
    for key, value in values.items():
        name = f"{prefix}{shown(key)}"
        if key not in known:
            raise ConfigError(
                f"unknown configuration key '{name}'{nearest(str(key), known, prefix)}; valid "
                f"keys here: {', '.join(sorted(known))}"
            )
        each = known[key]
        if not dataclasses.is_dataclass(each.value):
            chosen[key] = check_setting(name, each.spec, each.hint, value)
        elif isinstance(value, Mapping):
            chosen[key] = from_mapping(each.value, value, f"{name}.")
        else:
            raise ConfigError(
                f"'{name}' is a group of settings, got {type(value).__name__} {_short(value)}"
            )
    return dataclasses.replace(base, **chosen)  # type: ignore[type-var]
