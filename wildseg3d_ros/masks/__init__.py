"""Mask back ends: objects of all views with one id per object. The table is read lazily."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, MaskCache, View, WorldPointmaps
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.interactive.recovering import recover_lost
from wildseg3d_ros.masks.interactive.sources import MaskSource


class MaskBackend(Protocol):
    """Finds the objects of a scene and their masks in every view."""

    def check(self, views: Sequence[View], changed: int | None = None) -> None:
        """Refuses views that could not be segmented, before anything is computed of them.

        Args:
            changed: index of the only view with a new image; by default all have one.

        Raises:
            ConfigError: they do not fit into the memory that the user allows.
        """
        ...

    def segment(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        progress: Progress,
    ) -> MaskCache:
        """Label maps and soft scores of all views, ids consistent over views.

        Raises:
            Cancelled: the caller asked to stop.
        """
        ...

    def update(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        cache: MaskCache,
        changed: int,
        progress: Progress,
    ) -> MaskCache:
        """The cache after the image of view ``changed`` was replaced.

        The masks of all other views and their ids stay as they are.

        Raises:
            Cancelled: the caller asked to stop.
        """
        ...


@runtime_checkable
class PromptedMaskBackend(Protocol):
    """A back end that also answers prompts outside its masks."""

    def prompts(self, images: Sequence[NDArray[np.uint8]], cache: MaskCache) -> MaskSource:
        """What proposes masks for points and boxes in the views of a cache."""
        ...


_BACKENDS = {
    "geometric": ("wildseg3d_ros.masks.geometric.backend", "GeometricMasks"),
    "sam2": ("wildseg3d_ros.masks.sam2.backend", "Sam2Masks"),
}


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


def as_built(config: MaskConfig, cache: MaskCache) -> MaskConfig:
    """The configuration with the back end and the weights that built a cache."""
    origin = cache.origin
    if origin is None:
        return config
    config = dataclasses.replace(config, backend=cast(Any, origin.backend))
    if not origin.weights or origin.backend != "sam2":
        return config
    return dataclasses.replace(
        config, sam2=dataclasses.replace(config.sam2, weights=origin.weights)
    )


def load_masks(config: MaskConfig) -> MaskBackend:
    """The back end that the configuration names, ready to segment.

    Raises:
        ConfigError: there is none of that name, or something that it needs is missing.
        FileError: it has no weights.
    """
    if config.backend not in _BACKENDS:
        raise ConfigError(
            f"there is no mask back end '{config.backend}'; set masks.backend to one of "
            f"{', '.join(_BACKENDS)}"
        )
    module, name = _BACKENDS[config.backend]
    return getattr(importlib.import_module(module), name)(config)


def load_masks_for(cache: MaskCache, config: MaskConfig) -> MaskBackend:
    """The configured mask back end, ready to change the masks of a scene.

    Raises:
        FileError, ConfigError: it cannot be loaded; says so if it is the scene's own.
    """
    try:
        return load_masks(config)
    except (FileError, ConfigError) as error:
        origin = cache.origin
        if origin is None or config != as_built(config, cache):
            raise
        raise type(error)(
            f"the scene's masks were made by {origin}, which cannot be loaded here: {error} "
            "(masks.backend=geometric)",
            error.code,
        ) from error
