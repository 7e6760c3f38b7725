"""Finds and opens the authors' files: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.weights import find_weights as weights_file
from wildseg3d_ros.pointmaps import weights

WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
DEFAULT, _TITLE = "depth-anything/DA3-BASE", "Depth Anything 3"


def find_weights(name: str) -> Path:
    """The file of weights that a setting names; see :mod:`wildseg3d_ros.core.weights`."""
    return weights_file(name, _TITLE, (WEIGHTS, DESCRIPTION), remedy)


def remedy(name: str = DEFAULT) -> str:
    """How to come by weights of that hub name, or by the default ones, for an error."""
    return (
        f"fetch them with `hf download {name} {DESCRIPTION} {WEIGHTS}` (DA3-SMALL and DA3-BASE: "
        "Apache-2.0), or set pointmaps.da3.weights to a folder that holds both files. The "
        "pointmap back ends 'depth' and 'stereo' need no weights"
    )


@dataclass(frozen=True, eq=False)
class Checkpoint(weights.Checkpoint):
    """Tensors of a file.

    Attributes:
        name: ``model_name`` of the description; empty where there is none.
        net: what the description says of the transformer.
    """

    network: ClassVar[str] = _TITLE
    remedy: ClassVar[Callable[..., str]] = staticmethod(remedy)
    name: str = ""
    net: Mapping[str, Any] = field(default_factory=dict)


def open_checkpoint(path: Path, stack: ExitStack) -> Checkpoint:
    """Reads what a file of weights and its description hold, the tensors not yet. The stack
    closes the file when it ends.

    Raises:
        FileError: truncated, damaged, or of another format.
    """
    name, net = _described(path.parent / DESCRIPTION)
    return Checkpoint(path, *weights.open_safetensors(path, stack, remedy), name, net)


def _described(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The model's name, and the part about the transformer; empty where nothing is said."""
    if not os.path.lexists(path):
        return "", {}
    content = read_json(path, "description of the weights")
    content = content if isinstance(content, Mapping) else {}
    config = content.get("config")
    net = config.get("net") if isinstance(config, Mapping) else None
    return str(content.get("model_name", "")), net if isinstance(net, Mapping) else {}
