"""Masks of the one view whose image was replaced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import (
    LEVELS,
    Alignment,
    MaskCache,
    ObjectRecord,
    ObjectTree,
    View,
    WorldPointmaps,
)
from wildseg3d_ros.core.types.tree import in_runs
from wildseg3d_ros.masks import MaskBackend, PromptedMaskBackend
from wildseg3d_ros.masks.interactive.finding import find_in_view
from wildseg3d_ros.masks.interactive.lifting import carry_tree, lift_leaves
from wildseg3d_ros.masks.interactive.recovering import FindMask, recover_lost
from wildseg3d_ros.masks.sources import MaskSource


class UpdatedMasks:
    """A back end that replaces the masks of one view of a cache, and leaves the others.

    Args:
        backend: that made the cache.
        cache: of the views before.
        changed: index of the view with a new image.
    """

    def __init__(self, backend: MaskBackend, cache: MaskCache, changed: int) -> None:
        self._backend, self._cache, self._changed = backend, cache, changed

    def check(self, views: Sequence[View], changed: int | None = None) -> None:
        """As of the back end, for the one view."""
        self._backend.check(views, self._changed)

    def segment(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        progress: Progress,
    ) -> MaskCache:
        """The cache with new masks of the one view."""
        return self.update(views, alignment, pointmaps, self._cache, self._changed, progress)

    def update(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        cache: MaskCache,
        changed: int,
        progress: Progress,
    ) -> MaskCache:
        """As of the back end; objects that the view still sees keep a mask there."""
        made = self._backend.update(views, alignment, pointmaps, cache, changed, progress)
        visibility = Visibility.create(alignment.K, alignment.world_from_cam, pointmaps)
        if cache.tree is None and isinstance(self._backend, PromptedMaskBackend):
            source = self._backend.prompts([view.image for view in views], made)
            return recover_lost(
                made, cache, changed, lambda: _by_source(source, changed, pointmaps, visibility)
            )
        if made.tree is not None:
            return made
        objects = ObjectTree.of_cache(cache)
        lifted = lift_leaves(objects.tree.leaves, changed, pointmaps, visibility)
        made = recover_lost(made, cache, changed, lambda: _by_leaves(lifted, objects))
        return made if objects.derived else carry_tree(made, cache, changed, lifted)


def _by_leaves(lifted: NDArray[np.int32], objects: ObjectTree) -> FindMask:
    """Looks for lost objects among the leaves (H, W) of the view."""
    return lambda _, lost: in_runs(lifted, objects.runs(lost.object_id))


def _by_source(
    source: MaskSource, changed: int, world: WorldPointmaps, visibility: Visibility
) -> FindMask:
    """Looks for lost objects by what a source of masks proposes in the view."""

    def find(cache: MaskCache, lost: ObjectRecord) -> NDArray[np.bool_] | None:
        maps = cache.maps[LEVELS.index(lost.level)]
        known = {view: maps[view] == lost.object_id for view in lost.views}
        found = find_in_view(source, changed, known, world, visibility)
        return None if found is None else found[0] > 0.5

    return find
