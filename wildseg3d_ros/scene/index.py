"""The points of the surface in the order of the tree's leaves, so that an answer is a slice."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.arrays import read_pixels
from wildseg3d_ros.core.geometry.flying import flying_pixels
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid
from wildseg3d_ros.core.types import ObjectTree, WorldPointmaps
from wildseg3d_ros.core.types.tree import merge_runs
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.frozen import ReadOnlyArrays

_NO_RUNS = np.zeros((0, 2), np.int32)


@dataclass(frozen=True, eq=False)
class ObjectIndex(ReadOnlyArrays):
    """Points of the surface, those of a node of the tree in one run.

    Attributes:
        points: (M, 3) float32, in the scene's frame.
        colors: (M, 3) uint8 RGB.
        confidence: (M,) float32 > 0.
        view_count: (M,) uint8, number of views that see the point, its own included.
        view: (M,) uint16, index of the view that the point comes from.
        pixel: (M,) uint32, its pixel there: row times width plus column.
        leaf_offsets: (L + 1,) int64; points of leaf k are ``leaf_offsets[k]:leaf_offsets[k + 1]``.
        ids: (K,) int32 ids of the objects of all levels, sorted.
        runs: per object (R, 2) int32 runs of leaves, merged and sorted.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    view_count: NDArray[np.uint8]
    view: NDArray[np.uint16]
    pixel: NDArray[np.uint32]
    leaf_offsets: NDArray[np.int64]
    ids: NDArray[np.int32]
    runs: tuple[NDArray[np.int32], ...]

    def __len__(self) -> int:
        return len(self.points)

    def rows(self, *object_ids: int) -> slice | NDArray[np.int64]:
        """Rows of the points of objects, in the order of an answer, each once: a slice where they
        are one run.

        Raises:
            KeyError: there is no such object.
        """
        return as_index(self.slices(self.runs_of(object_ids)))

    def runs_of(self, object_ids: Sequence[int]) -> NDArray[np.int32]:
        """(R, 2) runs of leaves of the objects, merged and sorted.

        Raises:
            KeyError: there is no such object.
        """
        found = []
        for object_id in object_ids:
            i = int(np.searchsorted(self.ids, object_id))
            if i == len(self.ids) or self.ids[i] != object_id:
                raise KeyError(f"no object {object_id}; objects are {self.ids.tolist()}")
            found.append(self.runs[i])
        return found[0] if len(found) == 1 else merge_runs(np.concatenate([_NO_RUNS, *found]))

    def slices(self, runs: NDArray[np.int32]) -> list[slice]:
        """The rows of runs of leaves (R, 2)."""
        rows = self.leaf_offsets[runs].tolist()
        return [slice(first, end) for first, end in rows if first < end]

    def count(self, object_id: int) -> int:
        """Number of the object's points."""
        return self.count_in(self.runs_of([object_id]))

    def count_in(self, runs: NDArray[np.int32]) -> int:
        """Number of the points of disjoint runs of leaves (R, 2)."""
        first, end = self.leaf_offsets[runs].T
        return int((end - first).sum())

    def __iter__(self) -> Iterator[tuple[int, slice | NDArray[np.int64]]]:
        """Id and rows of each object."""
        for object_id in self.ids.tolist():
            yield object_id, self.rows(object_id)

    def with_objects(self, objects: ObjectTree) -> ObjectIndex:
        """The same points with other objects of the same tree."""
        ids = np.array(sorted(objects.nodes), np.int32)
        runs = tuple(objects.runs(int(i)) for i in ids)
        return dataclasses.replace(self, ids=ids, runs=runs)

    def reordered(self, objects: ObjectTree) -> ObjectIndex:
        """The same points by a tree some leaves of which were cut."""
        leaf = np.zeros(len(self), np.int32)
        for view, leaves in enumerate(objects.tree.leaves):
            mine = np.flatnonzero(self.view == view)
            leaf[mine] = leaves.ravel()[self.pixel[mine]]
        order = np.argsort(leaf, kind="stable")
        names = ("points", "colors", "confidence", "view_count", "view", "pixel")
        columns = {name: np.take(getattr(self, name), order, axis=0) for name in names}
        offsets = _offsets(leaf[order], objects.tree.leaf_count)
        moved = dataclasses.replace(self, **columns, leaf_offsets=offsets)
        return moved.with_objects(objects)

    def in_order(self) -> bool:
        """Whether the points of each leaf go by view and pixel, as :meth:`of_pixels` puts them."""
        leaf = np.repeat(np.arange(len(self.leaf_offsets) - 1), np.diff(self.leaf_offsets))
        group = leaf * (int(self.view.max(initial=0)) + 1) + self.view
        later = np.diff(group)
        further = self.pixel[1:] > self.pixel[:-1]
        return bool(((later > 0) | ((later == 0) & further)).all())

    @classmethod
    def of_pixels(
        cls,
        images: Sequence[NDArray[np.uint8]],
        world: WorldPointmaps,
        objects: ObjectTree,
        view_counts: Sequence[NDArray[np.uint8]],
    ) -> ObjectIndex:
        """Of pixels that are chosen already.

        Args:
            images, world, objects: as of :meth:`build`.
            view_counts: per view (H, W), how many views see the pixel's point; 0 = not chosen.
        """
        tree = objects.tree
        group = np.zeros(tree.leaf_count, np.int32)
        parts = []
        for view, (image, counts) in enumerate(zip(images, view_counts, strict=True)):
            leaves = np.where(counts > 0, tree.leaves[view], -1)
            rows = _with_leaf(view, image, world, leaves, group)
            parts.append(
                rows | {"view_count": read_pixels(counts, rows["pixel"].astype(np.int64))}
            )
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return cls._sorted(rows, objects)

    @classmethod
    def _sorted(cls, rows: _Rows, objects: ObjectTree) -> ObjectIndex:
        """Of rows in the order of views and pixels."""
        order = np.argsort(rows["leaf"], kind="stable")
        rows = {name: np.take(column, order, axis=0) for name, column in rows.items()}
        offsets = _offsets(rows.pop("leaf"), objects.tree.leaf_count)
        del rows["group"]
        index = cls(**rows, leaf_offsets=offsets, ids=np.zeros(0, np.int32), runs=())
        return index.with_objects(objects)

    @classmethod
    def build(
        cls,
        images: Sequence[NDArray[np.uint8]],
        K: NDArray[np.float64],
        world_from_cam: NDArray[np.float64],
        world: WorldPointmaps,
        objects: ObjectTree,
        config: IndexConfig = IndexConfig(),
    ) -> ObjectIndex:
        """Collects the pixels that have a leaf and a point, less those that cannot be true.

        Left out of a whole object, and of the topmost node that holds none, are points of low
        confidence (relative to its median), flying pixels, points that several other views look
        through, points with hardly a neighbour, and clusters that are tiny beside the largest.

        Args:
            images: per view (H, W, 3) uint8 RGB.
            K, world_from_cam: (N, 3, 3) and (N, 4, 4).
            world: points and confidences by view and pixel.
            objects: leaves by view and pixel, and the objects.
            config: thresholds.
        """
        tree = objects.tree
        group = group_of_leaf(objects)
        groups = int(group.max(initial=-1)) + 1
        parts = [
            _with_leaf(view, image, world, tree.leaves[view], group)
            for view, image in enumerate(images)
        ]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        near = _near_median(rows["confidence"], rows["group"], groups, config.min_confidence)
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
            rows = _kept(rows, _connected(rows, spacing, groups, config))
        return cls._sorted(rows, objects)


def as_index(rows: Sequence[slice]) -> slice | NDArray[np.int64]:
    """What takes the rows of several slices from an array: a slice where they are one."""
    if len(rows) == 1:
        return rows[0]
    every = [np.arange(part.start, part.stop) for part in rows]
    return np.concatenate(every) if every else slice(0, 0)


def group_of_leaf(objects: ObjectTree) -> NDArray[np.int32]:
    """(L,) what is filtered together: the whole object that holds a leaf, else the topmost node
    above it that holds no leaf of one."""
    tree = objects.tree
    group = np.full(tree.leaf_count, -1, np.int32)
    for number, object_id in enumerate(objects.whole_ids):
        for first, end in objects.runs(object_id):
            group[first:end] = number
    free = tree.sums((group >= 0).astype(np.int64)) == 0
    top = np.flatnonzero(free & ~((tree.parent >= 0) & free[tree.parent]))
    for number, node in enumerate(top.tolist(), len(objects.whole_ids)):
        group[tree.start[node] : tree.stop[node]] = number
    return group


def _offsets(leaf: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(count + 1,) where each leaf's rows begin; leaves (M,) are sorted."""
    return np.searchsorted(leaf, np.arange(count + 1)).astype(np.int64)


_Rows = dict[str, NDArray]
"""Pixels with a leaf and a point: the columns of :class:`ObjectIndex`, ``leaf`` (M,) int32, and
``group`` (M,) int32, what they are filtered with."""


def _kept(rows: _Rows, chosen: NDArray[np.bool_]) -> _Rows:
    if chosen.all():
        return rows
    at = np.flatnonzero(chosen)  # finds them once for all columns
    return {name: np.take(column, at, axis=0) for name, column in rows.items()}


def _with_leaf(
    view: int,
    image: NDArray[np.uint8],
    world: WorldPointmaps,
    leaves: NDArray[np.int32],
    group: NDArray[np.int32],
) -> _Rows:
    """Of a view's pixels (H, W) that have a leaf and a point."""
    pixels = np.flatnonzero((leaves >= 0) & world.valid(view))
    leaf = read_pixels(leaves, pixels)
    return {
        "points": read_pixels(world.points[view], pixels).astype(np.float32, copy=False),
        "colors": read_pixels(image, pixels),
        "confidence": read_pixels(world.confidence[view], pixels).astype(np.float32, copy=False),
        "view": np.full(len(pixels), view, np.uint16),
        "pixel": pixels.astype(np.uint32),
        "leaf": leaf,
        "group": group[leaf],
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
    """(M,) bool: neither alone, nor in a cluster that is tiny beside its group's largest one."""
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
    """(M,) bool: at least ``minimum`` times the median of the point's group."""
    # Sorting numbers of 16 bits takes a tenth of the time.
    narrow = group.astype(np.uint16) if groups <= 1 << 16 else group
    mine = values[np.argsort(narrow, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))]).tolist()
    median = np.zeros(groups, np.float32)
    for number, (first, end) in enumerate(itertools.pairwise(starts)):
        if first < end:
            middle = (first + end) // 2 - first
            median[number] = np.partition(mine[first:end], middle)[middle]
    return values >= minimum * median[group]
