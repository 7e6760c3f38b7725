"""Finds and opens the authors' files: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.weights import find_weights as weights_file

WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
DEFAULT = "depth-anything/DA3-BASE"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors of a file by key, read when they are asked for.

    Attributes:
        source: the file.
        shapes: of all tensors.
        read: gives a tensor by its key.
        name: ``model_name`` of the description; empty where there is none.
        net: what the description says of the transformer.
    """

    source: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    name: str = ""
    net: Mapping[str, Any] = field(default_factory=dict)


def find_weights(weights: str) -> Path:
    """The file of weights that a setting names; see :mod:`wildseg3d_ros.core.weights`."""
    return weights_file(weights, "Depth Anything 3", (WEIGHTS, DESCRIPTION), remedy)


def remedy(name: str = DEFAULT) -> str:
    """How to come by weights of that hub name, or by the default ones, for an error."""
    return (
        f"fetch them with `hf download {name} {DESCRIPTION} {WEIGHTS}` (DA3-SMALL and DA3-BASE: "
        "Apache-2.0), or set pointmaps.da3.weights to a folder that holds both files. The "
        "pointmap back ends 'depth' and 'stereo' need no weights"
    )


def open_checkpoint(path: Path, stack: ExitStack) -> Checkpoint:
    """Reads what a file of weights and its description hold, the tensors not yet. The stack
    closes the file when it ends.

    Raises:
        FileError: truncated, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    name, net = _described(path.parent / DESCRIPTION)
    try:
        file = stack.enter_context(safe_open(path, framework="pt"))
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise damaged(path, error) from error
    return Checkpoint(path, shapes, file.get_tensor, name, net)


def damaged(path: Path, error: Exception) -> FileError:
    """What to tell of a file that cannot be read to its end."""
    size = path.stat().st_size if is_regular(path) else 0
    return FileError(
        f"'{path}' ({size / 1e6:.1f} MB) is truncated, damaged or no file of safetensors "
        f"({_first_line(error)}); {remedy()}"
    )


def _described(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The model's name, and the part about the transformer; empty where nothing is said."""
    if not os.path.lexists(path):
        return "", {}
    content = read_json(path, "description of the weights")
    content = content if isinstance(content, Mapping) else {}
    config = content.get("config")
    net = config.get("net") if isinstance(config, Mapping) else None
    return str(content.get("model_name", "")), net if isinstance(net, Mapping) else {}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
