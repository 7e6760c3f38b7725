"""Masks of a view that joins the views of a cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import (
    Alignment,
    MaskCache,
    MaskTree,
    View,
    WorldPointmaps,
)
from wildseg3d_ros.masks import MaskBackend
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.interactive.leaves import object_of_leaf
from wildseg3d_ros.masks.interactive.lifting import carry_tree, lift_leaves
from wildseg3d_ros.masks.interactive.updating import UpdatedMasks
from wildseg3d_ros.masks.sources import MIN_HITS

_SAME = 0.75
"""IoU from which two masks are of one thing."""


class JoinedMasks:
    """A back end that adds the masks of one more view to a cache, and leaves the others.

    With a tree of masks, the new view's surface has the objects that the others see there, and the
    back end looks at the new view alone: for what no other view sees. Without a tree the back end
    updates the cache, as for a replaced image.

    Args:
        backend: that made the cache.
        cache: of the other views.
    """

    def __init__(self, backend: MaskBackend, cache: MaskCache) -> None:
        self._backend, self._cache = backend, cache

    def check(self, views: Sequence[View], changed: int | None = None) -> None:
        """As of the back end, for the last view."""
        self._backend.check(views, len(views) - 1)

    def segment(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        progress: Progress,
    ) -> MaskCache:
        """The cache with masks of the last view."""
        before = with_empty_view(self._cache, views[-1].size)
        return self.update(views, alignment, pointmaps, before, len(views) - 1, progress)

    def update(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        cache: MaskCache,
        changed: int,
        progress: Progress,
    ) -> MaskCache:
        """As of the back end; ``cache`` has no masks of the changed view."""
        if cache.tree is None:
            updated = UpdatedMasks(self._backend, cache, changed)
            return updated.segment(views, alignment, pointmaps, progress)
        alone = self._backend.segment(
            [views[changed]],
            dataclasses.replace(
                alignment,
                K=alignment.K[[changed]],
                world_from_cam=alignment.world_from_cam[[changed]],
            ),
            WorldPointmaps((pointmaps.points[changed],), (pointmaps.confidence[changed],)),
            progress,
        )
        visibility = Visibility.create(alignment.K, alignment.world_from_cam, pointmaps)
        lifted = lift_leaves(cache.tree.leaves, changed, pointmaps, visibility)
        known = object_of_leaf(cache, 0)[lifted]
        labels = join_labels(known, lifted >= 0, alone.labels[0], cache.first_new_id())
        # Where only one of both sees an object, it is as likely as not.
        doubtful = (labels > 0) & (alone.labels[0] == 0)
        score = np.where(doubtful, np.float32(0.5), alone.scores[0])
        made = _with_view(cache, changed, labels, score)
        return carry_tree(made, cache, changed, lifted)


def join_labels(
    known: NDArray[np.int32],
    is_known: NDArray[np.bool_],
    found: NDArray[np.int32],
    new_id: int,
) -> NDArray[np.int32]:
    """(H, W) int32 labels of a new view: known ones, and what else its own masks find.

    A mask that mostly shows one known object, by what is known of its pixels, extends it; where
    both are the same region, the mask's outline counts. A mask of which less than half is known is
    a new object; any other one extends the background.

    Args:
        known: (H, W) object ids by what other views see, 0 = none.
        is_known: (H, W) whether they see the pixel's point at all.
        found: (H, W) the view's own masks, 0 = none; the names are its own.
        new_id: the first of the new objects.
    """
    labels = np.where(is_known, known, 0).astype(np.int32)
    outlined: list[tuple[NDArray[np.bool_], int]] = []
    for name in np.unique(found[found > 0]).tolist():
        mask = found == name
        rest, seen = mask & ~is_known, known[mask & is_known]
        ids, counts = np.unique(seen, return_counts=True)
        winner = int(ids[np.argmax(counts)]) if len(ids) else 0
        if winner and counts.max() >= max(MIN_HITS, 0.5 * len(seen)):
            labels[rest] = winner
            region = is_known & (known == winner)
            if counts.max() >= _SAME * np.count_nonzero(region | (mask & is_known)):
                labels[region & ~mask] = 0
                outlined.append((mask, winner))
        elif 2 * len(seen) < np.count_nonzero(mask) and np.count_nonzero(rest) >= MIN_HITS:
            labels[rest] = new_id
            new_id += 1
    for mask, winner in outlined:
        labels[mask] = winner
    return labels


def with_empty_view(cache: MaskCache, size: tuple[int, int]) -> MaskCache:
    """The cache with one more view, of (height, width) pixels and without masks."""
    tree, empty = cache.tree, np.zeros(size, np.int32)
    if tree is not None:
        tree = MaskTree((*tree.leaves, empty - 1), tree.start, tree.stop, tree.parent, tree.score)
    return dataclasses.replace(
        cache,
        labels=(*cache.labels, empty),
        scores=(*cache.scores, np.zeros(size, np.float32)),
        finer=tuple((*maps, empty) for maps in cache.finer),
        embeddings=(*cache.embeddings, ()) if cache.embeddings else (),
        tree=tree,
    )


def _with_view(
    cache: MaskCache, view: int, labels: NDArray[np.int32], score: NDArray[np.float32]
) -> MaskCache:
    """The cache with masks of whole objects (H, W) in one view, described and without a tree."""
    maps = [list(of_level) for of_level in cache.maps]
    maps[0][view] = labels
    scores = (*cache.scores[:view], score.astype(np.float32), *cache.scores[view + 1 :])
    masks = [(each.object_id, mask) for each in cache.objects for mask in each.masks]
    objects = describe_objects(
        maps,
        scores,
        {(mask.view, name): mask.score for name, mask in masks},
        {(mask.view, name): mask.soft for name, mask in masks if mask.soft is not None},
        {each.object_id: each.unmasked for each in cache.objects},
    )
    return cache.with_masks([tuple(each) for each in maps], scores, objects)
