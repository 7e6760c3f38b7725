"""Mask back ends: what they promise, and loading the chosen one. See docs/how-to/extending.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, MaskCache, View, WorldPointmaps
from wildseg3d_ros.masks.config import MaskConfig

if TYPE_CHECKING:
    from wildseg3d_ros.masks.sources import MaskSource


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


def as_built(config: MaskConfig, cache: MaskCache) -> MaskConfig:
    """The configuration with the back end that built a cache and, as its ``weights``, its own."""
    origin = cache.origin
    if origin is None:
        return config
    config = dataclasses.replace(config, backend=origin.backend)
    group = config.group(origin.backend)
    if not origin.weights or not hasattr(group, "weights"):
        return config
    replaced = {origin.backend: dataclasses.replace(group, weights=origin.weights)}
    return dataclasses.replace(config, **replaced)


def why_nothing_found(cache: MaskCache) -> tuple[str, str]:
    """Why a cache may have no object, and the way out, as the back end that built it says."""
    config = MaskConfig.registry.find(cache.origin.backend) if cache.origin else None
    return getattr(config, "nothing_found", ("its masks are empty", "look at the images"))


def load_masks(config: MaskConfig) -> MaskBackend:
    """The back end that the configuration names, ready to segment.

    Raises:
        ConfigError: there is none of that name, or something that it needs is missing.
        FileError: it has no weights.
    """
    return config.load()


def load_masks_for(cache: MaskCache, config: MaskConfig, prompted: bool = False) -> MaskBackend:
    """The configured mask back end, ready to change the masks of a scene.

    Args:
        prompted: whether another one would have to take prompts.

    Raises:
        FileError, ConfigError: it cannot be loaded; says so if it is the scene's own.
    """
    try:
        return load_masks(config)
    except (FileError, ConfigError) as error:
        origin = cache.origin
        if origin is None or config != as_built(config, cache):
            raise
        which = (
            "one that takes prompts" if prompted else f"as by masks.backend={MaskConfig.backend}"
        )
        raise type(error)(
            f"the scene's masks were made by {origin}, which cannot be loaded here: {error}; mend "
            f"that, or take another back end, {which}",
            error.code,
        ) from error
