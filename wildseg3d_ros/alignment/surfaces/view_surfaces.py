"""From solved pairs to views whose surfaces agree."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.fusion.view_maps import (
    Camera,
    Observation,
    PlacedPairs,
    ViewMaps,
    is_one_map,
    observations_of,
    pose_once,
)
from wildseg3d_ros.alignment.graph.reads import Reads
from wildseg3d_ros.alignment.graph.weights import largest_confidence
from wildseg3d_ros.alignment.surfaces.correspondences import Surface, grid_of
from wildseg3d_ros.alignment.surfaces.joint_refinement import Looseness, settle
from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.core.types import MaskCache, PairPrediction, View

_BACKGROUND = 0.3
"""Weight of a point that is surely on no object: backgrounds hold cameras, objects are wanted."""


def settle_views(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    masks: MaskCache | None,
    placed: PlacedPairs,
    world_from_cam: NDArray[np.float64],
    K: NDArray[np.float64],
    residual: float,
    deviations: tuple[NDArray[np.float64], NDArray[np.float64]],
    device: torch.device,
    reads: Reads,
) -> NDArray[np.float64]:
    """(N, 4, 4) rigid motions of the views onto what the others see; see :func:`settle`.

    Args:
        placed: the solved pairs; world_from_cam: (N, 4, 4) cameras in the same world.
        residual: by which pairs contradict each other [world units].
        deviations: (N,) of known camera positions [world units] and orientations [rad], inf where
            nothing is known.
    """
    seen = [observations_of(predictions, placed, v) for v in range(len(views))]
    if not all(seen):
        return np.tile(np.eye(4), (len(views), 1, 1))

    def surface(v: int) -> Surface:
        scores = None if masks is None else masks.scores[v]
        return surface_of(seen[v], views[v].size, scores, K[v], world_from_cam[v], device, reads)

    # Reading maps waits for memory: a second thread halves it.
    with ThreadPoolExecutor(THREADS) as pool:
        surfaces = list(pool.map(surface, range(len(views))))
    reach = np.ones(len(views))
    for v, s in enumerate(surfaces):
        far = (s.points - s.centre).square().sum(-1).sqrt_()[s.weight > 0]
        reach[v] = max(float(far.median()), 1e-300) if far.numel() else 1.0
    return settle(surfaces, Looseness(residual / reach, *deviations))


def surface_of(
    seen: list[Observation],
    size: tuple[int, int],
    scores: NDArray[np.float32] | None,
    K: NDArray[np.float64],
    world_from_cam: NDArray[np.float64],
    device: torch.device,
    reads: Reads,
) -> Surface:
    """The mean of a view's observations on the grid of surfaces.

    Args:
        seen: one or more; scores: (H, W) soft mask, None for 1 everywhere.
        K, world_from_cam: of its camera.
    """
    rows, cols = grid_of(size)
    grid = np.ix_(rows, cols)
    if is_one_map(seen):
        chi, confidence = pose_once(seen, world_from_cam, grid)
        points = torch.from_numpy(chi)
        sure = torch.from_numpy(confidence).clamp_max(largest_confidence(confidence))
    else:
        maps = ViewMaps(seen, size, Camera.of(K, world_from_cam), device, reads)
        flat, sure = maps.mean_at((rows[:, None] * size[1] + cols).ravel(), "surface")
        sure = sure.view(len(rows), len(cols))
        points = flat.T.reshape(*sure.shape, 3) + flat.new_tensor(world_from_cam[:3, 3])
    valid = sure > 0
    weight = sure / sure[valid].median() if bool(valid.any()) else sure
    if scores is not None:
        score = np.nan_to_num(scores[grid].astype(np.float32), nan=1.0)
        weight = weight * torch.from_numpy(_BACKGROUND + (1.0 - _BACKGROUND) * score).to(weight)
    return Surface(points.to(device), weight.to(device), rows, cols, K, world_from_cam)
