"""All pairs' maps of one view, and what they say together about some of its pixels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.fusion.robust_mean import robust_mean, typical_residual, weighted_mean
from wildseg3d_ros.alignment.graph.graph import array_key, is_identity
from wildseg3d_ros.alignment.graph.reads import Reads
from wildseg3d_ros.alignment.graph.weights import largest_confidence
from wildseg3d_ros.core.geometry.transforms import apply, make_transform
from wildseg3d_ros.core.types import PairPrediction

_PROBES = 512
"""Pixels that stand for a view: for its typical residual, and whether its camera sees it."""

_RAY_TOLERANCE = 0.05
"""Median sine between points and rays beyond which a camera is taken as not located."""


@dataclass(frozen=True, eq=False)
class PlacedPairs:
    """Where the pairs lie.

    Attributes:
        scale: (E,); world_from_pair: (E, 4, 4), applied after the scale; used: (E,) bool.
    """

    scale: NDArray[np.float64]
    world_from_pair: NDArray[np.float64]
    used: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observation:
    """One pair's map of a view and its similarity to the world."""

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    scale: float
    world_from_map: NDArray[np.float64]
    own_frame: bool
    metric: bool


def observations_of(
    predictions: Sequence[PairPrediction], placed: PlacedPairs, view: int
) -> list[Observation]:
    """The used pairs' maps of a view."""
    own_maps = {array_key(p.pointmap_a) for p in predictions if p.a == view}
    out = []
    for e, pair in enumerate(predictions):
        if view not in (pair.a, pair.b) or not placed.used[e]:
            continue
        scale, pose = float(placed.scale[e]), placed.world_from_pair[e]
        if pair.a == view:
            out.append(
                Observation(pair.pointmap_a, pair.confidence_a, scale, pose, True, pair.metric)
            )
            continue
        # world = R s (A x + t_A) + t: the scale moves through A onto its translation.
        a_from_map = np.array(pair.a_from_map_b, dtype=np.float64)
        a_from_map[:3, 3] *= scale
        own = not is_identity(pair.a_from_map_b) or array_key(pair.pointmap_b) in own_maps
        out.append(
            Observation(
                pair.pointmap_b, pair.confidence_b, scale, pose @ a_from_map, own, pair.metric
            )
        )
    return out


@dataclass(frozen=True, eq=False)
class Camera:
    """Where the rays of a view's pixels start and where they lead."""

    world_from_pixel: NDArray[np.float64]
    centre: NDArray[np.float64]

    @classmethod
    def of(cls, K: NDArray[np.float64], world_from_cam: NDArray[np.float64]) -> Camera:
        """The camera with intrinsics K (3, 3) at world_from_cam (4, 4)."""
        return cls(world_from_cam[:3, :3] @ np.linalg.inv(K), world_from_cam[:3, 3])

    def directions(self, pixels: NDArray[np.int64], width: int) -> NDArray[np.float32]:
        """(3, m) unit directions of pixels that are numbered row by row."""
        row, col = np.divmod(pixels, width)
        ray = self.world_from_pixel[:, :2] @ np.stack([col, row])
        ray += self.world_from_pixel[:, 2:]
        return (ray / np.sqrt((ray * ray).sum(0))).astype(np.float32)


class ViewMaps:
    """All observations of one view, read block by block.

    Attributes:
        size: (height, width); count: pixels; is_located: whether its camera sees its points.
    """

    def __init__(
        self,
        seen: Sequence[Observation],
        size: tuple[int, int],
        camera: Camera,
        device: torch.device,
        reads: Reads | None = None,
    ) -> None:
        """
        Args:
            reads: where single pixels are looked up; those of blocks are read as they come.
        """
        self.size, self.count = size, size[0] * size[1]
        self._camera, self._device = camera, device
        self._seen, self._reads = seen, reads or Reads()
        self._maps = [np.ascontiguousarray(o.points, np.float32).reshape(-1, 3) for o in seen]
        self._sures = [np.ascontiguousarray(o.confidence, np.float32).reshape(-1) for o in seen]
        # Worlds may lie far from the origin; float32 keeps its digits near the camera.
        linear = np.stack([o.scale * o.world_from_map[:3, :3] for o in seen])
        shift = np.stack([o.world_from_map[:3, 3] - camera.centre for o in seen])
        self._linear = torch.from_numpy(linear.astype(np.float32)).to(device)
        self._shift = torch.from_numpy(shift.astype(np.float32)).to(device)[..., None]
        probe = np.linspace(0, self.count - 1, min(self.count, _PROBES)).astype(np.int64)
        y, sure, ray = *self._look_up(probe, "probe"), self._rays(probe)
        self._most = largest_confidence(sure.cpu().numpy())
        sure = torch.where(sure < torch.inf, sure.clamp_max(self._most), sure)
        self.is_located = _sees(y, sure, ray)
        self._spread = typical_residual(y, sure, ray if self.is_located else None)

    def mean(self, block: slice) -> tuple[Tensor, Tensor]:
        """Points (3, m), NaN where there is none, and confidence (m,) of a block of pixels.

        Args:
            block: of pixels numbered row by row. Points are relative to the camera's centre, in
                the world's axes.
        """
        return self._mean(np.arange(block.start, block.stop), *self._read(block))

    def mean_at(self, pixels: NDArray[np.int64], which: Hashable) -> tuple[Tensor, Tensor]:
        """The same of single pixels (m,), for which ``which`` stands in :class:`Reads`."""
        return self._mean(pixels, *self._look_up(pixels, which))

    def _mean(self, pixels: NDArray[np.int64], y: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
        ray = self._rays(pixels) if self.is_located else None
        return robust_mean(y, sure, ray, self._spread, self._most)

    def _read(self, block: slice) -> tuple[Tensor, Tensor]:
        parts = [m[block] for m in self._maps]
        x = np.empty((len(parts), 3, len(parts[0])), dtype=np.float32)
        for k, part in enumerate(parts):
            # Three strided copies are faster than a transposing one.
            x[k, 0], x[k, 1], x[k, 2] = part[:, 0], part[:, 1], part[:, 2]
        return self._placed(x, np.stack([s[block] for s in self._sures]))

    def _look_up(self, pixels: NDArray[np.int64], which: Hashable) -> tuple[Tensor, Tensor]:
        points = [self._reads.points(o.points, pixels, which) for o in self._seen]
        sure = [self._reads.values(o.confidence, pixels, which) for o in self._seen]
        return self._placed(np.stack(points, dtype=np.float32), np.stack(sure, dtype=np.float32))

    def _placed(self, x: NDArray[np.float32], sure: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Points (K, 3, m) in the world, relative to the camera, and their confidence (K, m)."""
        y = torch.matmul(self._linear, torch.from_numpy(x).to(self._device))
        return y.add_(self._shift), torch.from_numpy(sure).to(self._device)

    def _rays(self, pixels: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._camera.directions(pixels, self.size[1])).to(self._device)


def is_one_map(seen: Sequence[Observation]) -> bool:
    """Whether all observations are rigid copies of one array, which say nothing new per pixel."""
    keys = {(array_key(o.points), array_key(o.confidence)) for o in seen}
    return len(keys) == 1 and all(o.own_frame for o in seen) and (len(seen) > 1 or seen[0].metric)


def pose_once(
    seen: Sequence[Observation], world_from_cam: NDArray[np.float64], at: Any = ...
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (H, W, 3), NaN where there is none, and confidence (H, W) of a view's one map.

    Args:
        at: index of the pixels that are wanted; by default all.
    """
    scale = np.exp(np.mean(np.log([o.scale for o in seen])))
    scaled = make_transform(scale * world_from_cam[:3, :3], world_from_cam[:3, 3])
    confidence = np.nan_to_num(seen[0].confidence[at], nan=0.0, posinf=0.0).astype(np.float32)
    points = apply(scaled, np.asarray(seen[0].points[at], dtype=np.float32))
    valid = (confidence > 0) & np.isfinite(points).all(-1)
    points[~valid] = np.nan
    return points, np.where(valid, confidence, np.float32(0.0))


def _sees(y: Tensor, confidence: Tensor, ray: Tensor) -> bool:
    """Whether the points lie where the camera looks, so that its rays may correct them."""
    chi = weighted_mean(y, confidence)
    known = chi.square().sum(0) > 0
    chi, ray = chi[:, known], ray[:, known]
    if chi.shape[1] == 0:
        return False
    along = (chi * ray).sum(0)
    sine = (chi - along * ray).norm(dim=0) / chi.norm(dim=0).clamp_min(1e-30)
    return float(torch.where(along > 0, sine, 1.0).median()) < _RAY_TOLERANCE
