"""Parts of the SAM 2 mask stage on a processor: sam2.1-hiera-small with random weights.

Random weights take as long as trained ones. Their masks mean nothing, so the objects that are
followed are those of a constructed scene. The whole stage is for a GPU: ``benchmarks.gpu``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_testing.scenes import construct_scene

VIEWS = 8


def main() -> dict[str, Any]:
    """Seconds of the stage's parts."""
    import torch

    from benchmarks.gpu.masks import write_published_architecture
    from wildseg3d_ros.masks.sam2.network import Sam2Network

    with tempfile.TemporaryDirectory() as folder:
        write_published_architecture(Path(folder))
        network = Sam2Network(Sam2MaskConfig(weights=folder))
    truth = construct_scene(VIEWS, 640, 480, 12, 0, 360.0 * (1 - 1 / VIEWS), identical=4)
    return {"threads": torch.get_num_threads(), **_parts(network, truth)}


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
