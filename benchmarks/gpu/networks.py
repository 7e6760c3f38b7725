"""The networks that see whole images: MASt3R and Depth Anything 3, published sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.gpu.measuring import Device, Rates
from wildseg3d_ros.pointmaps.da3.network import Architecture, DepthAnything3, set_backbone_type
from wildseg3d_ros.pointmaps.mast3r.inference import Inference
from wildseg3d_ros.pointmaps.mast3r.matching import matched_flags
from wildseg3d_ros.pointmaps.mast3r.network import Architecture as Mast3rArchitecture
from wildseg3d_ros.pointmaps.mast3r.network import Mast3r
from wildseg3d_testing.da3_weights import BASE, SMALL

PUBLISHED = Mast3rArchitecture()
TYPES = (torch.bfloat16, torch.float32)
DA3_SIZES = {"small": SMALL, "base": BASE}


def mast3r(
    device: Device,
    rates: Rates,
    views: int,
    size: tuple[int, int],
    architecture: Mast3rArchitecture = PUBLISHED,
) -> None:
    """All directed pairs of ``views`` images (height, width), the network alone and with matches
    and maps brought to the processor, as the back end has it."""
    pairs = [(a, b) for a in range(views) for b in range(views) if a != b]
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(views)]
    for dtype in TYPES:
        network = random_weights(Mast3r, architecture, device).shortened(dtype)
        run, name = Inference(network), str(dtype).removeprefix("torch.")
        title = f"MASt3R, {views} views, {len(pairs)} directed pairs, {name}"
        device.measure(title, lambda run=run: _pairs(run, images, pairs, False), rates)
        title += ", with matches, maps on the processor"
        device.measure(title, lambda run=run: _pairs(run, images, pairs, True), rates)
        del network, run
        _forget(device)


def _pairs(
    run: Inference, images: list[NDArray[np.uint8]], pairs: list[tuple[int, int]], fetch: bool
) -> None:
    for _, one, two in run.decode(dict(enumerate(run.encode(images))), pairs):
        if fetch:
            flags = matched_flags(one.descriptors, two.descriptors)
            for each in (*flags, one.points, two.points, one.confidence, two.confidence):
                each.cpu()


def da3(
    device: Device,
    rates: Rates,
    views: int,
    size: tuple[int, int],
    sizes: dict[str, Architecture] = DA3_SIZES,
) -> None:
    """``views`` images (height, width) at once, cameras unknown, by each of the sizes."""
    images = [torch.randn(3, *size, device=device.torch) for _ in range(views)]
    for label, architecture in sizes.items():
        for dtype in TYPES:
            network = random_weights(DepthAnything3, architecture, device)
            set_backbone_type(network, dtype)
            name = str(dtype).removeprefix("torch.")

            def work(network: Any = network) -> None:
                with torch.inference_mode():
                    network(images)

            device.measure(f"Depth Anything 3 {label}, {views} views, {name}", work, rates)
            del network, work
            _forget(device)


def random_weights(kind: Any, architecture: Any, device: Device) -> Any:
    """A network of small random weights: time does not depend on their values."""
    with torch.device("meta"):
        network: nn.Module = kind(architecture)
    network = network.to_empty(device=device.torch).eval().requires_grad_(False)
    torch.manual_seed(0)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.uniform_(-0.03, 0.03)
    return network


def _forget(device: Device) -> None:
    """Lets the memory of the last network go."""
    if device.is_gpu:
        torch.cuda.empty_cache()
