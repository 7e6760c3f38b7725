"""Builds the network that a file of weights is for, and checks every tensor by name and shape."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.core.models import made_of
from wildseg3d_ros.pointmaps.da3.backbone import BackboneSizes
from wildseg3d_ros.pointmaps.da3.files import (
    Checkpoint,
    find_weights,
    open_checkpoint,
    remedy,
)
from wildseg3d_ros.pointmaps.da3.heads import HeadSizes
from wildseg3d_ros.pointmaps.da3.network import (
    Architecture,
    DepthAnything3,
    published_name,
    set_backbone_type,
)
from wildseg3d_ros.pointmaps.weights import Place, listed

_log = logging.getLogger(__name__)

NON_COMMERCIAL = "CC BY-NC 4.0: no commercial use"
_VIT, _HEAD = "model.backbone.pretrained.", "model.head."
_KEPT = {12: (5, 7, 9, 11), 24: (11, 15, 19, 23)}
"""Layers that the heads of the published models read, by depth, where no description says them."""

_TRAINING = re.compile(r".*\.(output_conv[12]_aux\.[012]\..*|mask_token|register_tokens)")
"""Keys of the published files that inference does not read."""


def load_network(
    weights: str,
    device: torch.device,
    dtype: torch.dtype,
    check: Callable[[Architecture], None] | None = None,
) -> tuple[DepthAnything3, str]:
    """The network with weights, ready to predict on the device, and the licence of such weights.

    Args:
        weights: hub name (``owner/name``) of a model in the local cache, or a folder that holds
            ``config.json`` and ``model.safetensors``.
        check: raises, before anything is read, where the network's sizes do not suit the caller.

    Raises:
        FileError: no such weights, or not those of a Depth Anything 3 of several views.
    """
    path = find_weights(weights)
    with ExitStack() as stack, made_of(f"weights of Depth Anything 3 '{path}'", remedy):
        checkpoint = open_checkpoint(path, stack)
        architecture = architecture_of(checkpoint)
        if check is not None:
            check(architecture)
        network = _filled(architecture, checkpoint, device)
    set_backbone_type(network, dtype)
    licence = licence_of(architecture, checkpoint.name)
    count = sum(p.numel() for p in network.parameters())
    # It has to be read before the results are used.
    level = logging.WARNING if licence == NON_COMMERCIAL else logging.INFO
    _log.log(
        level,
        "Depth Anything 3 weights '%s' (%s) loaded: %.1f M parameters on %s. The published "
        "weights of this size are under %s",
        path,
        checkpoint.name or "no description",
        count / 1e6,
        device,
        licence,
    )
    return network, licence


def licence_of(architecture: Architecture, name: str) -> str:
    """The licence that the authors published weights of that size under."""
    is_free = architecture.backbone.channels <= 768 and not re.search("large|giant", name.lower())
    return "Apache-2.0" if is_free else NON_COMMERCIAL


def _filled(
    architecture: Architecture, checkpoint: Checkpoint, device: torch.device
) -> DepthAnything3:
    """The network with the tensors of a file, moved into it one by one."""
    with torch.device("meta"):
        network = DepthAnything3(architecture)
    wanted = {published_name(name): value for name, value in network.state_dict().items()}
    missing = [key for key in wanted if key not in checkpoint.shapes]
    if missing:
        raise checkpoint.lacks(missing)
    unknown = [k for k in checkpoint.shapes if k not in wanted and not _TRAINING.fullmatch(k)]
    if unknown:
        _log.warning("'%s' has tensors without a use here: %s", checkpoint.source, listed(unknown))
    place = Place(device, "set pointmaps.da3.device to cpu")
    keys = {key.removeprefix("model."): key for key in wanted}
    by_name = {name: wanted[key] for name, key in keys.items()}
    state = checkpoint.tensors(keys, by_name, lambda _: torch.float32, place)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """Sizes of the network, from the shapes of its tensors and the description beside them.

    Raises:
        FileError: tensors of another model, or a description that contradicts them.
    """
    _refuse_relatives(checkpoint)
    patch = checkpoint.shape(f"{_VIT}patch_embed.proj.weight", 4)
    depth = _count(checkpoint, rf"{_VIT}blocks\.(\d{{1,4}})\.")
    normalised = _numbers(checkpoint, rf"{_VIT}blocks\.(\d{{1,4}})\.attn\.q_norm\.weight")
    first, second, third, fourth = (
        checkpoint.shape(f"{_HEAD}projects.{n}.weight", 4)[0] for n in range(4)
    )
    first_joint = min(normalised, default=depth)
    _agree(checkpoint, "alt_start", first_joint)
    return Architecture(
        backbone=BackboneSizes(
            channels=patch[0],
            depth=depth,
            heads=_heads(checkpoint, patch[0]),
            hidden=checkpoint.shape(f"{_VIT}blocks.0.mlp.fc1.weight", 2)[0],
            patch=patch[2],
            positions=math.isqrt(checkpoint.shape(f"{_VIT}pos_embed", 3)[1] - 1),
            first_joint=first_joint,
            kept=_kept(checkpoint, depth, first_joint),
        ),
        head=HeadSizes(
            layers=(first, second, third, fourth),
            features=checkpoint.shape(f"{_HEAD}scratch.output_conv1.weight", 4)[1],
        ),
        camera_depth=_count(checkpoint, r"model\.cam_enc\.trunk\.(\d{1,4})\."),
    )


def _refuse_relatives(checkpoint: Checkpoint) -> None:
    """Models of one family that are built otherwise."""
    keys = checkpoint.shapes
    if any(key.startswith("model.da3.") for key in keys):
        found = "is a nested model, two networks in one"
    elif any(".mlp.w12." in key for key in keys):
        found = f"is of the giant size, which has other layers ({NON_COMMERCIAL})"
    elif not any(key.startswith(_VIT) for key in keys):
        some = ", ".join(list(keys)[:3]) or "nothing"
        found = f"is not Depth Anything 3: it holds {len(keys)} tensors ({some} ...)"
    elif not any(key.startswith("model.cam_dec.") for key in keys):
        found = "is of the models for one view (mono, metric): it has no cameras"
    else:
        return
    raise FileError(
        f"'{checkpoint.source}' {found}; this back end needs DA3-SMALL, DA3-BASE or DA3-LARGE: "
        f"{remedy()}"
    )


def _kept(checkpoint: Checkpoint, depth: int, first_joint: int) -> tuple[int, int, int, int]:
    said: Any = checkpoint.net.get("out_layers", _KEPT.get(depth))
    is_list = isinstance(said, list | tuple) and all(type(layer) is int for layer in said)
    layers = sorted(set(said)) if is_list else []
    if len(layers) != 4 or len(said) != 4 or not first_joint <= layers[0] <= layers[3] < depth:
        raise FileError(
            f"'{checkpoint.source}': the heads read the layers {shown(said)}; expected four of "
            f"the {depth} layers from {first_joint} on, each once, as config.net.out_layers in "
            f"the config.json beside the weights; {remedy()}"
        )
    first, second, third, fourth = layers
    return first, second, third, fourth


def _heads(checkpoint: Checkpoint, channels: int) -> int:
    """Attention heads leave no trace in the shapes but where queries are normalised."""
    norms = [key for key in checkpoint.shapes if key.endswith(".attn.q_norm.weight")]
    width = checkpoint.shapes[norms[0]][0] if norms else 64
    # Half of a head's channels rotate with the row, in pairs; the camera encoder has 16 heads.
    if not width or channels % width or width % 4 or channels % 16:
        raise FileError(
            f"'{checkpoint.source}': {channels} channels do not split into attention heads of "
            f"{width}; is it Depth Anything 3? If not, {remedy()}"
        )
    return channels // width


def _agree(checkpoint: Checkpoint, key: str, found: int) -> None:
    said = checkpoint.net.get(key, found)
    if said != found:
        raise FileError(
            f"'{checkpoint.source}': config.json says {key} {shown(said)}, and the tensors say "
            f"{found}; the two files are of different models; {remedy()}"
        )


def _numbers(checkpoint: Checkpoint, pattern: str) -> set[int]:
    found = (re.match(pattern, key) for key in checkpoint.shapes)
    return {int(match[1]) for match in found if match}


def _count(checkpoint: Checkpoint, pattern: str) -> int:
    """How many layers there are; a gap between them is missed when their tensors are."""
    return min(1 + max(_numbers(checkpoint, pattern), default=-1), 100)
