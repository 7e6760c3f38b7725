"""The fused surface of a scene, cut into patches, and what holds or parts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.masks.surface.affinities import edge_log_odds, gap_log_odds
from wildseg3d_ros.masks.surface.clustering import merge_supervoxels
from wildseg3d_ros.masks.surface.gaps import Gaps, links_over_gaps
from wildseg3d_ros.masks.surface.hidden_support import find_hidden_support
from wildseg3d_ros.masks.surface.objects import adopt_crumbs
from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.supervoxels import Supervoxels, grow_supervoxels
from wildseg3d_ros.masks.surface.supports import Plane, find_planes, plane_tolerance
from wildseg3d_ros.masks.surface.votes import image_regions, region_votes
from wildseg3d_ros.masks.surface.voxels import (
    VoxelCloud,
    fuse_voxels,
    voxel_size_from_footprint,
)

SUPERVOXEL = 4.0
"""Distance of the supervoxels' seeds, in voxels."""
GAP_REACH = 0.1
"""Largest gap that parts of one object are linked over [m]: the width of a cup."""


@dataclass(frozen=True, eq=False)
class Surface:
    """All views fused and cut into patches.

    Attributes:
        observations: one per view.
        cloud: surface voxels.
        patches: of the voxels.
        planes: with their evidence of being supports.
        gaps: between patches that only meet in an image.
        clusters: (P,) of the patches: things, supports and crumbs.
        metre: one metre in scene units, an estimate where the scene is not metric.
    """

    observations: tuple[Observation, ...]
    cloud: VoxelCloud
    patches: Supervoxels
    planes: tuple[Plane, ...]
    gaps: Gaps
    clusters: NDArray[np.int64]
    metre: float

    def cluster(
        self,
        planes: Sequence[Plane],
        together: NDArray[np.intp],
        apart: NDArray[np.intp],
        bias: float,
    ) -> NDArray[np.int64]:
        """(P,) clusters if more is known of the surface than itself shows.

        Args:
            planes: in place of the surface's own.
            together: patches that are one thing, whatever the evidence says; one or more.
            apart: patches that are not part of that thing.
            bias: log-odds that are added to the evidence of all contacts.
        """
        return _cluster(
            self.cloud, self.patches, planes, self.gaps, self.metre, together, apart, bias
        )


def fuse_surface(
    observations: Sequence[Observation],
    voxel_size: float,
    metric: bool,
    tick: Callable[[float], None] = lambda _: None,
) -> Surface | None:
    """Fuses the views; None when they have no usable point.

    Args:
        voxel_size: edge of a voxel in scene units; 0 = from the images' resolution.
        metric: whether the scene's unit is the metre.
        tick: told the share of the work that is done.
    """
    cloud = fuse_voxels(observations, voxel_size or voxel_size_from_footprint(observations))
    tick(0.3)
    if cloud is None:
        return None
    metre = 1.0 if metric else _assumed_metre(observations)
    with ThreadPoolExecutor(THREADS) as pool:
        regions = []
        for region in pool.map(image_regions, observations):
            regions.append(region)
            tick(0.3 + 0.4 * len(regions) / len(observations))
    votes = region_votes(cloud, regions, [o.size[1] for o in observations])
    patches = grow_supervoxels(cloud, votes, SUPERVOXEL)
    planes = find_planes(cloud, patches, metre)
    gaps = links_over_gaps(cloud, patches, regions, observations, GAP_REACH * metre)
    tick(0.9)
    clusters = _cluster(cloud, patches, planes, gaps, metre)
    walls = [plane for plane in planes if plane.evidence > 0]
    centres = np.stack([o.world_from_cam[:3, 3] for o in observations])
    hidden = find_hidden_support(cloud, patches, votes, walls, clusters, centres)
    if hidden is not None:
        planes.append(hidden)
        clusters = _cluster(cloud, patches, planes, gaps, metre)
    tick(1.0)
    return Surface(tuple(observations), cloud, patches, tuple(planes), gaps, clusters, metre)


_NONE = np.zeros(0, np.intp)


def _cluster(
    cloud: VoxelCloud,
    patches: Supervoxels,
    planes: Sequence[Plane],
    gaps: Gaps,
    metre: float,
    together: NDArray[np.intp] = _NONE,
    apart: NDArray[np.intp] = _NONE,
    bias: float = 0.0,
) -> NDArray[np.int64]:
    """(P,) cluster of each patch; each support is one cluster from the start."""
    group = np.arange(len(patches))
    support = np.zeros(len(patches), np.bool_)
    for plane in planes:
        if plane.evidence > 0 and plane.patches.any():
            support |= plane.patches
            group[plane.patches] = np.nonzero(plane.patches)[0][0]
    marks = np.zeros(len(patches), np.int64)
    if len(together):
        group[together] = together[0]
    marks[together], marks[apart] = 1, 2
    odds = edge_log_odds(patches, planes, plane_tolerance(cloud)) + bias
    free = ~support[gaps.pairs].any(axis=1)
    clusters = merge_supervoxels(
        np.concatenate([patches.edges, gaps.pairs[free]]),
        np.concatenate([patches.contacts, gaps.lengths[free]]),
        np.concatenate([odds, gap_log_odds(patches, gaps.pairs[free]) + bias]),
        patches.count,
        group,
        support,
        cloud.degree,
        marks,
    )
    adopted = adopt_crumbs(cloud, patches, odds, clusters, metre)
    # What is apart may be a crumb, which is adopted by its neighbour.
    joined = len(together) and (adopted[apart] == adopted[together[:1]]).any()
    return clusters if joined else adopted


def _assumed_metre(observations: Sequence[Observation]) -> float:
    """One metre in the units of a scene without scale: things are looked at from about 0.8 m."""
    depth = np.concatenate([o.depth[o.depth > 0] for o in observations])
    return float(np.median(depth)) / 0.8
