"""Models of transformers, from files that may be anything.

transformers reads a description of a network unguarded, and builds whatever it says: a folder of
kilobytes could take all memory, or hours. Here what the description asks for is held against the
tensors that are there.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildseg3d_ros.core.errors import FileError, WildSeg3DError
from wildseg3d_ros.core.files.reading import MIB, read_bytes, shown
from wildseg3d_ros.core.files.tensors import check_safetensors
from wildseg3d_ros.core.files.text import read_json

if TYPE_CHECKING:
    import torch

DESCRIPTION, WEIGHTS = "config.json", "model.safetensors"
_TOKENS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""Files of a tokenizer, of which a folder has some."""
_LARGEST_NUMBER = 1 << 17
"""Of a description: published ones have words of 49,408 tokens and images of 1024 pixels."""
_LARGEST_EXTENT = 64
"""Of what acts on a neighbourhood, of which no tensor tells: published windows have 24 cells."""
_EXTENTS = re.compile("padding|stride|kernel|window")
_OTHERS_CODE = re.compile(
    "implementation|auto_map|quantization|kernel_config|use_kernels|pretrained|checkpoint_path|"
    "trust_remote|adapter|^backbone$"
)
"""Keys that name what computes a network, which may be code on the hub, or where more of it comes
from."""
_MOST_VALUES = 10_000
_MORE_TENSORS, _MORE_NUMBERS = 1000, 1 << 26
"""What a network may have beside twice its weights: tables that are computed, and what is missing
of the weights and will be named."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network's description and its weights.

    Attributes:
        file: of the weights.
        config: what the description says.
        state: tensors by name.
    """

    file: Path
    config: Mapping[str, Any]
    state: Mapping[str, torch.Tensor]

    @property
    def kind(self) -> str:
        """Type of the network."""
        return str(self.config.get("model_type", ""))


def read_checkpoint(file: Path) -> Checkpoint:
    """The weights of a ``.safetensors`` file and the description beside it.

    Raises:
        FileError: the description is missing, or says what no network has. Errors of damaged
            weights are safetensors' own.
    """
    from safetensors.torch import load_file

    path = file.parent / DESCRIPTION
    config = read_json(path, "description of the network")
    if not isinstance(config, dict):
        raise FileError(f"'{path}' must hold an object, got a {type(config).__name__}")
    _check_values(path, config)
    check_safetensors(file)
    return Checkpoint(file, _of_the_network_alone(config), load_file(file))


def build(
    model_class: Any,
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    keys: Mapping[str, str] | None = None,
) -> tuple[Any, Mapping[str, Any]]:
    """A network of a class of transformers with its weights, and which of them it lacks.

    Args:
        keys: patterns of names of the weights, and what the network calls them.

    Raises:
        FileError: the description is of a network far larger than the weights. Other errors are
            transformers' own, of any class.
    """
    kind = model_class.config_class
    config = checkpoint.config
    if config.get("model_type") != kind.model_type:
        parts = (part for part in config.values() if isinstance(part, dict))
        config = next((p for p in parts if p.get("model_type") == kind.model_type), config)
    with _no_larger_than(checkpoint), _without_the_hub(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is empty or missing is named
        return model_class.from_pretrained(
            None,
            config=kind.from_dict(dict(config)),
            state_dict=dict(checkpoint.state),
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            key_mapping=keys and dict(keys),
            ignore_mismatched_sizes=True,  # they are named, all of them
        )


def call(who: str, network: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a network says.

    Args:
        who: the weights, for error text.

    Raises:
        FileError: it cannot be run as it is described.
    """
    import torch

    try:
        return network(*given, **named)
    except (WildSeg3DError, torch.OutOfMemoryError):
        raise
    # What tensors do not bear out shows first here, as any error.
    except Exception as error:
        said = (str(error).strip() or repr(error)).splitlines()[0]
        raise FileError(
            f"{who} do not run as their {DESCRIPTION} says ({shown(said)}); fetch both files "
            "again, from one place"
        ) from error


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        FileError: one of its files is too large, no file, or lies too deep. Other errors are
            transformers' own.
    """
    import transformers

    for path in (folder / name for name in _TOKENS):
        if not os.path.lexists(path):
            continue
        if path.suffix == ".json":
            # Where no length is set, transformers writes one of 31 digits.
            read_json(path, "part of the tokenizer", of_any_size=True)
        else:
            read_bytes(path, "part of the tokenizer", 16 * MIB)
    # What is not known is an error: a folder's own code is not run, and nobody is asked for it.
    with _without_the_hub():
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )


def _check_values(path: Path, config: dict[str, Any]) -> None:
    """Raises FileError for a description with a number or as many values as no network has."""
    rest: list[tuple[str, Any]] = list(config.items())
    for seen, (name, value) in enumerate(rest):
        if seen > _MOST_VALUES:
            raise FileError(f"'{path}' has more than {_MOST_VALUES} values; no network has")
        if isinstance(value, dict | list):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            rest += [(f"{name}.{key}", each) for key, each in inner]
        elif isinstance(value, int | float):
            most = _LARGEST_EXTENT if _EXTENTS.search(name) else _LARGEST_NUMBER
            if not abs(value) <= most:
                raise FileError(
                    f"'{path}': {shown(name)} is {value}; no network that is read here has more "
                    f"than {most}"
                )


def _of_the_network_alone(config: Any) -> Any:
    """The description without what would be fetched or run for it."""
    if isinstance(config, list):
        return [_of_the_network_alone(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _of_the_network_alone(value)
        for key, value in config.items()
        if not _OTHERS_CODE.search(key)
        or ("attn_implementation" in key and value in ("eager", "sdpa"))
    }


@contextmanager
def _without_the_hub() -> Iterator[None]:
    """Nothing is fetched, whatever a description names: as with HF_HUB_OFFLINE, which is read
    once."""
    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was


@contextmanager
def _no_larger_than(checkpoint: Checkpoint) -> Iterator[None]:
    """Ends the making of a network that is far larger than its weights while it is made."""
    from torch.nn.modules import module

    thread = threading.get_ident()
    most_tensors = 2 * len(checkpoint.state) + _MORE_TENSORS
    held = sum(tensor.numel() for tensor in checkpoint.state.values())
    most_numbers = 2 * held + _MORE_NUMBERS
    tensors = numbers = 0

    def count(_: Any, __: str, value: Any) -> None:
        nonlocal tensors, numbers
        if value is None or threading.get_ident() != thread:
            return
        tensors, numbers = tensors + 1, numbers + value.numel()
        if tensors > most_tensors or numbers > most_numbers:
            raise FileError(
                f"'{checkpoint.file.parent / DESCRIPTION}' describes a network far larger than "
                f"its weights, which are {held / 1e6:.1f} M numbers in {len(checkpoint.state)} "
                "tensors"
            )

    hooks = (
        module.register_module_parameter_registration_hook(count),
        module.register_module_buffer_registration_hook(count),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
