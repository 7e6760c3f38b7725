"""World pointmaps at full resolution from aligned pairs, streamed in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.upsampling import upsampled
from wildseg3d_ros.alignment.fusion.view_maps import (
    Camera,
    PosedPairs,
    ViewMaps,
    is_one_map,
    pose_once,
)
from wildseg3d_ros.alignment.graph.graph import check_pairs
from wildseg3d_ros.alignment.graph.pair_maps import maps_of
from wildseg3d_ros.alignment.graph.weights import largest_confidence
from wildseg3d_ros.alignment.surfaces.correspondences import Surface, grid_of
from wildseg3d_ros.alignment.surfaces.joint_refinement import average_along_rays
from wildseg3d_ros.core.arrays import Array, as_array, is_on_host, to_numpy
from wildseg3d_ros.core.devices import blas_on_one_thread, torch_device
from wildseg3d_ros.core.errors import ConfigError, InputError
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.parallel import THREADS, run_all
from wildseg3d_ros.core.types import Alignment, PairPrediction, View, WorldPointmaps

_BLOCK_VALUES = 1 << 18
"""Coordinates in a block of observations on the CPU. On two idle cores, half as many cost 1.25
times the processor time with 56 pairs of 512x384 (the interpreter's); twice as many saved 5 %
there, and cost page faults of the temporaries on a loaded machine."""

_GPU_BLOCK_VALUES = 1 << 26
"""The same on a GPU, where few large blocks are fastest: 256 MiB a temporary array."""


def fuse(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    alignment: Alignment,
    config: AlignmentConfig,
) -> WorldPointmaps:
    """See :func:`wildseg3d_ros.alignment.fuse`."""
    posed = _posed(predictions, views, alignment)
    like = device_array(config.device)
    parts = [_view(predictions, views, v, alignment, posed, like) for v in range(len(views))]
    points, confidence, fills = (list(part) for part in zip(*parts, strict=True))
    _run(fills, predictions, like)
    is_mean = [len(of_view) > 0 for of_view in fills]
    if any(is_mean) and len(views) > 1:
        _average_along_rays(points, confidence, is_mean, alignment)
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
    posed = _posed(pairs, views, alignment, (alignment.edges == changed).any(1))
    points, confidence = list(world.points[: len(views)]), list(world.confidence[: len(views)])
    # An added view has no points yet.
    points += points[:1] * (len(views) - len(points))
    confidence += confidence[:1] * (len(views) - len(confidence))
    like = device_array(config.device)
    points[changed], confidence[changed], fills = _view(
        pairs, views, changed, alignment, posed, like
    )
    if fills:
        _run([fills], pairs, like)
        moving = [v == changed for v in range(len(views))]
        _average_along_rays(points, confidence, moving, alignment)
    return WorldPointmaps(tuple(points), tuple(confidence))


def device_array(name: str) -> Array | None:
    """An array of the library and on the device of the setting ``alignment.device``; None where
    maps stay where they are.

    Raises:
        ConfigError: no such device, or no PyTorch that reaches it.
    """
    if name == "auto":
        return None
    if name == "cpu":
        return np.empty(0)
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"alignment.device={name} needs the Python module 'torch', which is not installed: "
            "`make setup EXTRAS=mast3r` in a clone, else `pip install 'wildseg3d[mast3r]'`; or "
            "choose 'cpu' or 'auto'"
        ) from error
    return torch.empty(0, device=torch_device(name, "alignment.device"))


def _posed(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    alignment: Alignment,
    rows: NDArray[np.bool_] | slice = slice(None),
) -> PosedPairs:
    """Where the alignment has these pairs, in the same order at ``rows`` of all its pairs."""
    check_pairs(predictions, views)
    edges = np.array([(p.a, p.b) for p in predictions]).reshape(-1, 2)
    if not np.array_equal(edges, alignment.edges[rows]):
        raise InputError(
            f"the alignment is of {len(alignment.edges[rows])} pairs, these are {len(edges)} "
            "other ones; fuse the pairs that were aligned, in the same order"
        )
    return PosedPairs(
        alignment.pair_scale[rows], alignment.world_from_pair[rows], alignment.pair_used[rows]
    )


def _view(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    v: int,
    alignment: Alignment,
    posed: PosedPairs,
    like: Array | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Callable[[], None]]]:
    """Points and confidence of one view; where they are the mean of several maps, what is still to
    be called to fill them in, block by block. Blocks share nothing but the output."""
    seen, size = posed.observations(maps_of(predictions, v)), views[v].size
    if not seen:
        nothing = np.full((*size, 3), np.nan, dtype=np.float32)
        return nothing, np.zeros(size, dtype=np.float32), []
    own = seen[0].map
    # Maps of several libraries are brought to that of the first.
    like = own.points if like is None else like
    if is_one_map(seen):
        maps = (as_array(m, like) for m in (own.points, own.confidence))
        posed_map = pose_once(seen, alignment.world_from_cam[v], *maps)
        return to_numpy(posed_map[0]), to_numpy(posed_map[1]), []
    correction = alignment.correction(v)
    pose = invert(correction) @ alignment.world_from_cam[v]
    maps = ViewMaps(seen, Camera.of(alignment.K[v], pose, size[1]), like)
    points = np.empty((maps.count, 3), dtype=np.float32)
    confidence = np.empty(maps.count, dtype=np.float32)
    # Points are relative to the camera: correction and camera centre are applied at once.
    rotation = correction[:3, :3].astype(np.float32)
    centre = alignment.world_from_cam[v, :3, 3].astype(np.float32)
    values = _BLOCK_VALUES if is_on_host(like) else _GPU_BLOCK_VALUES
    # However many observations: threads would wait for the interpreter.
    block = max(1024, values // (3 * len(seen)))

    def fill(first: int) -> None:
        part = slice(first, min(first + block, maps.count))
        chi, fused = maps.mean(part)
        np.add(to_numpy(chi).T @ rotation.T, centre, out=points[part])
        confidence[part] = to_numpy(fused)

    fills = [partial(fill, first) for first in range(0, maps.count, block)]
    return points.reshape(*size, 3), confidence.reshape(size), fills


@blas_on_one_thread()
def _run(
    fills: Iterable[list[Callable[[], None]]],
    predictions: Sequence[PairPrediction],
    like: Array | None,
) -> None:
    """Fills in the blocks of all views. Blocks are the parallelism, but on a GPU."""
    arrays = [p.pointmap_a for p in predictions] if like is None else [like]
    threads = THREADS if all(map(is_on_host, arrays)) else 1
    run_all(lambda fill: fill(), [fill for of_view in fills for fill in of_view], threads)


def _average_along_rays(
    points: list[NDArray[np.float32]],
    confidence: list[NDArray[np.float32]],
    is_mean: list[bool],
    alignment: Alignment,
) -> None:
    """Moves the points of views along their rays to what all views say, in place.

    Args:
        is_mean: views to do so with; measured maps stay as they were measured.
    """
    surfaces = []
    for v, (chi, weight) in enumerate(zip(points, confidence, strict=True)):
        rows, cols = grid_of(weight.shape)
        grid = np.ix_(rows, cols)
        weight = np.minimum(weight[grid], largest_confidence(weight[grid]))
        pose = alignment.world_from_cam[v]
        surfaces.append(Surface(chi[grid], weight, rows, cols, alignment.K[v], pose))
    changes = average_along_rays(surfaces, is_mean.index(True) if sum(is_mean) == 1 else None)

    def work(v: int) -> None:
        centre = surfaces[v].centre
        sight = points[v] - centre
        change = upsampled(changes[v], surfaces[v], sight)
        sight *= 1.0 + change[..., None]
        sight += centre
        points[v] = sight

    run_all(work, np.flatnonzero(is_mean).tolist())
