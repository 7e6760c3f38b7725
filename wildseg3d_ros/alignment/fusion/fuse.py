"""World pointmaps at full resolution from aligned pairs, streamed in blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.upsampling import upsampled
from wildseg3d_ros.alignment.fusion.view_maps import (
    Camera,
    Observation,
    PlacedPairs,
    ViewMaps,
    is_one_map,
    observations_of,
    pose_once,
)
from wildseg3d_ros.alignment.graph.graph import check_pairs
from wildseg3d_ros.alignment.graph.weights import largest_confidence
from wildseg3d_ros.alignment.surfaces.correspondences import Surface, grid_of
from wildseg3d_ros.alignment.surfaces.joint_refinement import agree
from wildseg3d_ros.core.devices import torch_device
from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.core.types import Alignment, PairPrediction, View, WorldPointmaps

_BLOCK_VALUES = 1 << 20
"""Coordinates in a block of observations on the CPU: small enough for the cache, large enough that
two threads seldom wait for the interpreter."""

_CUDA_BLOCK_VALUES = 1 << 26


def fuse(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    alignment: Alignment,
    config: AlignmentConfig,
) -> WorldPointmaps:
    """See :func:`wildseg3d_ros.alignment.fuse`."""
    placed = _placed(predictions, views, alignment)
    device = torch_device(config.device, "alignment.device")
    with _Workers(device) as workers:
        parts = [
            _view(predictions, views, v, alignment, placed, device, workers)
            for v in range(len(views))
        ]
        points, confidence = [p[0] for p in parts], [p[1] for p in parts]
        is_mean = [p[2] for p in parts]
        if any(is_mean) and len(views) > 1:
            _agree(points, confidence, is_mean, alignment, workers)
    return WorldPointmaps(tuple(points), tuple(confidence))


def fuse_view(
    pairs: Sequence[PairPrediction],
    views: Sequence[View],
    changed: int,
    alignment: Alignment,
    world: WorldPointmaps,
    config: AlignmentConfig,
) -> WorldPointmaps:
    """See :func:`wildseg3d_ros.alignment.fuse_view`."""
    placed = _placed(pairs, views, alignment, (alignment.edges == changed).any(1))
    device = torch_device(config.device, "alignment.device")
    points, confidence = list(world.points[: len(views)]), list(world.confidence[: len(views)])
    # An added view has no place yet.
    points += points[:1] * (len(views) - len(points))
    confidence += confidence[:1] * (len(views) - len(confidence))
    with _Workers(device) as workers:
        points[changed], confidence[changed], is_mean = _view(
            pairs, views, changed, alignment, placed, device, workers
        )
        if is_mean:
            moving = [v == changed for v in range(len(views))]
            _agree(points, confidence, moving, alignment, workers)
    return WorldPointmaps(tuple(points), tuple(confidence))


def _placed(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    alignment: Alignment,
    rows: NDArray[np.bool_] | slice = slice(None),
) -> PlacedPairs:
    """Where the alignment has these pairs, in the same order at ``rows`` of all its pairs."""
    check_pairs(predictions, views)
    edges = np.array([(p.a, p.b) for p in predictions]).reshape(-1, 2)
    if not np.array_equal(edges, alignment.edges[rows]):
        raise InputError(
            f"the alignment is of {len(alignment.edges[rows])} pairs, these are {len(edges)} "
            "other ones; fuse the pairs that were aligned, in the same order"
        )
    return PlacedPairs(
        alignment.pair_scale[rows], alignment.world_from_pair[rows], alignment.pair_used[rows]
    )


def _view(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    v: int,
    alignment: Alignment,
    placed: PlacedPairs,
    device: torch.device,
    workers: _Workers,
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """Points and confidence of one view, and whether they are a mean of several maps."""
    seen, size = observations_of(predictions, placed, v), views[v].size
    if not seen:
        nothing = np.full((*size, 3), np.nan, dtype=np.float32)
        return nothing, np.zeros(size, dtype=np.float32), False
    if is_one_map(seen):
        return *pose_once(seen, alignment.world_from_cam[v]), False
    return *_mean(seen, size, alignment, v, device, workers), True


class _Workers:
    """Blocks are the parallelism; torch's own threads inside them would fight for the cores."""

    def __init__(self, device: torch.device) -> None:
        self._pool = None if device.type != "cpu" else ThreadPoolExecutor(THREADS)

    def __enter__(self) -> _Workers:
        self._before = torch.get_num_threads()
        if self._pool is not None:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        torch.set_num_threads(self._before)

    def run(self, work: Callable[[int], None], items: Sequence[int]) -> None:
        """Calls ``work`` with every item."""
        if self._pool is None or len(items) < 2:
            for item in items:
                work(item)
        else:
            list(self._pool.map(work, items))


def _mean(
    seen: list[Observation],
    size: tuple[int, int],
    alignment: Alignment,
    v: int,
    device: torch.device,
    workers: _Workers,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of a view's observations, block by block; blocks share nothing but the output."""
    correction = alignment.correction(v)
    camera = Camera.of(alignment.K[v], invert(correction) @ alignment.world_from_cam[v])
    maps = ViewMaps(seen, size, camera, device)
    points = np.empty((maps.count, 3), dtype=np.float32)
    confidence = np.empty(maps.count, dtype=np.float32)
    # Points are relative to the camera: the correction and its place are added at once.
    turn = correction[:3, :3].astype(np.float32)
    centre = alignment.world_from_cam[v, :3, 3].astype(np.float32)
    values = _BLOCK_VALUES if device.type == "cpu" else _CUDA_BLOCK_VALUES
    block = max(1024, values // (3 * len(seen)))

    def work(first: int) -> None:
        part = slice(first, min(first + block, maps.count))
        chi, fused = maps.mean(part)
        np.add(chi.cpu().numpy().T @ turn.T, centre, out=points[part])
        confidence[part] = fused.cpu().numpy()

    workers.run(work, range(0, maps.count, block))
    return points.reshape(*size, 3), confidence.reshape(size)


def _agree(
    points: list[NDArray[np.float32]],
    confidence: list[NDArray[np.float32]],
    is_mean: list[bool],
    alignment: Alignment,
    workers: _Workers,
) -> None:
    """Moves the points of views along their rays to what all views say, in place.

    Args:
        is_mean: views to do so with; measured maps stay as they were measured.
    """
    surfaces = []
    for v, (chi, sure) in enumerate(zip(points, confidence, strict=True)):
        rows, cols = grid_of(sure.shape)
        grid = np.ix_(rows, cols)
        surfaces.append(
            Surface(
                torch.from_numpy(chi[grid]),
                torch.from_numpy(sure[grid]).clamp_max(largest_confidence(sure[grid])),
                rows,
                cols,
                alignment.K[v],
                alignment.world_from_cam[v],
            )
        )
    only = is_mean.index(True) if sum(is_mean) == 1 else None
    changes = agree(surfaces, only)

    def work(v: int) -> None:
        if is_mean[v]:
            centre = alignment.world_from_cam[v, :3, 3].astype(np.float32)
            sight = points[v] - centre
            grown = upsampled(changes[v].numpy(), surfaces[v], sight)
            sight *= 1.0 + grown[..., None]
            points[v] = sight + centre

    workers.run(work, range(len(points)))
