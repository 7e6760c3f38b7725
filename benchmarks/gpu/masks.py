"""The whole stage of SAM 2: sam2.1-hiera-small with random weights on a constructed scene.

Masks of random weights mean nothing, so the objects that are tracked and associated are tiles.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.measuring import Device, Rates
from wildseg3d_ros.masks.association import Tracks, associate
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.generation import segment_everything
from wildseg3d_ros.masks.sam2.network import Sam2Network
from wildseg3d_ros.masks.sam2.tracking import (
    choose_anchors,
    image_similarity,
    order_by_closeness,
    track,
    views_closeness,
)
from wildseg3d_testing.association import seen_world
from wildseg3d_testing.scenes import construct_scene

ANCHORS = 3
PROMPTS = 64
"""Points that are decoded at once, as the back end has them on a GPU."""


def write_published_architecture(folder: Path) -> None:
    """sam2.1-hiera-small with random weights, as transformers saves it."""
    import torch
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "blocks_per_stage": [1, 2, 11, 2],
        "global_attention_blocks": [7, 10, 13],
    }
    config = Sam2VideoConfig(
        vision_config={"model_type": "sam2_vision_model", "backbone_config": backbone}
    )
    Sam2VideoModel(config).save_pretrained(folder)


def tiles(size: tuple[int, int], objects: int) -> NDArray[np.int32]:
    """(H, W) labels 1 to ``objects``, a multiple of 6, that cover an image."""
    v, u = np.indices(size)
    columns = objects // 6
    return (1 + v * 6 // size[0] * columns + u * columns // size[1]).astype(np.int32)


def sam2(
    device: Device,
    rates: Rates,
    views: int,
    grid: int,
    objects: int,
    size: tuple[int, int] = (480, 640),
    write_weights: Callable[[Path], object] = write_published_architecture,
) -> None:
    """Every step of the stage: ``grid`` points a side in each view, ``objects`` followed."""
    config = Sam2MaskConfig(grid=grid, device=str(device.torch), predicted_iou=0.0)
    with tempfile.TemporaryDirectory() as folder:
        write_weights(Path(folder))
        network = Sam2Network(
            Sam2MaskConfig(weights=folder, device=str(device.torch), anchors=ANCHORS)
        )
    truth = construct_scene(views, size[1], size[0], 12, 0, 360.0 * (1 - 1 / views), identical=4)
    name = str(network.dtype).removeprefix("torch.")
    embeddings = [network.encode(view.image) for view in truth.views]
    device.measure(
        f"SAM 2 small, {views} views encoded, {name}",
        lambda: [network.encode(view.image) for view in truth.views],
        rates,
    )
    device.measure(
        f"SAM 2, a grid of {grid}x{grid} points in each of {views} views, masks kept",
        lambda: [
            segment_everything(network, e, config, PROMPTS, lambda _: None) for e in embeddings
        ],
        rates,
    )
    world, visibility = seen_world(truth)
    order = order_by_closeness(views_closeness(world, visibility, image_similarity(embeddings)))
    labels = [tiles(view.size, objects) for view in truth.views]
    anchors = choose_anchors(order, ANCHORS)

    def followed() -> list[Tracks]:
        return [
            each
            for a in anchors
            for each in track(
                network, embeddings, labels[a][None], a, order, objects, lambda _: None
            )
        ]

    title = f"SAM 2, {objects} objects from {len(anchors)} of {views} views followed"
    device.measure(title, followed, rates)
    tracks = followed()
    device.measure(
        "masks associated (processor)",
        lambda: associate(labels, world, visibility, tracks),
        rates,
    )
