"""Networks and weight files of Depth Anything 3 without trained weights.

Every tensor is made from its key alone, so that numbers computed elsewhere with the same rule can
be compared: a standard normal draw of ``PCG64(crc32(key))``, divided by the root of the fan-in;
tokens and embeddings of positions as they are drawn; vectors ``1 + 0.1 x`` where the key ends in
``weight``, ``0.5 + 0.1 x`` in ``gamma``, else ``0.1 x``. Depth and confidence, which are
exponentials, stay within a few units, and fields of view about 1 rad.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.pointmaps.da3.backbone import BackboneSizes
from wildseg3d_ros.pointmaps.da3.heads import HeadSizes
from wildseg3d_ros.pointmaps.da3.network import Architecture, DepthAnything3, published_name

TINY = Architecture(
    backbone=BackboneSizes(
        channels=32, depth=10, heads=2, hidden=128, first_joint=2, kept=(3, 5, 7, 9)
    ),
    head=HeadSizes(layers=(8, 16, 16, 32), features=16),
)
"""Milliseconds per view; every kind of layer that the published sizes have."""

SMALL = Architecture()
BASE = Architecture(
    backbone=BackboneSizes(channels=768, heads=12, hidden=3072),
    head=HeadSizes(layers=(96, 192, 384, 768), features=128),
)


def weight_by_rule(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The tensor of a published key; see the module's text."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    x = rng.standard_normal(shape).astype(np.float32)
    if key.endswith(("_token", "pos_embed")):
        return x
    if len(shape) > 1:
        x /= np.float32(math.sqrt(math.prod(shape[1:])))
        return np.float32(0.3) * x if (".output_conv2.2." in key or ".fc_fov." in key) else x
    offset = 1.0 if key.endswith(("weight", "fc_fov.0.bias")) else 0.0
    offset = 0.5 if key.endswith("gamma") else offset
    return np.float32(offset) + np.float32(0.1) * x


def network_by_rule(architecture: Architecture = TINY) -> DepthAnything3:
    """A float32 network on the processor with weights by the rule, ready to predict."""
    with torch.device("meta"):
        network = DepthAnything3(architecture)
    state = {
        name: torch.from_numpy(weight_by_rule(published_name(name), tuple(value.shape)))
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def description(architecture: Architecture = TINY, name: str = "da3-small") -> dict:
    """What the authors' ``config.json`` says, as far as it is read."""
    sizes = architecture.backbone
    net = {"out_layers": list(sizes.kept), "alt_start": sizes.first_joint}
    net |= {"num_heads": sizes.heads} if sizes.channels != 64 * sizes.heads else {}
    return {"model_name": name, "config": {"net": net}}


def write_checkpoint(
    folder: Path, architecture: Architecture = TINY, name: str = "da3-small"
) -> Path:
    """Writes ``model.safetensors`` and ``config.json`` as the hub has them; the folder."""
    from safetensors.torch import save_file

    state = {
        published_name(key): value.contiguous()
        for key, value in network_by_rule(architecture).state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(description(architecture, name)))
    return folder


def images_by_rule(views: int, height: int, width: int, seed: int = 1) -> list[torch.Tensor]:
    """Smooth random images (3, H, W), normalised: each a few waves, another in every channel."""
    rng = np.random.default_rng([seed, views, height, width])
    rows, cols = np.mgrid[0:height, 0:width] / max(height, width)
    waves = rng.uniform(-12.0, 12.0, (views, 3, 4, 2))
    phase = rng.uniform(0.0, 6.3, (views, 3, 4, 1, 1))
    angle = waves[..., 0, None, None] * rows + waves[..., 1, None, None] * cols + phase
    return list(torch.from_numpy(np.sin(angle).sum(axis=2).astype(np.float32)))


def cameras_by_rule(
    views: int, height: int, width: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses ``world_from_cam`` (N, 4, 4) about an object, and intrinsics (N, 3, 3)."""
    from wildseg3d_testing.scenes import ring_poses

    rng = np.random.default_rng([seed, views])
    poses = np.array(ring_poses(views, 20.0 * views, rng))
    focal = rng.uniform(0.8, 1.2, views) * width
    K = np.tile(np.eye(3), (views, 1, 1))
    K[:, 0, 0], K[:, 1, 1] = focal, 1.02 * focal
    K[:, 0, 2], K[:, 1, 2] = (width - 1) / 2, (height - 1) / 2
    return poses, K
