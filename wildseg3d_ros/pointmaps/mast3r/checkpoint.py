"""Loads published weights by hub name or path, tensor by tensor; no file's code is ever run."""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildseg3d_ros.errors import FileError
from wildseg3d_ros.pointmaps.mast3r.heads import HeadSizes
from wildseg3d_ros.pointmaps.mast3r.network import Architecture, Mast3r, published_name

_log = logging.getLogger(__name__)

LICENCE = "CC BY-NC-SA 4.0"
_FILE = "model.safetensors"
_PUBLISHED_HEAD_CHANNELS = 64
_NAMED = 5
"""Tensors that an error names before it counts the rest."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors of a file by key, read when they are asked for.

    Attributes:
        source: the file.
        shapes: of all tensors.
        read: gives a tensor by its key.
        heads: numbers of attention heads of encoder and decoder where the file or its
            ``config.json`` says them; the tensors do not.
    """

    source: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    heads: tuple[int | None, int | None] = (None, None)


def load_network(weights: str, device: torch.device, dtype: torch.dtype) -> Mast3r:
    """The network with weights, ready to predict on the device.

    Args:
        weights: hub name (``owner/name``) of a model in the local cache, a ``.safetensors`` or
            ``.pth`` file, or a folder that holds ``model.safetensors``.

    Raises:
        FileError: no such weights, or not those of a MASt3R; says what is wrong and what to do.
    """
    path = find_weights(weights)
    with ExitStack() as stack:
        checkpoint = open_checkpoint(path, stack)
        network = network_from_checkpoint(checkpoint, device, dtype)
    parameters = list(network.parameters())
    count = sum(p.numel() for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    # A warning, because it has to be read before the results are used.
    _log.warning(
        "MASt3R weights '%s' loaded: %.1f M parameters, %.0f MB as %s on %s. The published "
        "weights are under %s: no commercial use",
        path,
        count / 1e6,
        size / 1e6,
        str(dtype).removeprefix("torch."),
        device,
        LICENCE,
    )
    return network


def find_weights(weights: str) -> Path:
    """The file that a setting names.

    Nothing is downloaded: 2.8 GB under a licence of their own are fetched by a command that
    somebody decides to run.

    Raises:
        FileError: it is not there; the text has the command that fetches it.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if (path / _FILE).is_file():
            return path / _FILE
        raise FileError(f"folder '{path}' holds no {_FILE}; {_remedy('')}")
    if path.suffix in (".safetensors", ".pth") or not re.fullmatch(r"[\w.-]+/[\w.-]+", weights):
        raise FileError(f"MASt3R weights '{weights}' do not exist; {_remedy('')}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(weights, _FILE, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise FileError(
            f"MASt3R weights '{weights}' are not on this machine; {_remedy(weights)}"
        ) from error


def _remedy(name: str) -> str:
    name = name or "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric"
    return (
        f"fetch them with `hf download {name} {_FILE}` (2.8 GB, licence {LICENCE}: no "
        "commercial use), or set pointmaps.mast3r.weights to the path of a .safetensors or .pth "
        "file. The pointmap back ends 'depth' and 'stereo' need no weights"
    )


def open_checkpoint(path: Path, stack: ExitStack) -> Checkpoint:
    """Reads what a file holds, its tensors not yet.

    Args:
        path: ``.safetensors`` or ``.pth``.
        stack: closes the file when it ends.

    Raises:
        FileError: truncated, damaged, of another format, or more than data.
    """
    if path.suffix == ".safetensors":
        return _open_safetensors(path, stack)
    if path.suffix == ".pth":
        return _open_pth(path)
    raise FileError(
        f"'{path}' is no checkpoint this package reads: expected .safetensors or .pth, got "
        f"'{path.suffix}'"
    )


def _open_safetensors(path: Path, stack: ExitStack) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        file = stack.enter_context(safe_open(path, framework="pt"))
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    heads = _heads(_read_config(path.parent / "config.json"))
    return Checkpoint(path, shapes, file.get_tensor, heads)


def _open_pth(path: Path) -> Checkpoint:
    try:
        # The published file keeps its training's arguments in a Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    except Exception as error:
        # UnpicklingError: what is not data is refused before any of it runs.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise FileError(
            f"'{path}' is damaged or holds more than tensors and plain values, and is not loaded, "
            f"because that could run code ({_first_line(error)}); use the .safetensors file"
        ) from error
    tensors = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping):
        raise FileError(
            f"'{path}' holds a {type(content).__name__}; expected a dictionary with the tensors "
            "under 'model'"
        )
    tensors = {str(k): v for k, v in tensors.items() if isinstance(v, Tensor)}
    arguments = content.get("args")
    said = getattr(arguments, "model", "") if arguments is not None else ""
    described = dict(re.findall(r"(enc_num_heads|dec_num_heads)\s*=\s*(\d+)", str(said)))
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    return Checkpoint(path, shapes, tensors.__getitem__, _heads(described))


def _read_config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"'{path}' is not readable JSON: {error}") from error
    return content if isinstance(content, Mapping) else {}


def _heads(config: Mapping[str, Any]) -> tuple[int | None, int | None]:
    values = [config.get(key) for key in ("enc_num_heads", "dec_num_heads")]
    encoder, decoder = (int(value) if value is not None else None for value in values)
    return encoder, decoder


def _damaged(path: Path, error: Exception) -> FileError:
    size = path.stat().st_size if path.is_file() else 0
    return FileError(
        f"'{path}' ({size / 1e6:.1f} MB) is truncated, damaged or no checkpoint "
        f"({_first_line(error)}); the published one has 2.8 GB. {_remedy('').capitalize()}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def network_from_checkpoint(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> Mast3r:
    """Builds the network that the tensors are for and moves them into it one by one.

    Keys that inference does not use are ignored.

    Raises:
        FileError: another model's tensors, or a tensor that is missing or of a wrong shape.
    """
    architecture = architecture_of(checkpoint)
    with torch.device("meta"):
        network = Mast3r(architecture)
    wanted = network.state_dict()
    stored = {name: _stored_key(published_name(name), checkpoint.shapes) for name in wanted}
    missing = [published_name(name) for name, key in stored.items() if key is None]
    if missing:
        raise FileError(
            f"'{checkpoint.source}' lacks {_listed(missing)}; is it a whole MASt3R checkpoint?"
        )
    keys = {name: key for name, key in stored.items() if key is not None}
    wrong = [
        f"{key} is {list(checkpoint.shapes[key])}, expected {list(wanted[name].shape)}"
        for name, key in keys.items()
        if checkpoint.shapes[key] != tuple(wanted[name].shape)
    ]
    if wrong:
        raise FileError(f"'{checkpoint.source}' has tensors of wrong shapes: {_listed(wrong)}")
    try:
        state = {
            name: checkpoint.read(key).to(device=device, dtype=dtype) for name, key in keys.items()
        }
    except (RuntimeError, OSError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise FileError(
                f"the weights of '{checkpoint.source}' do not fit into the memory of {device}; "
                "set pointmaps.mast3r.device to cpu, or its dtype to bfloat16"
            ) from error
        raise _damaged(checkpoint.source, error) from error
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """Sizes of the network, from the shapes of its tensors.

    The number of attention heads leaves no trace in the shapes: it comes from the file or its
    ``config.json``, else a head has 64 channels as in the published model.

    Raises:
        FileError: tensors of another model, or a tensor missing that the sizes are read from.
    """
    _refuse_relatives(checkpoint)
    head = "downstream_head1."
    patch = _shape(checkpoint, "patch_embed.proj.weight", 4)
    local = _shape(checkpoint, f"{head}head_local_features.fc2.weight", 2)
    encoder, decoder = patch[0], _shape(checkpoint, "decoder_embed.weight", 2)[0]
    layers = [
        _shape(checkpoint, f"{head}dpt.act_postprocess.{n}.0.weight", 4)[0] for n in range(4)
    ]
    return Architecture(
        patch=patch[2],
        encoder_channels=encoder,
        encoder_depth=_depth(checkpoint, "enc_blocks"),
        encoder_heads=_head_count(checkpoint, "enc_num_heads", encoder, checkpoint.heads[0]),
        encoder_hidden=_shape(checkpoint, "enc_blocks.0.mlp.fc1.weight", 2)[0],
        decoder_channels=decoder,
        decoder_depth=_depth(checkpoint, "dec_blocks"),
        decoder_heads=_head_count(checkpoint, "dec_num_heads", decoder, checkpoint.heads[1]),
        decoder_hidden=_shape(checkpoint, "dec_blocks.0.mlp.fc1.weight", 2)[0],
        head=HeadSizes(
            layers=(layers[0], layers[1], layers[2], layers[3]),
            features=_shape(checkpoint, f"{head}dpt.scratch.refinenet1.out_conv.weight", 4)[0],
            last=_shape(checkpoint, f"{head}dpt.head.0.weight", 4)[0],
            local_hidden=local[1],
            descriptor=local[0] // patch[2] ** 2 - 1,
        ),
    )


def _refuse_relatives(checkpoint: Checkpoint) -> None:
    """DUSt3R and CroCo share most of MASt3R's keys."""
    keys = checkpoint.shapes
    if any(".head_local_features." in key for key in keys):
        return
    if any(key.startswith("downstream_head") for key in keys):
        kind = "linear" if "downstream_head1.proj.weight" in keys else "DPT"
        raise FileError(
            f"'{checkpoint.source}' is a DUSt3R checkpoint ({kind} head, no "
            "head_local_features): it gives no descriptors, so no matches, and its points have no "
            f"scale. This back end needs MASt3R; {_remedy('')}"
        )
    if any(key.startswith("enc_blocks.") for key in keys):
        raise FileError(
            f"'{checkpoint.source}' has an encoder but no heads (a CroCo checkpoint?); this back "
            f"end needs MASt3R; {_remedy('')}"
        )
    some = ", ".join(list(keys)[:3]) or "nothing"
    raise FileError(
        f"'{checkpoint.source}' is not a MASt3R checkpoint: it holds {len(keys)} tensors ({some} "
        f"...), none of them a head_local_features; {_remedy('')}"
    )


def _shape(checkpoint: Checkpoint, key: str, dimensions: int) -> tuple[int, ...]:
    shape = checkpoint.shapes.get(key)
    if shape is None:
        raise FileError(f"'{checkpoint.source}' lacks {key}; is it a whole MASt3R checkpoint?")
    if len(shape) != dimensions or 0 in shape:
        raise FileError(
            f"'{checkpoint.source}' has tensors of wrong shapes: {key} is {list(shape)}, expected "
            f"{dimensions} dimensions"
        )
    return shape


def _depth(checkpoint: Checkpoint, blocks: str) -> int:
    found = (re.match(rf"{blocks}\.(\d+)\.", key) for key in checkpoint.shapes)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _head_count(checkpoint: Checkpoint, key: str, channels: int, said: int | None) -> int:
    count = said or channels // _PUBLISHED_HEAD_CHANNELS
    # Half of a head's channels turn with the row, in pairs.
    if count < 1 or channels % count or channels // count % 4:
        where = "as its config.json says" if said else "of 64 channels, as no config.json says"
        raise FileError(
            f"'{checkpoint.source}': {channels} channels do not split into attention heads {where}"
            f"; give {key} in a config.json beside the file"
        )
    return count


def _stored_key(key: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The key under which a file has a tensor: the four ``layer_rn`` go by two names each."""
    if key in shapes:
        return key
    match = re.fullmatch(r"(.*\.scratch\.)layer(\d)_rn(\..*)", key)
    other = f"{match[1]}layer_rn.{int(match[2]) - 1}{match[3]}" if match else ""
    return other if other in shapes else None


def _listed(texts: list[str]) -> str:
    rest = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + rest
