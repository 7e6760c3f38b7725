"""Masks of the one view whose image was replaced, and what proposes masks for prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, MaskCache, View, WorldPointmaps
from wildseg3d_ros.masks import MaskBackend, PromptedMaskBackend
from wildseg3d_ros.masks.interactive.recovering import recover_lost
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
        images = [view.image for view in views]
        return recover_lost(
            made,
            cache,
            changed,
            lambda: source_of_masks(self._backend, images, made, pointmaps, alignment),
            pointmaps,
            Visibility.create(alignment.K, alignment.world_from_cam, pointmaps),
        )


def source_of_masks(
    backend: MaskBackend | None,
    images: Sequence[NDArray[np.uint8]],
    cache: MaskCache,
    world: WorldPointmaps,
    alignment: Alignment,
) -> MaskSource:
    """What proposes masks for prompts: the back end if it can be prompted, else region growing."""
    if isinstance(backend, PromptedMaskBackend):
        return backend.prompts(images, cache)
    # It loads scikit-image, which no look-up needs.
    from wildseg3d_ros.masks.interactive.region_growing import RegionGrowing

    return RegionGrowing(images, world, alignment.K, alignment.world_from_cam, alignment.metric)
