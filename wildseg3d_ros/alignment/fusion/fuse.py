"""World pointmaps at full resolution from aligned pairs, streamed in blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.upsampling import upsampled
from wildseg3d_ros.alignment.fusion.view_maps import (
    Camera,
    Observation,
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
"""Coordinates in a block of observations on the CPU. Half as many cost 1.1 times the processor
time (the interpreter's), twice as many 1.8 times (page faults of the temporaries)."""

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
    like = _device_array(config.device)
    parts = [_view(predictions, views, v, alignment, posed, like) for v in range(len(views))]
    points, confidence, blocks = (list(part) for part in zip(*parts, strict=True))
    _run(blocks)
    is_mean = [of_view is not None for of_view in blocks]
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
    points[changed], confidence[changed], blocks = _view(
        pairs, views, changed, alignment, posed, _device_array(config.device)
    )
    if blocks is not None:
        _run([blocks])
        moving = [v == changed for v in range(len(views))]
        _average_along_rays(points, confidence, moving, alignment)
    return WorldPointmaps(tuple(points), tuple(confidence))


def _device_array(name: str) -> Array | None:
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
    except ImportError as error:
        raise ConfigError(
            f"alignment.device '{name}' needs PyTorch, which is not installed; install it with "
            "pip install torch, or choose 'cpu' or 'auto'"
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
) -> tuple[NDArray[np.float32], NDArray[np.float32], _Blocks | None]:
    """Points and confidence of one view; where they are the mean of several maps, the blocks that
    are still to be filled in."""
    seen, size = posed.observations(maps_of(predictions, v)), views[v].size
    if not seen:
        nothing = np.full((*size, 3), np.nan, dtype=np.float32)
        return nothing, np.zeros(size, dtype=np.float32), None
    own = seen[0].map
    # Maps of several libraries are brought to that of the first.
    like = own.points if like is None else like
    if is_one_map(seen):
        maps = (as_array(m, like) for m in (own.points, own.confidence))
        posed_map = pose_once(seen, alignment.world_from_cam[v], *maps)
        return to_numpy(posed_map[0]), to_numpy(posed_map[1]), None
    blocks = _Blocks.of(seen, size, alignment, v, like)
    return blocks.points.reshape(*size, 3), blocks.confidence.reshape(size), blocks


@dataclass(frozen=True, eq=False)
class _Blocks:
    """The mean of a view's observations, block by block; blocks share nothing but the output.

    Attributes:
        points: (m, 3) and confidence: (m,), to be filled in.
        fill: does so with the block that begins at a pixel; starts: the first pixels of blocks.
        on_host: whether it runs on the processor.
    """

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    fill: Callable[[int], None]
    starts: range
    on_host: bool

    @classmethod
    def of(
        cls,
        seen: list[Observation],
        size: tuple[int, int],
        alignment: Alignment,
        v: int,
        like: Array,
    ) -> _Blocks:
        """Of view ``v``, in the library and on the device of ``like``."""
        correction = alignment.correction(v)
        pose = invert(correction) @ alignment.world_from_cam[v]
        maps = ViewMaps(seen, Camera.of(alignment.K[v], pose, size[1]), like)
        points = np.empty((maps.count, 3), dtype=np.float32)
        confidence = np.empty(maps.count, dtype=np.float32)
        # Points are relative to the camera: correction and camera centre are applied at once.
        rotation = correction[:3, :3].astype(np.float32)
        centre = alignment.world_from_cam[v, :3, 3].astype(np.float32)
        on_host = is_on_host(like)
        block = max(1024, (_BLOCK_VALUES if on_host else _GPU_BLOCK_VALUES) // (3 * len(seen)))

        def fill(first: int) -> None:
            part = slice(first, min(first + block, maps.count))
            chi, fused = maps.mean(part)
            np.add(to_numpy(chi).T @ rotation.T, centre, out=points[part])
            confidence[part] = to_numpy(fused)

        return cls(points, confidence, fill, range(0, maps.count, block), on_host)


@blas_on_one_thread()
def _run(views: Sequence[_Blocks | None]) -> None:
    """Fills in the blocks of all views. Blocks are the parallelism, but on a GPU."""
    there = [blocks for blocks in views if blocks is not None]
    work = [partial(blocks.fill, first) for blocks in there for first in blocks.starts]
    run_all(lambda fill: fill(), work, THREADS if all(b.on_host for b in there) else 1)


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

    run_all(work, np.flatnonzero(is_mean))
