"""Builds the network that a file of weights is for, and checks every tensor by name and shape."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.models import made_of
from wildseg3d_ros.pointmaps.mast3r.files import (
    LICENCE,
    Checkpoint,
    find_weights,
    open_checkpoint,
    remedy,
)
from wildseg3d_ros.pointmaps.mast3r.heads import HeadSizes
from wildseg3d_ros.pointmaps.mast3r.network import Architecture, Mast3r, dtype_of, published_name
from wildseg3d_ros.pointmaps.weights import Place

_log = logging.getLogger(__name__)
_LISTED = 5
_BLOCKS = ("enc_blocks", "dec_blocks", "dec_blocks2")


def load_network(
    weights: str,
    device: torch.device,
    dtype: torch.dtype,
    check: Callable[[Architecture], None] | None = None,
) -> Mast3r:
    """The network with weights, ready to predict on the device.

    Args:
        weights: hub name (``owner/name``) of a model in the local cache, a ``.safetensors`` or
            ``.pth`` file, or a folder that holds ``model.safetensors``.
        check: raises, before anything is read, where the network's sizes do not suit the caller.

    Raises:
        FileError: no such weights, or not those of a MASt3R; says what is wrong and what to do.
    """
    path = find_weights(weights)
    with ExitStack() as stack, made_of(f"weights of MASt3R '{path}'", remedy):
        checkpoint = open_checkpoint(path, stack)
        network = network_from_checkpoint(checkpoint, device, dtype, check)
    parameters = list(network.parameters())
    # A warning, because it has to be read before the results are used.
    _log.warning(
        "MASt3R weights '%s' loaded: %.1f M parameters, %.0f MB as %s (heads float32) on %s. The "
        "published weights are under %s: no commercial use",
        path,
        sum(p.numel() for p in parameters) / 1e6,
        sum(p.nbytes for p in parameters) / 1e6,
        str(dtype).removeprefix("torch."),
        device,
        LICENCE,
    )
    return network


def network_from_checkpoint(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    check: Callable[[Architecture], None] | None = None,
) -> Mast3r:
    """Builds the network that the tensors are for and moves them into it one by one.

    Keys that inference does not use are ignored. For ``check`` see :func:`load_network`.

    Raises:
        FileError: another model's tensors, or a tensor that is missing or of a wrong shape.
    """
    architecture = architecture_of(checkpoint)
    _refuse_missing_layers(checkpoint, architecture)
    if check is not None:
        check(architecture)
    with torch.device("meta"):
        network = Mast3r(architecture)
    wanted = network.state_dict()
    stored = {name: _stored_key(published_name(name), checkpoint.shapes) for name in wanted}
    missing = [published_name(name) for name, key in stored.items() if key is None]
    if missing:
        raise checkpoint.lacks(missing)
    keys = {name: key for name, key in stored.items() if key is not None}
    way_out = "set pointmaps.mast3r.device to cpu, or its dtype to bfloat16"
    dtypes = partial(dtype_of, dtype=dtype)
    state = checkpoint.tensors(keys, wanted, dtypes, Place(device, way_out))
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
    patch = checkpoint.shape("patch_embed.proj.weight", 4)
    local = checkpoint.shape(f"{head}head_local_features.fc2.weight", 2)
    encoder, decoder = patch[0], checkpoint.shape("decoder_embed.weight", 2)[0]
    first, second, third, fourth = (
        checkpoint.shape(f"{head}dpt.act_postprocess.{n}.0.weight", 4)[0] for n in range(4)
    )
    return Architecture(
        patch=patch[2],
        encoder_channels=encoder,
        encoder_depth=_depth(checkpoint, "enc_blocks"),
        encoder_heads=_head_count(checkpoint, "enc_num_heads", encoder, checkpoint.heads[0]),
        encoder_hidden=checkpoint.shape("enc_blocks.0.mlp.fc1.weight", 2)[0],
        decoder_channels=decoder,
        decoder_depth=_depth(checkpoint, "dec_blocks"),
        decoder_heads=_head_count(checkpoint, "dec_num_heads", decoder, checkpoint.heads[1]),
        decoder_hidden=checkpoint.shape("dec_blocks.0.mlp.fc1.weight", 2)[0],
        head=HeadSizes(
            layers=(first, second, third, fourth),
            features=checkpoint.shape(f"{head}dpt.scratch.refinenet1.out_conv.weight", 4)[0],
            last=checkpoint.shape(f"{head}dpt.head.0.weight", 4)[0],
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
        found = (
            f"is a DUSt3R checkpoint ({kind} head, no head_local_features): it gives no "
            "descriptors, so no matches, and its points have no scale. This back end needs MASt3R"
        )
    elif any(key.startswith("enc_blocks.") for key in keys):
        found = "has an encoder but no heads (a CroCo checkpoint?); this back end needs MASt3R"
    else:
        some = ", ".join(list(keys)[:3]) or "nothing"
        found = (
            f"is not a MASt3R checkpoint: it holds {len(keys)} tensors ({some} ...), none of them "
            "a head_local_features"
        )
    raise FileError(f"'{checkpoint.source}' {found}; {remedy()}")


def _refuse_missing_layers(checkpoint: Checkpoint, architecture: Architecture) -> None:
    """The depth is read from the tensors, so that layers which are missing at the end of it would
    only make the network shallower: what else is known of the depth must bear it out."""
    encoder, published = architecture.encoder_depth, Architecture()
    # Both decoders have one depth.
    decoder = max(architecture.decoder_depth, _depth(checkpoint, "dec_blocks2"))
    depths = {"encoder_depth": published.encoder_depth, "decoder_depth": published.decoder_depth}
    if replace(architecture, **depths) == published:
        encoder = max(encoder, published.encoder_depth)
        decoder = max(decoder, published.decoder_depth)
    wanted = dict(zip(_BLOCKS, (encoder, decoder, decoder), strict=True))
    held = {blocks: _layers(checkpoint, blocks) for blocks in _BLOCKS}
    missing = [
        f"{blocks}.{layer}.*"
        for blocks, depth in wanted.items()
        # A key may name a layer beyond all: that many are not counted one by one.
        for layer in range(min(depth, len(held[blocks]) + _LISTED + 1))
        if layer not in held[blocks]
    ]
    if missing:
        raise checkpoint.lacks(
            missing,
            f" (a network of its sizes has {encoder} layers in the encoder and {decoder} in "
            "either decoder)",
        )


def _depth(checkpoint: Checkpoint, blocks: str) -> int:
    return 1 + max(_layers(checkpoint, blocks), default=-1)


def _layers(checkpoint: Checkpoint, blocks: str) -> set[int]:
    found = (re.match(rf"{blocks}\.(\d{{1,9}})\.", key) for key in checkpoint.shapes)
    return {int(match[1]) for match in found if match}


def _head_count(checkpoint: Checkpoint, key: str, channels: int, said: int | None) -> int:
    count = said or channels // 64
    # Half of a head's channels rotate with the row, in pairs.
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
