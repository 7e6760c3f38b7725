"""Object masks of posed RGB-D views: the steps to a mask cache, on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.files.reading import of_home
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import (
    Alignment,
    MaskCache,
    MaskOrigin,
    MaskTree,
    View,
    WorldPointmaps,
)
from wildseg3d_ros.masks.association import unmasked_views
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.darkness import warn_if_black
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.masks.geometric.evidence import DEFAULT, own_network, package_network
from wildseg3d_ros.masks.incremental import replace_view_masks
from wildseg3d_ros.masks.surface.drawing import draw_labels, leaves_in_view, voxels_in_view
from wildseg3d_ros.masks.surface.fused import (
    EvidenceSource,
    Surface,
    fuse_patches,
    segment_surface,
)
from wildseg3d_ros.masks.surface.objects import objects_of
from wildseg3d_ros.masks.surface.observations import observe_views


class GeometricMasks:
    """Finds objects as parts of the fused surface; what is learned was learned on simulated scenes
    and comes with the package.

    Args:
        sources: of evidence beside shape, colour, regions of the images and the network.

    Raises:
        FileError: the weights of the configuration are no file with such a network.
    """

    def __init__(
        self,
        config: GeometricMaskConfig = GeometricMaskConfig(),
        sources: Sequence[EvidenceSource] = (),
    ) -> None:
        self._config, self._sources = config, sources
        self._own_network = own_network(config.weights)
        named = "" if config.weights == DEFAULT else config.weights
        self._origin = MaskOrigin(
            "geometric", str(of_home(named).resolve()) if self._own_network else named
        )

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
        observations = observe_views(
            [view.image for view in views],
            pointmaps,
            alignment.K,
            alignment.world_from_cam,
            lambda share: progress.update(0.1 * share),
        )
        fused = fuse_patches(
            observations,
            self._config.voxel_size,
            alignment.metric,
            lambda share: progress.update(0.1 + 0.4 * share),
        )
        if fused is None:
            labels = tuple(np.zeros(view.size, np.int32) for view in views)
            scores = tuple(np.zeros(view.size, np.float32) for view in views)
            return MaskCache(labels, scores, object_ids=(), origin=self._origin)
        network = self._own_network
        if self._config.weights == DEFAULT:
            network = package_network(progress)
        if network is not None:
            fused = fused.with_affinities(network)
        surface = segment_surface(fused, self._sources)
        progress.update(0.65)
        visibility = Visibility.create(alignment.K, alignment.world_from_cam, pointmaps)
        cache = _as_cache(views, surface, pointmaps, visibility, progress)
        return dataclasses.replace(cache, origin=self._origin)

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


def _as_cache(
    views: Sequence[View],
    surface: Surface,
    pointmaps: WorldPointmaps,
    visibility: Visibility,
    progress: Progress,
) -> MaskCache:
    """The masks of all views, and the tree that their leaves are of."""
    fused = surface.fused
    nodes, labels = objects_of(surface)
    of_voxel = fused.patches.of_voxel

    def draw(i: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
        observation, cloud = fused.observations[i], fused.cloud
        seen = voxels_in_view(observation, cloud, cloud.of_pixel[i])
        said = None if fused.seen is None else fused.seen[i]
        mask, score = draw_labels(views[i].image, observation, seen, labels, said)
        return mask, score, leaves_in_view(observation, seen, labels, of_voxel, mask)

    drawn = []
    with ThreadPoolExecutor(THREADS) as pool:
        for each in pool.map(draw, range(len(views))):
            drawn.append(each)
            progress.update(0.65 + 0.3 * len(drawn) / len(views))
    maps, scores, leaves = (tuple(part) for part in zip(*drawn, strict=True))
    tree, name = MaskTree.of_parents(leaves, surface.tree.parent, surface.score)
    shown = np.unique(np.concatenate([np.unique(each) for each in maps]))
    records = describe_objects(
        [maps], scores, unmasked=unmasked_views([maps], pointmaps, visibility)
    )
    records = tuple(
        dataclasses.replace(
            each,
            nodes=(node := int(name[nodes[each.object_id - 1]]),),
            score=float(tree.score[node]),
            ambiguity=tree.certainty(tree.leaves_of([node]))[1],
        )
        for each in records
    )
    progress.update(1.0)
    ids = tuple(shown[shown > 0].tolist())
    return MaskCache(maps, scores, ids, objects=records, tree=tree)
