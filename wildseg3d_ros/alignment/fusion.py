"""World pointmaps at full resolution from aligned pairs, streamed in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.graph import array_key, check_pairs, choose_device
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.errors import InputError
from wildseg3d_ros.geometry.transforms import apply, make_transform
from wildseg3d_ros.types import Alignment, PairPrediction, View, WorldPointmaps

_BLOCK_VALUES = 1 << 18
"""Coordinates in a block of observations on the CPU: 1 MB of float32 stays in the cache."""

_CUDA_BLOCK_VALUES = 1 << 26

_THREADS = 2

_PASSES = 10
"""Upper bound of Weiszfeld passes; most pixels need fewer."""


@dataclass(frozen=True, eq=False)
class _Observation:
    """One pair's map of a view and its similarity to the world."""

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    scale: float
    world_from_map: NDArray[np.float64]
    own_frame: bool


def fuse(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    alignment: Alignment,
    config: AlignmentConfig,
) -> WorldPointmaps:
    """See :func:`wildseg3d_ros.alignment.fuse`."""
    check_pairs(predictions, views)
    edges = np.array([(p.a, p.b) for p in predictions]).reshape(-1, 2)
    if not np.array_equal(edges, alignment.edges):
        raise InputError(
            f"the alignment is of {len(alignment.edges)} pairs, these are {len(edges)} other "
            "ones; fuse the pairs that were aligned, in the same order"
        )
    device = choose_device(config.device)
    points, confidence = [], []
    for v, view in enumerate(views):
        seen = _observations(predictions, alignment, v)
        if not seen:
            points.append(np.full((*view.size, 3), np.nan, dtype=np.float32))
            confidence.append(np.zeros(view.size, dtype=np.float32))
        elif _is_one_map(seen):
            pose = alignment.world_from_cam[v] if seen[0].own_frame else seen[0].world_from_map
            chi, sure = _pose_once(seen, pose)
            points.append(chi)
            confidence.append(sure)
        else:
            chi, sure = _fuse_view(seen, view.size, device)
            points.append(chi)
            confidence.append(sure)
    return WorldPointmaps(tuple(points), tuple(confidence))


def _observations(
    predictions: Sequence[PairPrediction], alignment: Alignment, view: int
) -> list[_Observation]:
    """The used pairs' maps of a view."""
    own_maps = {array_key(p.pointmap_a) for p in predictions if p.a == view}
    out = []
    for e, pair in enumerate(predictions):
        if view not in (pair.a, pair.b) or not alignment.pair_used[e]:
            continue
        scale, pose = float(alignment.pair_scale[e]), alignment.world_from_pair[e]
        if pair.a == view:
            out.append(_Observation(pair.pointmap_a, pair.confidence_a, scale, pose, True))
            continue
        # world = R s (A x + t_A) + t: the scale moves through A onto its translation.
        a_from_map = np.array(pair.a_from_map_b, dtype=np.float64)
        a_from_map[:3, 3] *= scale
        own = not np.array_equal(pair.a_from_map_b, np.eye(4)) or (
            array_key(pair.pointmap_b) in own_maps
        )
        out.append(_Observation(pair.pointmap_b, pair.confidence_b, scale, pose @ a_from_map, own))
    return out


def _is_one_map(seen: list[_Observation]) -> bool:
    """Whether all observations are rigid copies of one array, which say nothing new per pixel."""
    keys = {(array_key(o.points), array_key(o.confidence)) for o in seen}
    return len(keys) == 1 and (len(seen) == 1 or all(o.own_frame for o in seen))


def _pose_once(
    seen: list[_Observation], pose: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scale = np.exp(np.mean(np.log([o.scale for o in seen])))
    scaled = make_transform(scale * pose[:3, :3], pose[:3, 3])
    confidence = np.nan_to_num(seen[0].confidence, nan=0.0, posinf=0.0).astype(np.float32)
    points = apply(scaled, np.asarray(seen[0].points, dtype=np.float32))
    valid = (confidence > 0) & np.isfinite(points).all(-1)
    points[~valid] = np.nan
    return points, np.where(valid, confidence, np.float32(0.0))


def _fuse_view(
    seen: list[_Observation], size: tuple[int, int], device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fuses a view block by block; blocks are independent and share nothing but the output."""
    count = size[0] * size[1]
    maps = [np.ascontiguousarray(o.points, dtype=np.float32).reshape(-1, 3) for o in seen]
    sures = [np.ascontiguousarray(o.confidence, dtype=np.float32).reshape(-1) for o in seen]
    poses = np.stack([o.world_from_map for o in seen])
    # Worlds may lie far from the origin; float32 keeps its digits near the pairs.
    origin = poses[:, :3, 3].mean(0)
    linear = torch.from_numpy(
        np.stack([o.scale * o.world_from_map[:3, :3] for o in seen]).astype(np.float32)
    ).to(device)
    shift = torch.from_numpy((poses[:, :3, 3] - origin).astype(np.float32)).to(device)
    points = np.empty((count, 3), dtype=np.float32)
    confidence = np.empty(count, dtype=np.float32)
    values = _BLOCK_VALUES if device.type == "cpu" else _CUDA_BLOCK_VALUES
    block = max(1024, values // (3 * len(seen)))

    def work(first: int) -> None:
        part = slice(first, min(first + block, count))
        x = torch.from_numpy(np.stack([m[part] for m in maps])).to(device)
        sure = torch.from_numpy(np.stack([s[part] for s in sures])).to(device)
        chi, fused = fuse_block(x, sure, linear, shift)
        points[part] = chi.cpu().numpy() + origin.astype(np.float32)
        confidence[part] = fused.cpu().numpy()

    starts = range(0, count, block)
    if device.type == "cpu" and len(starts) > 1:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(work, starts))
    else:
        for first in starts:
            work(first)
    return points.reshape(*size, 3), confidence.reshape(size)


def fuse_block(
    x: Tensor, confidence: Tensor, linear: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted geometric median of each pixel's observations (Weiszfeld), weights C^2.

    Args:
        x: (d, m, 3) observed points; confidence: (d, m).
        linear: (d, 3, 3) scaled rotations and shift: (d, 3), from each map to the world.

    Returns:
        points (m, 3), NaN where no observation has confidence, and their confidence (m,): the mean
        of the observations' confidences with the weights of the last pass, so that an observation
        that the others contradict does not vouch for the point.
    """
    y = torch.baddbmm(shift[:, None], x, linear.mT).permute(2, 0, 1).contiguous()
    valid = (confidence > 0) & torch.isfinite(confidence) & torch.isfinite(y).all(0)
    sure = torch.where(valid, confidence, 0.0)
    y = torch.where(valid, y, 0.0)
    weight = sure.square()
    any_valid = valid.any(0)

    def mean(robust: Tensor) -> Tensor:
        return (robust * y).sum(1) / robust.sum(0).clamp_min(1e-30)

    chi = mean(weight)
    robust = weight
    floor: Tensor | None = None
    if x.shape[0] > 1:
        for _ in range(_PASSES):
            distance = (y - chi[:, None]).square().sum(0).sqrt_()
            if floor is None:
                # Near an observation Weiszfeld's weight is unbounded; a hundredth of the spread is
                # close enough to the geometric median.
                spread = (weight * distance).sum(0) / weight.sum(0).clamp_min(1e-30)
                floor = 0.01 * spread + 1e-12
            robust = weight / torch.maximum(distance, floor)
            before, chi = chi, mean(robust)
            if bool(((chi - before).abs().amax(0) <= 0.1 * floor).all()):
                break
    fused = (robust * sure).sum(0) / robust.sum(0).clamp_min(1e-30)
    chi = torch.where(any_valid, chi, torch.nan)
    return chi.T.contiguous(), torch.where(any_valid, fused, 0.0)
