"""Weight-free object masks: the steps from posed RGB-D views to a mask cache, on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import MaskConfig
from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association import associate
from wildseg3d_ros.masks.geometric.affinities import edge_log_odds, gap_log_odds
from wildseg3d_ros.masks.geometric.clustering import agglomerate
from wildseg3d_ros.masks.geometric.gaps import Gaps, links_over_gaps
from wildseg3d_ros.masks.geometric.hidden_support import find_hidden_support
from wildseg3d_ros.masks.geometric.identity import tracks_of_surface
from wildseg3d_ros.masks.geometric.objects import UNKNOWN, adopt_crumbs, name_objects
from wildseg3d_ros.masks.geometric.observations import Observation, observe
from wildseg3d_ros.masks.geometric.refinement import refine
from wildseg3d_ros.masks.geometric.supervoxels import Supervoxels, grow_supervoxels
from wildseg3d_ros.masks.geometric.supports import Plane, find_planes, plane_tolerance
from wildseg3d_ros.masks.geometric.votes import image_regions, region_votes
from wildseg3d_ros.masks.geometric.voxels import (
    VoxelCloud,
    fuse_voxels,
    voxel_size_from_footprint,
)
from wildseg3d_ros.masks.incremental import assemble_cache, replace_masks
from wildseg3d_ros.masks.projection import splat
from wildseg3d_ros.parallel import THREADS
from wildseg3d_ros.progress import Progress
from wildseg3d_ros.types import Alignment, MaskCache, MaskOrigin, View, WorldPointmaps

LONG_EDGE = 640
"""Longer edge of the working resolution [px]; outlines are refined at half of it or more."""
SUPERVOXEL = 4.0
"""Distance of the supervoxels' seeds, in voxels."""
GAP_REACH = 0.1
"""Largest gap that parts of one object are linked over [m]: the width of a cup."""
BLACK = 12
"""What is less bright is the noise of a sensor in the dark [0..255]."""

_ORIGIN = MaskOrigin("geometric")


class GeometricMasks:
    """Finds objects as parts of the fused surface, with no learned weights."""

    def __init__(self, config: MaskConfig) -> None:
        self._config = config.geometric

    def check(self, views: Sequence[View], changed: int | None = None) -> None:
        """Takes any views."""

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
        progress.update(0.0)
        observations = []
        for i, view in enumerate(views):
            if _is_black(view.image):
                progress.warn(
                    f"camera '{view.name}': its image is black, so that its masks come from depth "
                    "and the other views alone; look at its lens cap, light and exposure"
                )
            observations.append(
                observe(
                    view,
                    pointmaps.points[i],
                    pointmaps.confidence[i],
                    alignment.world_from_cam[i],
                    alignment.K[i],
                    LONG_EDGE,
                )
            )
            progress.update(0.1 * (i + 1) / len(views))
        size = self._config.voxel_size or voxel_size_from_footprint(observations)
        cloud = fuse_voxels(observations, size)
        progress.update(0.25)
        if cloud is None:
            return _nothing(views)
        metre = 1.0 if alignment.metric else _assumed_metre(observations)
        with ThreadPoolExecutor(THREADS) as pool:
            regions = []
            for region in pool.map(image_regions, observations):
                regions.append(region)
                progress.update(0.25 + 0.2 * len(regions) / len(views))
            votes = region_votes(cloud, regions, [o.size[1] for o in observations])
            patches = grow_supervoxels(cloud, votes, SUPERVOXEL)
            planes = find_planes(cloud, patches, metre)
            gaps = links_over_gaps(cloud, patches, regions, observations, GAP_REACH * metre)
            progress.update(0.55)
            clusters = _cluster(cloud, patches, planes, gaps, metre)
            hidden = find_hidden_support(
                cloud,
                patches,
                votes,
                [plane for plane in planes if plane.evidence > 0],
                clusters,
                np.stack([o.world_from_cam[:3, 3] for o in observations]),
            )
            if hidden is not None:
                planes = [*planes, hidden]
                clusters = _cluster(cloud, patches, planes, gaps, metre)
            progress.update(0.6)
            labels = name_objects(cloud, patches, planes, clusters, metre)

            def draw(i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
                return _masks_of_view(views[i], observations[i], cloud, cloud.of_pixel[i], labels)

            masks = []
            for mask in pool.map(draw, range(len(views))):
                masks.append(mask)
                progress.update(0.6 + 0.35 * len(masks) / len(views))
        maps, scores = (tuple(part) for part in zip(*masks, strict=True))
        result = associate(
            maps,
            pointmaps,
            Visibility.create(alignment.K, alignment.world_from_cam, pointmaps),
            tracks_of_surface(maps),
            tick=lambda: progress.update(0.95),
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
        """The cache after the image of one view was replaced; ids of the others stay.

        Objects are parts of the fused surface, so all of it is segmented again; the masks of the
        new image are then given to the objects that the cache has.
        """
        fresh = self.segment(views, alignment, pointmaps, progress)
        return replace_masks(
            cache,
            changed,
            fresh.labels[changed][None],
            lambda _: fresh.scores[changed],
            Visibility.create(alignment.K, alignment.world_from_cam, pointmaps),
            pointmaps,
        )


def _nothing(views: Sequence[View]) -> MaskCache:
    return MaskCache(
        labels=tuple(np.zeros(view.size, np.int32) for view in views),
        scores=tuple(np.zeros(view.size, np.float32) for view in views),
        object_ids=(),
        origin=_ORIGIN,
    )


def _is_black(image: NDArray[np.uint8]) -> bool:
    """Whether hardly a pixel in a hundred is brighter than a dark sensor's noise."""
    return float((image.max(axis=2) > BLACK).mean()) < 0.01


def _assumed_metre(observations: Sequence[Observation]) -> float:
    """One metre in the units of a scene without scale: things are looked at from about 0.8 m."""
    depth = np.concatenate([o.depth[o.depth > 0] for o in observations])
    return float(np.median(depth)) / 0.8


def _cluster(
    cloud: VoxelCloud,
    patches: Supervoxels,
    planes: Sequence[Plane],
    gaps: Gaps,
    metre: float,
) -> NDArray[np.int64]:
    """(P,) cluster of each patch; each support is one cluster from the start."""
    group = np.arange(len(patches))
    support = np.zeros(len(patches), np.bool_)
    for plane in planes:
        if plane.evidence > 0 and plane.patches.any():
            support |= plane.patches
            group[plane.patches] = np.nonzero(plane.patches)[0][0]
    odds = edge_log_odds(patches, planes, plane_tolerance(cloud))
    free = ~support[gaps.pairs].any(axis=1)
    clusters = agglomerate(
        np.concatenate([patches.edges, gaps.pairs[free]]),
        np.concatenate([patches.contacts, gaps.lengths[free]]),
        np.concatenate([odds, gap_log_odds(patches, gaps.pairs[free])]),
        patches.count,
        group,
        support,
        cloud.degree,
    )
    return adopt_crumbs(cloud, patches, odds, clusters, metre)


def _masks_of_view(
    view: View,
    observation: Observation,
    cloud: VoxelCloud,
    own: NDArray[np.int32],
    labels: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Full-resolution labels and scores of one view."""
    height, width = view.size
    h, w = observation.size
    seen, _ = splat(
        cloud.points, cloud.size, observation.world_from_cam, observation.K, observation.size
    )
    # Where the view has depth its own point says what is there, sharper than drawn voxels do.
    seen = np.where(own >= 0, own, seen)
    projected = np.where(seen >= 0, labels[seen], UNKNOWN).astype(np.int32)
    image = view.image
    if observation.stride > 1:
        image = np.asarray(cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
    label, score = refine(image, projected)
    if observation.stride > 1:
        size = (width, height)
        label = cv2.resize(label.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        score = cv2.resize(score, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(label, np.int32), np.asarray(score, np.float32).clip(0.0, 1.0)
