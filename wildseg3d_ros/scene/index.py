"""The points of each object, sorted so that an answer is a slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.arrays import read_pixels
from wildseg3d_ros.core.geometry.flying import flying_pixels
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid
from wildseg3d_ros.core.types import MaskCache, WorldPointmaps
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.frozen import ReadOnlyArrays


@dataclass(frozen=True, eq=False)
class ObjectIndex(ReadOnlyArrays):
    """Points of all objects, each object's in one run; parts repeat the points of their wholes.

    Attributes:
        points: (M, 3) float32, in the scene's frame.
        colors: (M, 3) uint8 RGB.
        confidence: (M,) float32 > 0.
        view_count: (M,) uint8, number of views that see the point, its own included.
        view: (M,) uint16, index of the view that the point comes from.
        pixel: (M,) uint32, its pixel there: row times width plus column.
        ids: (K,) int32 object ids, sorted.
        offsets: (K + 1,) int64; points of ``ids[i]`` are ``offsets[i]:offsets[i + 1]``.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    view_count: NDArray[np.uint8]
    view: NDArray[np.uint16]
    pixel: NDArray[np.uint32]
    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.points)

    def rows(self, object_id: int) -> slice:
        """Rows of the object's points.

        Raises:
            KeyError: there is no such object.
        """
        i = int(np.searchsorted(self.ids, object_id))
        if i == len(self.ids) or self.ids[i] != object_id:
            raise KeyError(f"no object {object_id}; objects are {self.ids.tolist()}")
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    def count(self, object_id: int) -> int:
        """Number of the object's points."""
        rows = self.rows(object_id)
        return rows.stop - rows.start

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """Id and rows of each object."""
        for i, object_id in enumerate(self.ids):
            yield int(object_id), slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    @classmethod
    def build(
        cls,
        images: Sequence[NDArray[np.uint8]],
        K: NDArray[np.float64],
        world_from_cam: NDArray[np.float64],
        world: WorldPointmaps,
        cache: MaskCache,
        config: IndexConfig = IndexConfig(),
    ) -> ObjectIndex:
        """Collects the labelled pixels that have a point, less those that cannot be true.

        Left out of an object are points of low confidence (relative to the object's median),
        flying pixels, points that several other views look through, points with hardly a
        neighbour, and clusters that are tiny beside the object's largest one.

        Args:
            images: per view (H, W, 3) uint8 RGB.
            K, world_from_cam: (N, 3, 3) and (N, 4, 4).
            world: points and confidences by view and pixel.
            cache: labels by level, view and pixel.
            config: thresholds.
        """
        finer = [np.unique(labels) for level in cache.finer for labels in level]
        ids = np.unique(np.concatenate([np.array(cache.object_ids, np.int32), *finer]))
        ids = ids[ids > 0].astype(np.int32)
        parts = [
            _labelled(view, image, world, maps[view], ids)
            for maps in cache.maps
            for view, image in enumerate(images)
        ]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        near = _near_median(rows["confidence"], rows["group"], len(ids), config.min_confidence)
        rows = _kept(rows, near)

        visibility = Visibility.create(K, world_from_cam, world)
        if config.max_slant < 90.0:  # no surface is steeper
            rows = _kept(rows, ~_flying(rows, visibility, config.max_slant))
        seen, pierced = visibility.votes(rows["points"], rows["view"])
        rows["view_count"] = np.minimum(seen + 1, 255).astype(np.uint8)
        if config.max_free_space_views:
            rows = _kept(rows, (pierced < config.max_free_space_views) | (pierced <= seen))
        if len(rows["points"]):
            spacing = visibility.point_spacing(rows["points"], rows["view"])
            rows = _kept(rows, _connected(rows, spacing, len(ids), config))
        order = np.argsort(rows["group"], kind="stable")
        rows = {name: np.take(column, order, axis=0) for name, column in rows.items()}
        offsets = np.searchsorted(rows.pop("group"), np.arange(len(ids) + 1)).astype(np.int64)
        return cls(**rows, ids=ids, offsets=offsets)


_Rows = dict[str, NDArray]
"""Labelled pixels with a point: the columns of :class:`ObjectIndex`, and ``group`` (M,) int32, the
label's position in the ids."""


def _kept(rows: _Rows, chosen: NDArray[np.bool_]) -> _Rows:
    if chosen.all():
        return rows
    at = np.flatnonzero(chosen)  # finds them once for all columns
    return {name: np.take(column, at, axis=0) for name, column in rows.items()}


def _labelled(
    view: int,
    image: NDArray[np.uint8],
    world: WorldPointmaps,
    labels: NDArray[np.int32],
    ids: NDArray[np.int32],
) -> _Rows:
    """Of a view's pixels (H, W) that have a label of one level and a point."""
    pixels = np.flatnonzero((labels > 0) & world.valid(view))
    return {
        "points": read_pixels(world.points[view], pixels).astype(np.float32, copy=False),
        "colors": read_pixels(image, pixels),
        "confidence": read_pixels(world.confidence[view], pixels).astype(np.float32, copy=False),
        "view": np.full(len(pixels), view, np.uint16),
        "pixel": pixels.astype(np.uint32),
        "group": np.searchsorted(ids, read_pixels(labels, pixels)).astype(np.int32),
    }


def _flying(rows: _Rows, visibility: Visibility, max_slant: float) -> NDArray[np.bool_]:
    """(M,) bool: the point's pixel is a flying one of its view."""
    flying = np.zeros(len(rows["view"]), np.bool_)
    for view, depth in enumerate(visibility.depth):
        mine = rows["view"] == view
        in_view = flying_pixels(depth, float(visibility.focal[view]), max_slant)
        flying[mine] = in_view.ravel()[rows["pixel"][mine]]
    return flying


def _connected(rows: _Rows, spacing: float, groups: int, config: IndexConfig) -> NDArray[np.bool_]:
    """(M,) bool: neither alone, nor in a cluster that is tiny beside its object's largest one."""
    group = rows["group"]
    counts, cluster = VoxelGrid.of(rows["points"], spacing, group).neighbourhoods()
    sizes = np.bincount(cluster)
    largest = np.zeros(groups, np.int64)
    np.maximum.at(largest, group, sizes[cluster])
    return (
        (counts >= config.min_neighbours)
        & _near_median(counts.astype(np.float32), group, groups, config.min_density)
        & (sizes[cluster] >= config.min_cluster * largest[group])
    )


def _near_median(
    values: NDArray[np.float32], group: NDArray[np.int32], groups: int, minimum: float
) -> NDArray[np.bool_]:
    """(M,) bool: at least ``minimum`` times the median of the point's object."""
    order = np.lexsort((values, group))
    starts = np.searchsorted(group[order], np.arange(groups + 1))
    some = starts[1:] > starts[:-1]
    median = np.zeros(groups, np.float32)
    median[some] = values[order][(starts[:-1] + starts[1:])[some] // 2]
    return values >= minimum * median[group]
