"""World pointmaps at full resolution from aligned pairs, streamed in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.graph import array_key, check_pairs, choose_device, is_identity
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.errors import InputError
from wildseg3d_ros.geometry.transforms import apply, make_transform
from wildseg3d_ros.types import Alignment, PairPrediction, View, WorldPointmaps

_BLOCK_VALUES = 1 << 18
"""Coordinates in a block of observations on the CPU: 1 MB of float32 stays in the cache."""

_CUDA_BLOCK_VALUES = 1 << 26

_THREADS = 2

_PROBES = 1024
"""Pixels on which it is checked that a camera sees its points."""

_RAY_TOLERANCE = 0.05
"""Median sine between points and rays beyond which a camera is taken as not located."""

_WEISZFELD_FLOOR = 0.1
"""Share of the spread below which distances count alike: Weiszfeld's weight is unbounded at 0."""

_PASSES = 8
"""Weiszfeld passes, the same for all pixels so that blocks do not matter: more change nothing."""

_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class _Observation:
    """One pair's map of a view and its similarity to the world."""

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    scale: float
    world_from_map: NDArray[np.float64]
    own_frame: bool
    metric: bool


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
            chi = np.full((*view.size, 3), np.nan, dtype=np.float32)
            sure = np.zeros(view.size, dtype=np.float32)
        elif _is_one_map(seen):
            chi, sure = _pose_once(seen, alignment.world_from_cam[v])
        else:
            camera = _Camera.of(alignment.K[v], alignment.world_from_cam[v])
            chi, sure = _fuse_view(seen, view.size, camera, device)
        points.append(chi)
        confidence.append(sure)
    return WorldPointmaps(tuple(points), tuple(confidence))


@dataclass(frozen=True, eq=False)
class _Camera:
    """Where the rays of a view's pixels start and where they lead."""

    world_from_pixel: NDArray[np.float64]
    centre: NDArray[np.float64]

    @classmethod
    def of(cls, K: NDArray[np.float64], world_from_cam: NDArray[np.float64]) -> _Camera:
        return cls(world_from_cam[:3, :3] @ np.linalg.inv(K), world_from_cam[:3, 3])

    def directions(self, first: int, last: int, width: int) -> NDArray[np.float32]:
        """(3, m) unit directions of the pixels ``first`` to ``last`` in row order."""
        row, col = np.divmod(np.arange(first, last), width)
        ray = self.world_from_pixel @ np.stack([col, row, np.ones_like(row)])
        return (ray / np.linalg.norm(ray, axis=0)).astype(np.float32)


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
            out.append(
                _Observation(pair.pointmap_a, pair.confidence_a, scale, pose, True, pair.metric)
            )
            continue
        # world = R s (A x + t_A) + t: the scale moves through A onto its translation.
        a_from_map = np.array(pair.a_from_map_b, dtype=np.float64)
        a_from_map[:3, 3] *= scale
        own = not is_identity(pair.a_from_map_b) or (array_key(pair.pointmap_b) in own_maps)
        out.append(
            _Observation(
                pair.pointmap_b, pair.confidence_b, scale, pose @ a_from_map, own, pair.metric
            )
        )
    return out


def _is_one_map(seen: list[_Observation]) -> bool:
    """Whether all observations are rigid copies of one array, which say nothing new per pixel."""
    keys = {(array_key(o.points), array_key(o.confidence)) for o in seen}
    return len(keys) == 1 and all(o.own_frame for o in seen) and (len(seen) > 1 or seen[0].metric)


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
    seen: list[_Observation], size: tuple[int, int], camera: _Camera, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fuses a view block by block; blocks are independent and share nothing but the output."""
    count = size[0] * size[1]
    maps = [np.ascontiguousarray(o.points, dtype=np.float32).reshape(-1, 3) for o in seen]
    sures = [np.ascontiguousarray(o.confidence, dtype=np.float32).reshape(-1) for o in seen]
    # Worlds may lie far from the origin; float32 keeps its digits near the camera.
    origin = camera.centre
    linear = np.stack([o.scale * o.world_from_map[:3, :3] for o in seen]).astype(np.float32)
    shift = np.stack([o.world_from_map[:3, 3] - origin for o in seen]).astype(np.float32)
    linear, shift = torch.from_numpy(linear).to(device), torch.from_numpy(shift).to(device)
    points = np.empty((count, 3), dtype=np.float32)
    confidence = np.empty(count, dtype=np.float32)

    def read(pixels: slice | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(np.stack([m[pixels] for m in maps])).to(device)
        sure = torch.from_numpy(np.stack([s[pixels] for s in sures])).to(device)
        return torch.matmul(linear, x.mT).add_(shift[..., None]), sure

    probe = np.linspace(0, count - 1, min(count, _PROBES)).astype(np.int64)
    rays = camera.directions(0, count, size[1])
    trusted = _sees(*read(probe), torch.from_numpy(rays[:, probe]).to(device))
    values = _BLOCK_VALUES if device.type == "cpu" else _CUDA_BLOCK_VALUES
    block = max(1024, values // (3 * len(seen)))

    def work(first: int) -> None:
        part = slice(first, min(first + block, count))
        ray = torch.from_numpy(rays[:, part]).to(device) if trusted else None
        chi, fused = fuse_block(*read(part), ray)
        points[part] = chi.T.cpu().numpy() + origin.astype(np.float32)
        confidence[part] = fused.cpu().numpy()

    starts = range(0, count, block)
    if device.type == "cpu" and len(starts) > 1:
        # Blocks are the parallelism; torch's own threads inside them would fight for the cores.
        with ThreadPoolExecutor(
            _THREADS, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            list(pool.map(work, starts))
    else:
        for first in starts:
            work(first)
    return points.reshape(*size, 3), confidence.reshape(size)


def _sees(y: Tensor, confidence: Tensor, ray: Tensor) -> bool:
    """Whether the points lie where the camera looks, so that its rays may correct them."""
    chi, fused = fuse_block(y, confidence, None)
    chi, ray = chi[:, fused > 0], ray[:, fused > 0]
    if chi.shape[1] == 0:
        return False
    along = (chi * ray).sum(0)
    sine = (chi - along * ray).norm(dim=0) / chi.norm(dim=0).clamp_min(1e-30)
    return float(torch.where(along > 0, sine, 1.0).median()) < _RAY_TOLERANCE


def fuse_block(y: Tensor, confidence: Tensor, ray: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weighted geometric median of each pixel's observations (Weiszfeld), weights C^2.

    Args:
        y: (d, 3, m) observed points, camera at the origin, world axes.
        confidence: (d, m) >= 0; not positive or NaN = no observation.
        ray: (3, m) unit directions to keep the points on, or None. The pixel is where it is: what
            observations say across its ray is error.

    Returns:
        points (3, m), NaN where no observation has confidence, and their confidence (m,): the mean
        of the observations' confidences with the weights of the last pass, so that an observation
        that the others contradict does not vouch for the point.
    """
    # Comparisons are False for NaN.
    valid = (confidence > 0) & (confidence < torch.inf) & (y.abs().sum(1) < torch.inf)
    sure = torch.where(valid, confidence, 0.0)
    weight = sure.square()
    any_valid = valid.any(0)
    if ray is None:
        chi, robust = _geometric_median(torch.where(valid[:, None], y, 0.0), weight)
    else:
        # Along the ray the problem has one unknown; how far observations lie beside it is fixed.
        along = (y * ray).sum(1)
        beside = (y - along[:, None] * ray).square_().sum(1)
        chi, robust = _median_on_ray(
            torch.where(valid, along, 0.0), torch.where(valid, beside, 0.0), weight
        )
        chi = chi * ray
    fused = (robust * sure).sum(0) / robust.sum(0).clamp_min(_TINY)
    return torch.where(any_valid, chi, torch.nan), torch.where(any_valid, fused, 0.0)


def _geometric_median(y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Points (3, m) and the weights (d, m) of the last pass, from y (d, 3, m)."""
    robust, buffer = weight, torch.empty_like(y)
    floor: Tensor | None = None
    for turn in range(_PASSES + 1):
        total = robust.sum(0).clamp_min_(_TINY)
        chi = torch.mul(y, robust[:, None], out=buffer).sum(0) / total
        if turn == _PASSES or len(y) == 1:
            break
        distance = torch.sub(y, chi, out=buffer).square_().sum(1).sqrt_()
        floor = _floor(distance, weight) if floor is None else floor
        robust = weight / torch.maximum(distance, floor)
    return chi, robust


def _median_on_ray(along: Tensor, beside: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (m,) along the ray and the weights (d, m) of the last pass.

    Args:
        along: (d, m) of the observations; beside: (d, m) their squared distance from the ray.
    """
    robust, buffer = weight, torch.empty_like(along)
    floor: Tensor | None = None
    for turn in range(_PASSES + 1):
        chi = torch.mul(along, robust, out=buffer).sum(0) / robust.sum(0).clamp_min_(_TINY)
        if turn == _PASSES or len(along) == 1:
            break
        distance = torch.sub(along, chi, out=buffer).square_().add_(beside).sqrt_()
        floor = _floor(distance, weight) if floor is None else floor
        robust = torch.div(weight, torch.maximum(distance, floor, out=buffer))
    return chi, robust


def _floor(distance: Tensor, weight: Tensor) -> Tensor:
    """(m,) distance below which observations count alike."""
    spread = (weight * distance).sum(0) / weight.sum(0).clamp_min(_TINY)
    return _WEISZFELD_FLOOR * spread + 1e-12
