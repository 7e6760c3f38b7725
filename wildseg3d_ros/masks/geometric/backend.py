"""Weight-free object masks: the steps from posed RGB-D views to a mask cache, on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, MaskCache, MaskOrigin, View, WorldPointmaps
from wildseg3d_ros.masks.association import Tracks, associate
from wildseg3d_ros.masks.darkness import warn_if_black
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.masks.incremental import assemble_cache, replace_view_masks
from wildseg3d_ros.masks.surface.drawing import draw_labels, voxels_in_view
from wildseg3d_ros.masks.surface.fused import fuse_surface
from wildseg3d_ros.masks.surface.objects import name_objects
from wildseg3d_ros.masks.surface.observations import observe_views

_ORIGIN = MaskOrigin("geometric")


class GeometricMasks:
    """Finds objects as parts of the fused surface, with no learned weights."""

    def __init__(self, config: GeometricMaskConfig = GeometricMaskConfig()) -> None:
        self._config = config

    def check(self, views: Sequence[View], changed: int | None = None) -> None:
        """Takes any views."""

    def segment(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        progress: Progress,
    ) -> MaskCache:
        """See :meth:`MaskBackend.segment`."""
        progress.update(0.0)
        for view in views:
            warn_if_black(view, "its masks come from depth and the other views alone", progress)
        images = [view.image for view in views]
        observations = observe_views(
            images,
            pointmaps,
            alignment.K,
            alignment.world_from_cam,
            lambda share: progress.update(0.1 * share),
        )
        surface = fuse_surface(
            observations,
            self._config.voxel_size,
            alignment.metric,
            lambda share: progress.update(0.1 + 0.5 * share),
        )
        if surface is None:
            labels = tuple(np.zeros(view.size, np.int32) for view in views)
            scores = tuple(np.zeros(view.size, np.float32) for view in views)
            return MaskCache(labels, scores, object_ids=(), origin=_ORIGIN)
        cloud = surface.cloud
        labels = name_objects(
            cloud, surface.patches, surface.planes, surface.clusters, surface.metric_scale
        )

        def draw(i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
            seen = voxels_in_view(observations[i], cloud, cloud.of_pixel[i])
            return draw_labels(images[i], observations[i], seen, labels)

        masks = []
        with ThreadPoolExecutor(THREADS) as pool:
            for mask in pool.map(draw, range(len(views))):
                masks.append(mask)
                progress.update(0.6 + 0.35 * len(masks) / len(views))
        maps, scores = (tuple(part) for part in zip(*masks, strict=True))
        result = associate(
            maps,
            pointmaps,
            Visibility.create(alignment.K, alignment.world_from_cam, pointmaps),
            _tracks_of_surface(maps),
            progress=lambda: progress.update(0.95),
        )
        progress.update(1.0)
        return dataclasses.replace(assemble_cache(result, scores, {}, {}), origin=_ORIGIN)

    def update(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        cache: MaskCache,
        changed: int,
        progress: Progress,
    ) -> MaskCache:
        """See :meth:`MaskBackend.update`.

        Objects are parts of the fused surface, so all of it is segmented again; the masks of the
        new image are then given to the objects that the cache has.
        """
        fresh = self.segment(views, alignment, pointmaps, progress)
        return replace_view_masks(
            cache,
            changed,
            fresh.labels[changed][None],
            lambda _: fresh.scores[changed],
            Visibility.create(alignment.K, alignment.world_from_cam, pointmaps),
            pointmaps,
        )


def _tracks_of_surface(labels: Sequence[NDArray[np.int32]]) -> list[Tracks]:
    """Every view's masks, followed over the fused surface into all others.

    Unlike a video model's tracks they lose nothing on the way, so that each view is a run of its
    own: what one view contradicts says nothing of the next one.
    """
    views = range(len(labels))
    return [
        Tracks(
            anchor,
            tuple(None if view == anchor else labels[view] for view in views),
            tuple((view,) for view in views if view != anchor),
        )
        for anchor in views
    ]
