"""Time of the SAM 2 mask stage: the published architecture (sam2.1-hiera-small), random weights.

Random weights take as long as trained ones. Their masks mean nothing, so the objects that are
tracked and associated are those of a constructed scene. On a machine without a GPU the parts of
the stage are timed one by one, and the whole is not.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from wildseg3d_ros.masks.association import associate
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_testing.association import seen_world
from wildseg3d_testing.scenes import construct_scene

VIEWS = 8
OBJECTS = 60
ANCHORS = 3
GRID = 32


def main() -> dict[str, Any]:
    """Seconds of the stage on a GPU, or of its parts on the processor."""
    import torch

    from wildseg3d_ros.masks.sam2.network import Sam2Network

    with tempfile.TemporaryDirectory() as folder:
        _write_published_architecture(Path(folder))
        network = Sam2Network(Sam2MaskConfig(weights=folder))
    truth = construct_scene(VIEWS, 640, 480, 12, 0, 360.0 * (1 - 1 / VIEWS), identical=4)
    if torch.cuda.is_available():
        return {"gpu": torch.cuda.get_device_name(), **_whole_stage(network, truth)}
    return {
        "whole stage": "not measured: no GPU at hand",
        "threads": torch.get_num_threads(),
        **_parts(network, truth),
    }


def _write_published_architecture(folder: Path) -> None:
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


def _tiles(labels: np.ndarray) -> np.ndarray:
    """OBJECTS masks that cover a view."""
    rows, columns = 6, OBJECTS // 6
    v, u = np.indices(labels.shape)
    row, column = v * rows // labels.shape[0], u * columns // labels.shape[1]
    return (1 + row * columns + column).astype(np.int32)


def _whole_stage(network: Any, truth: Any) -> dict[str, Any]:
    import torch

    from wildseg3d_ros.masks.sam2.generation import segment_everything
    from wildseg3d_ros.masks.sam2.tracking import (
        choose_anchors,
        image_similarity,
        order_by_closeness,
        track,
        views_closeness,
    )

    config = Sam2MaskConfig(grid=GRID, predicted_iou=0.0)
    seconds: dict[str, float] = {}

    def timed(name: str, call: Any) -> Any:
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = call()
        torch.cuda.synchronize()
        seconds[name] = time.perf_counter() - start
        return result

    network.encode(truth.views[0].image)  # kernels are chosen on the first call
    embeddings = timed("encode", lambda: [network.encode(v.image) for v in truth.views])
    timed(
        "segment everything",
        lambda: [segment_everything(network, e, config, 64, lambda _: None) for e in embeddings],
    )
    world, visibility = seen_world(truth)
    order = timed(
        "order views",
        lambda: order_by_closeness(
            views_closeness(world, visibility, image_similarity(embeddings))
        ),
    )
    labels = [_tiles(m) for m in truth.labels]
    tracks = timed(
        f"track {OBJECTS} objects from {ANCHORS} views",
        lambda: [
            each
            for a in choose_anchors(order, ANCHORS)
            for each in track(
                network, embeddings, labels[a][None], a, order, OBJECTS, lambda _: None
            )
        ],
    )
    timed("associate", lambda: associate(labels, world, visibility, tracks))
    peak = torch.cuda.max_memory_allocated() / 2**30
    return {"seconds": seconds, "whole stage [s]": sum(seconds.values()), "peak GPU GiB": peak}


def _parts(network: Any, truth: Any) -> dict[str, Any]:
    from wildseg3d_ros.masks.sam2.generation import grid_points
    from wildseg3d_ros.masks.sam2.tracking import track

    start = time.perf_counter()
    embeddings = [network.encode(view.image) for view in truth.views[:2]]
    encoded = time.perf_counter()
    points = grid_points(4, embeddings[0].size)[:, None]
    network.decode(embeddings[0], points, np.ones(points.shape[:2], np.int32))
    decoded = time.perf_counter()
    track(network, embeddings, truth.labels[0][None], 0, [0, 1], 4, lambda _: None)
    tracked = time.perf_counter()
    objects = len(np.unique(truth.labels[0])) - 1
    return {
        "encode a view [s]": (encoded - start) / 2,
        "decode a point [s]": (decoded - encoded) / len(points),
        "track an object into a view [s]": (tracked - decoded) / objects,
    }
