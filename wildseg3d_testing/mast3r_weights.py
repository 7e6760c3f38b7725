"""MASt3R networks and checkpoint files without trained weights, small or of the published size.

Every tensor is made from its key alone, so that numbers computed elsewhere with the same rule can
be compared: a standard normal draw of ``PCG64(crc32(key))``, divided by the root of the fan-in;
for vectors ``1 + 0.1 x`` where the key ends in ``weight``, else ``0.1 x``; the last convolution of
a head is scaled down once more, which keeps its points within a few units.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.pointmaps.mast3r.heads import HeadSizes
from wildseg3d_ros.pointmaps.mast3r.network import Architecture, Mast3r, published_name

SMALL = Architecture(
    encoder_channels=64,
    encoder_depth=2,
    encoder_heads=2,
    encoder_hidden=256,
    decoder_channels=48,
    decoder_depth=12,
    decoder_heads=3,
    decoder_hidden=192,
    head=HeadSizes(local_hidden=448),
)
"""Thin and, where depth does not matter, shallow; everything else as published."""

TINY = Architecture(
    encoder_channels=32,
    encoder_depth=1,
    encoder_heads=2,
    encoder_hidden=64,
    decoder_channels=24,
    decoder_depth=4,
    decoder_heads=2,
    decoder_hidden=48,
    head=HeadSizes(layers=(8, 8, 8, 8), features=16, last=8, local_hidden=32),
)
"""Milliseconds per pair, for tests of what surrounds the network."""


def weight_by_rule(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The tensor of a published key; see the module's text."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    x = rng.standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        x /= np.float32(math.sqrt(math.prod(shape[1:])))
    elif key.endswith("weight"):
        x = 1 + np.float32(0.1) * x
    else:
        x *= np.float32(0.1)
    return np.float32(0.1) * x if ".dpt.head.4." in key else x


def network_by_rule(architecture: Architecture = SMALL) -> Mast3r:
    """A float32 network on the processor with weights by the rule, ready to predict."""
    with torch.device("meta"):
        network = Mast3r(architecture)
    state = {
        name: torch.from_numpy(weight_by_rule(published_name(name), tuple(value.shape)))
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def write_checkpoint(folder: Path, architecture: Architecture = TINY) -> Path:
    """Writes ``model.safetensors`` and ``config.json`` as the hub has them; the file's path."""
    from safetensors.torch import save_file

    state = {
        published_name(name): value.contiguous()
        for name, value in network_by_rule(architecture).state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors")
    heads = {
        "enc_num_heads": architecture.encoder_heads,
        "dec_num_heads": architecture.decoder_heads,
    }
    (folder / "config.json").write_text(json.dumps(heads))
    return folder / "model.safetensors"
