"""JSON and YAML that may be anything: their size, depth and numbers are bounded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.errors import ErrorCode, FileError
from wildseg3d_ros.core.files.reading import MIB, read_bytes, shown

LARGEST_JSON = 16 * MIB
"""Bytes of a file: Python takes twenty times as much for what it says."""
_LARGEST_YAML = MIB // 4
LARGEST_TEXT = 16 * MIB
"""Bytes of a file of numbers: Python takes twenty times as much for its words."""
_DEEPEST = 50
"""Lists and mappings within each other."""
_VALUES = 20_000
"""Of a YAML document, counted as often as its aliases repeat them."""
_TOO_MANY = f"it has more than {_VALUES} values, repeated by aliases or not"


def read_text(path: Path, what: str, code: ErrorCode = ErrorCode.BAD_FILE) -> str:
    """The text of a file.

    Raises:
        FileError: missing, too large, or not in UTF-8.
    """
    try:
        return read_bytes(path, what, LARGEST_TEXT, code).decode()
    except UnicodeDecodeError as error:
        raise FileError(f"cannot read {what} '{path}': it is no text: {error}", code) from error


def read_json(
    path: Path, what: str, code: ErrorCode = ErrorCode.BAD_FILE, of_any_size: bool = False
) -> Any:
    """What a JSON file says; whole numbers have 64 bits, unless they may be of any size.

    Raises:
        FileError: missing, too large, or not readable JSON.
    """
    data = read_bytes(path, what, LARGEST_JSON, code)
    try:
        return parse_json(data, of_any_size)
    except ValueError as error:
        raise FileError(f"'{path}' is not readable JSON: {error}", code) from error


def parse_json(data: bytes, of_any_size: bool = False) -> Any:
    """What JSON text says; whole numbers of any size become floats.

    Raises:
        ValueError: says why it is not readable.
    """
    try:
        value = json.loads(data, parse_int=float if of_any_size else _whole)
    except RecursionError:
        raise ValueError("lists or objects lie too deep within each other") from None
    _check_depth(value)
    # Bytes of other encodings have them unescaped.
    if b"\\" in data or not data.isascii():
        _check_texts(value)
    return value


def parse_yaml(text: str | bytes) -> Any:
    """What a YAML document says.

    Raises:
        ValueError: says in one line why it is not readable.
    """
    import yaml

    try:
        loader = _loader()(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {})
            value = loader.construct_document(node)
            _check_texts(value)
            return value
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"{error.problem or error.context}{mark}") from error
    except RecursionError:
        raise ValueError("lists or mappings lie too deep within each other") from None
    # PyYAML hands values to Python as they are, which raises what it likes about them: IndexError
    # for an empty number, AttributeError for a date that is none.
    except Exception as error:
        lines = str(error).splitlines()
        raise ValueError(lines[0] if lines else type(error).__name__) from error


def read_yaml(path: str | Path, what: str) -> Any:
    """What a YAML file says.

    Raises:
        FileError: missing, too large, or not readable YAML.
    """
    data = read_bytes(path, what, _LARGEST_YAML)
    try:
        return parse_yaml(data)
    except ValueError as error:
        raise FileError(f"cannot read {what} '{path}': {error}") from error


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise ValueError(f"the number {text[:24]}{'...' * (len(text) > 24)} has more than 64 bits")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            child
            for each in level
            if isinstance(each, list | dict)
            for child in (each.values() if isinstance(each, Mapping) else each)
            if isinstance(child, list | dict)
        ]
        if not level:
            return
    raise ValueError(f"lists or objects lie more than {_DEEPEST} deep within each other")


def _check_texts(value: Any, name: str = "the document") -> None:
    """Raises ValueError for a text that cannot be written: one with half of a character."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            half = ascii(value[:40])
            raise ValueError(
                f"{name} has half of a character (a lone surrogate): {half}"
            ) from None
    elif isinstance(value, dict | list):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            _check_texts(key, "a key")
            _check_texts(part, f"'{shown(key)}'" if isinstance(value, Mapping) else name)


@cache
def _loader() -> Any:
    """PyYAML's safe loader, which ends where values lie too deep: it would take minutes first."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = values = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth, self.values = self.depth + 1, self.values + 1
            if self.values > _VALUES:
                raise ValueError(_TOO_MANY)
            if self.depth > _DEEPEST:
                raise ValueError(f"lists or mappings lie more than {_DEEPEST} deep in each other")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return Loader


def _count(node: Any, known: dict[int, int]) -> int:
    """Values of a node, those of aliases as often as they are used; 0 marks one in progress."""
    import yaml

    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("a value holds itself by an alias")
        return known[id(node)]
    known[id(node)] = 0
    children: list[Any] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    total = 1 + sum(_count(child, known) for child in children)
    if total > _VALUES:
        raise ValueError(_TOO_MANY)
    known[id(node)] = total
    return total
