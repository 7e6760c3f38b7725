"""Networks from files that may be anything: what they raise, and models of transformers.

transformers reads a description of a network unguarded, and builds whatever it says: a folder of
kilobytes could take all memory, or hours. Here what the description asks for is held against the
tensors that are there.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
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
    with (
        _no_larger_than(checkpoint),
        _without_the_hub(),
        _quiet(),
        warnings.catch_warnings(),
    ):
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
    try:
        return network(*given, **named)
    except WildSeg3DError:
        raise
    # What tensors do not bear out shows first here, as any error.
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        raise FileError(
            f"{who} do not run as their {DESCRIPTION} says ({_said(error)}); fetch both files "
            "again, from one place"
        ) from error


@contextmanager
def made_of(who: str, remedy: Callable[[], str], always: bool = False) -> Iterator[None]:
    """What goes wrong while a network is made of files is said in one line.

    What a description says is handed to Python and PyTorch, which raise what they like about it.

    Args:
        who: the weights, for error text.
        remedy: how to come by others.
        always: whether errors of files of this package lack the remedy, too.

    Raises:
        FileError: instead of any error that is none of this package's.
    """
    try:
        yield
    except WildSeg3DError as error:
        if not (always and isinstance(error, FileError)):
            raise
        raise FileError(f"{error}; {remedy()}") from error
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        raise FileError(f"cannot load {who} ({_said(error)}); {remedy()}") from error


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, on a processor or on a GPU."""
    import torch

    # torch has no class for failures of its allocator on the processor.
    text = str(error)
    on_cpu = "can't allocate memory" in text or "not enough memory" in text
    return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def _said(error: Exception) -> str:
    """What an error says, in one line: a description's first line may only name a class."""
    lines = [line.strip() for line in str(error).strip().splitlines()[:2]]
    text = " ".join(lines)
    return shown(text if text not in ("", "None") else repr(error))


def lacking(report: Mapping[str, Any], apart: Collection[str] = ()) -> str:
    """What a network that was built lacks of its weights, in a few words; empty if nothing.

    Args:
        report: of :func:`build`.
        apart: names of tensors that may be missing.
    """
    missing = sorted(set(report["missing_keys"]) - set(apart))
    other = [
        f"{key} of {list(had)} for {list(made)}" for key, had, made in report["mismatched_keys"]
    ]
    counted = (missing, "tensors are missing"), (other, "tensors are of another shape")
    return ", ".join(f"{len(some)} {what}, such as {some[:3]}" for some, what in counted if some)


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
    with _without_the_hub(), _quiet():
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
def _quiet() -> Iterator[None]:
    """Keeps transformers and the hub from writing to the terminal."""
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled

    verbosity, were_off = transformers.logging.get_verbosity(), are_progress_bars_disabled()
    transformers.logging.set_verbosity_error()
    if not were_off:
        transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        # Where the environment has them off, turning them on is a warning.
        if not were_off:
            transformers.logging.enable_progress_bar()


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
