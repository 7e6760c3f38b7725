"""The usual optimiser of pairwise pointmaps: Adam over every pixel's depth.

As DUSt3R's global alignment does it (Wang et al., CVPR 2024, section 3.4): unknowns are a depth
per pixel, a pose and a focal length per camera, and a pose and a scale per pair; the cost is the
mean of ``W |chi - sigma P x|`` over all pixels of all pairs, W = log C or C; 300 steps with a
learning rate that falls from 0.01 along a cosine. It starts, as there, from poses along a maximum
spanning tree. Focal lengths that are known stay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.initialization import initialize
from wildseg3d_ros.alignment.graph.sampling import build_graph
from wildseg3d_ros.core.geometry.transforms import nearest_rotation
from wildseg3d_ros.core.types import PairPrediction, View

STEPS = 300
_RATE, _LAST_RATE = 0.01, 1e-6


@dataclass(frozen=True, eq=False)
class AdamResult:
    """World points (H, W, 3) per view, cameras (N, 4, 4), steps, and median seconds of a step."""

    points: tuple[NDArray[np.float32], ...]
    world_from_cam: NDArray[np.float64]
    steps: int
    step_seconds: float


def _rotation(quaternion: Tensor) -> Tensor:
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).reshape(*quaternion.shape[:-1], 3, 3)


def _quaternion(rotation: NDArray) -> NDArray:
    """(w, x, y, z) by the eigenvector form."""
    m = rotation
    k = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [0.0, m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [0.0, 0.0, m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [0.0, 0.0, 0.0, m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    return np.linalg.eigh(k, UPLO="U")[1][:, -1]


def run(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    weighting: Literal["log", "plain"] = "log",
    steps: int = STEPS,
    schedule: int | None = None,
) -> AdamResult:
    """Optimises on one thread.

    Args:
        weighting: W = log C, as published, or C.
        steps: to take; schedule: length of the falling rate (default: ``steps``).
    """
    torch.set_num_threads(1)
    count, pairs = len(views), len(predictions)
    graph = build_graph(predictions, views, AlignmentConfig(weighting="confidence"), None)
    poses = initialize(graph)
    size = float(np.exp(-np.log(graph.unit).mean()))
    scale0 = poses.scale / graph.unit / size
    rotation0 = poses.rotation
    translation0 = poses.translation / size

    height, width = views[0].size
    rows, cols = np.mgrid[:height, :width]
    grid = torch.from_numpy(
        np.stack([cols - (width - 1) / 2, rows - (height - 1) / 2], -1).reshape(-1, 2)
    ).float()
    edges = torch.tensor([(p.a, p.b) for p in predictions])
    maps = torch.from_numpy(np.stack([[p.pointmap_a, p.pointmap_b] for p in predictions])).reshape(
        pairs, 2, -1, 3
    )
    confidence = torch.from_numpy(
        np.stack([[p.confidence_a, p.confidence_b] for p in predictions])
    ).reshape(pairs, 2, -1)
    weight = confidence.log() if weighting == "log" else confidence

    camera = np.tile(np.eye(4), (count, 1, 1))
    depth = np.ones((count, height * width), dtype=np.float32)
    for v in range(count):
        own = [e for e, p in enumerate(predictions) if p.a == v]
        camera[v, :3, :3] = nearest_rotation(rotation0[own].sum(0))
        camera[v, :3, 3] = translation0[own].mean(0)
        z = [scale0[e] * maps[e, 0, :, 2].numpy() for e in own]
        depth[v] = np.maximum(np.mean(z, axis=0), 1e-3)
    focal = [view.K[0, 0] if view.K is not None else float(width) for view in views]

    def unknown(values: NDArray | list) -> Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32, requires_grad=True)

    cam_rotation = unknown([_quaternion(c[:3, :3]) for c in camera])
    cam_shift = unknown(camera[:, :3, 3])
    pair_rotation = unknown([_quaternion(r) for r in rotation0])
    pair_shift, pair_log = unknown(translation0), unknown(np.log(scale0))
    log_depth, log_focal = unknown(np.log(depth)), unknown(np.log(focal))
    unknowns = [cam_rotation, cam_shift, pair_rotation, pair_shift, pair_log, log_depth]
    if any(view.K is None for view in views):
        unknowns.append(log_focal)
    adam = torch.optim.Adam(unknowns, lr=_RATE, betas=(0.9, 0.9))

    def world() -> Tensor:
        z = log_depth.exp()[..., None]
        ray = torch.cat([grid / log_focal.exp()[:, None, None], torch.ones_like(z)], -1)
        return (z * ray) @ _rotation(cam_rotation).mT + cam_shift[:, None]

    seconds = []
    for step in range(steps):
        start = time.perf_counter()
        share = step / (schedule or steps)
        rate = _LAST_RATE + (_RATE - _LAST_RATE) * (1 + math.cos(math.pi * share)) / 2
        for group in adam.param_groups:
            group["lr"] = rate
        adam.zero_grad()
        chi = world()
        sigma = (pair_log - pair_log.mean()).exp()
        linear = sigma[:, None, None] * _rotation(pair_rotation)
        loss = chi.new_zeros(())
        for side in (0, 1):
            y = maps[:, side] @ linear.mT + sigma[:, None, None] * pair_shift[:, None]
            distance = (chi[edges[:, side]] - y).norm(dim=-1)
            loss = loss + (weight[:, side] * distance).mean()
        loss.backward()
        adam.step()
        seconds.append(time.perf_counter() - start)
    with torch.no_grad():
        points = world().reshape(count, height, width, 3).numpy()
        camera[:, :3, :3] = _rotation(cam_rotation).numpy()
        camera[:, :3, 3] = cam_shift.numpy()
    return AdamResult(tuple(points), camera, steps, float(np.median(seconds)))
