"""All pairs' maps of one view, and what they say together about its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import device
from numpy.typing import NDArray

from wildseg3d_ros.alignment.fusion.robust_mean import cleaned, mean, robust_mean, typical_residual
from wildseg3d_ros.alignment.graph.medians import lower_median
from wildseg3d_ros.alignment.graph.pair_maps import PairMap
from wildseg3d_ros.alignment.graph.weights import largest_confidence
from wildseg3d_ros.core.arrays import Array, as_array, namespace


@dataclass(frozen=True, eq=False)
class Observation:
    """One pair's map of a view and its similarity to the world."""

    map: PairMap
    scale: float
    world_from_map: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PosedPairs:
    """Where the pairs lie.

    Attributes:
        scale: (E,); world_from_pair: (E, 4, 4), applied after the scale; used: (E,) bool.
    """

    scale: NDArray[np.float64]
    world_from_pair: NDArray[np.float64]
    used: NDArray[np.bool_]

    def observations(self, maps: Sequence[PairMap]) -> list[Observation]:
        """The maps of used pairs, in the world."""
        out = []
        for m in maps:
            if self.used[m.pair]:
                scale = float(self.scale[m.pair])
                # world = R s (A x + t_A) + t: the scale moves through A onto its translation.
                pair_from_map = np.array(m.pair_from_map, dtype=np.float64)
                pair_from_map[:3, 3] *= scale
                out.append(Observation(m, scale, self.world_from_pair[m.pair] @ pair_from_map))
        return out


@dataclass(frozen=True, eq=False)
class Camera:
    """Where the rays of a view's pixels start and where they lead.

    Attributes:
        width: of the image, pixels; world_from_pixel: (3, 3); centre: (3,).
    """

    width: int
    world_from_pixel: NDArray[np.float64]
    centre: NDArray[np.float64]

    @classmethod
    def of(cls, K: NDArray[np.float64], world_from_cam: NDArray[np.float64], width: int) -> Camera:
        """The camera with intrinsics K (3, 3) at world_from_cam (4, 4)."""
        return cls(width, world_from_cam[:3, :3] @ np.linalg.inv(K), world_from_cam[:3, 3])

    def directions(self, pixels: NDArray[np.int64]) -> NDArray[np.float32]:
        """(3, m) unit directions of pixels (m,) that are numbered row by row."""
        row, col = np.divmod(pixels, self.width)
        ray = self.world_from_pixel[:, :2] @ np.stack([col, row])
        ray += self.world_from_pixel[:, 2:]
        return (ray / np.sqrt((ray * ray).sum(0))).astype(np.float32)


def probe_pixels(count: int) -> NDArray[np.int64]:
    """Numbers, row by row, of 512 pixels that stand for all ``count`` of a view: for its typical
    residual, and whether its camera sees it."""
    return np.linspace(0, count - 1, min(count, 512)).astype(np.int64)


class PixelMeans:
    """The mean of a view's observations at any of its pixels, as its probes say how they differ.

    Attributes:
        is_located: whether the view's camera sees its points, so that its rays may correct them.
    """

    def __init__(
        self,
        seen: Sequence[Observation],
        camera: Camera,
        pixels: NDArray[np.int64],
        points: NDArray[np.float32],
        confidence: NDArray[np.float32],
    ) -> None:
        """
        Args:
            pixels: (m,) numbers of the probes; points: (K, m, 3) and confidence: (K, m), what the
                observations have there.
        """
        self._camera = camera
        # Worlds may lie far from the origin; float32 keeps its digits near the camera.
        linear = np.stack([o.scale * o.world_from_map[:3, :3] for o in seen])
        shift = np.stack([o.world_from_map[:3, 3] - camera.centre for o in seen])
        self._linear, self._shift = linear.astype(np.float32), shift.astype(np.float32)[..., None]
        self._max_confidence = largest_confidence(confidence)
        with np.errstate(invalid="ignore", over="ignore"):
            y = self._posed(points)
        ray = camera.directions(pixels)
        np.minimum(confidence, self._max_confidence, out=confidence, where=confidence < np.inf)
        self.is_located = _sees(y, confidence, ray)
        self._sigma = typical_residual(y, confidence, ray if self.is_located else None)

    @np.errstate(invalid="ignore", divide="ignore", over="ignore")
    def at(
        self, pixels: NDArray[np.int64], points: Array, confidence: Array
    ) -> tuple[Array, Array]:
        """Points (3, m), NaN where there is none, and confidence (m,).

        Args:
            pixels, points, confidence: as above, of any library.

        Returns:
            The points relative to the camera's centre, in the world's axes.
        """
        ray = as_array(self._camera.directions(pixels), points) if self.is_located else None
        return robust_mean(self._posed(points), confidence, ray, self._sigma, self._max_confidence)

    def _posed(self, x: Array) -> Array:
        """Points (K, 3, m) in the world, relative to the camera, of (K, m, 3)."""
        xp = namespace(x)
        y = xp.matmul(as_array(self._linear, x), xp.matrix_transpose(x))
        y += as_array(self._shift, x)
        return y


class ViewMaps:
    """All observations of one view, read block by block.

    Attributes:
        count: pixels.
    """

    def __init__(self, seen: Sequence[Observation], camera: Camera, like: Array) -> None:
        """
        Args:
            like: an array of the library and on the device that blocks are brought to.
        """
        maps = [o.map for o in seen]
        self._like = like
        self._points = [namespace(m.points).reshape(m.points, (-1, 3)) for m in maps]
        self._confidence = [namespace(m.confidence).reshape(m.confidence, (-1,)) for m in maps]
        kinds = {(type(m), str(device(m)), m.dtype) for m in self._points + self._confidence}
        self._is_mixed = len(kinds) > 1
        self.count = self._confidence[0].shape[0]
        probe = probe_pixels(self.count)
        self._means = PixelMeans(seen, camera, probe, *stacked(m.at(probe) for m in maps))

    def mean(self, block: slice) -> tuple[Array, Array]:
        """:meth:`PixelMeans.at` of a block of pixels that are numbered row by row."""
        points, confidence = (self._read(maps, block) for maps in (self._points, self._confidence))
        return self._means.at(np.arange(block.start, block.stop), points, confidence)

    def _read(self, maps: Sequence[Array], block: slice) -> Array:
        parts, dtype = [m[block, ...] for m in maps], namespace(self._like).float32
        if self._is_mixed:
            parts = [as_array(part, self._like, dtype) for part in parts]
        return as_array(namespace(parts[0]).stack(parts), self._like, dtype)


def stacked(maps: Iterable[PairMap]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (K, n, 3) and confidence (K, n) of maps that were read at n pixels."""
    points, confidence = zip(*((m.points, m.confidence) for m in maps), strict=True)
    return np.stack(points, dtype=np.float32), np.stack(confidence, dtype=np.float32)


def is_one_map(seen: Sequence[Observation]) -> bool:
    """Whether all observations are rigid copies of one array, which say nothing new per pixel."""
    maps = [o.map for o in seen]
    if len({m.key for m in maps}) > 1 or not all(m.own_frame for m in maps):
        return False
    return len(maps) > 1 or maps[0].metric


@np.errstate(invalid="ignore", over="ignore")
def pose_once(
    seen: Sequence[Observation],
    world_from_cam: NDArray[np.float64],
    points: Array,
    confidence: Array,
) -> tuple[Array, Array]:
    """Points (..., 3) of a view's one map in the world, NaN where there is none, and their
    confidence (...)."""
    xp = namespace(points)
    points, confidence = (xp.astype(a, xp.float32, copy=False) for a in (points, confidence))
    scale = np.exp(np.mean(np.log([o.scale for o in seen])))
    linear = as_array((scale * world_from_cam[:3, :3].T).astype(np.float32), points)
    points = xp.matmul(points, linear)
    points += as_array(world_from_cam[:3, 3].astype(np.float32), points)
    # A sum tells of any that is no number, and is faster than asking each.
    sums = points[..., 0] + points[..., 1] + points[..., 2]
    valid = (confidence > 0) & (confidence < xp.inf) & xp.isfinite(sums)
    points[~valid] = xp.nan
    return points, xp.where(valid, confidence, 0.0)


def _sees(
    y: NDArray[np.float32], confidence: NDArray[np.float32], ray: NDArray[np.float32]
) -> bool:
    """Whether the points lie where the camera looks, so that its rays may correct them."""
    chi = mean(*cleaned(y, confidence))
    known = np.square(chi).sum(0) > 0
    chi, ray = chi[:, known], ray[:, known]
    along = (chi * ray).sum(0)
    sine = np.linalg.norm(chi - along * ray, axis=0) / np.linalg.norm(chi, axis=0)
    # Beyond a median of 0.05 rad, three degrees, it is not located.
    return lower_median(np.where(along > 0, sine, 1.0), 1.0) < 0.05
