"""The fused surface of a scene, cut into patches and clustered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.parallel import THREADS
from wildseg3d_ros.masks.surface.affinities import edge_log_odds, gap_log_odds
from wildseg3d_ros.masks.surface.clustering import merge_supervoxels
from wildseg3d_ros.masks.surface.gaps import Gaps, links_over_gaps
from wildseg3d_ros.masks.surface.hidden_support import find_hidden_support
from wildseg3d_ros.masks.surface.objects import adopt_fragments
from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.supervoxels import Supervoxels, grow_supervoxels
from wildseg3d_ros.masks.surface.supports import Plane, find_planes, plane_tolerance
from wildseg3d_ros.masks.surface.votes import image_regions, region_votes
from wildseg3d_ros.masks.surface.voxels import (
    VoxelCloud,
    fuse_voxels,
    voxel_size_from_footprint,
)

MAX_GAP = 0.1
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
        clusters: (P,) of the patches: things, supports and fragments.
        metric_scale: scene units per metre, an estimate where the scene is not metric.
    """

    observations: tuple[Observation, ...]
    cloud: VoxelCloud
    patches: Supervoxels
    planes: tuple[Plane, ...]
    gaps: Gaps
    clusters: NDArray[np.int64]
    metric_scale: float


def fuse_surface(
    observations: Sequence[Observation],
    voxel_size: float,
    metric: bool,
    progress: Callable[[float], None] = lambda _: None,
) -> Surface | None:
    """Fuses the views; None when they have no usable point.

    Args:
        voxel_size: edge of a voxel in scene units; 0 = from the images' resolution.
        metric: whether the scene's unit is the metre.
        progress: told the share of the work that is done.
    """
    cloud = fuse_voxels(observations, voxel_size or voxel_size_from_footprint(observations))
    progress(0.3)
    if cloud is None:
        return None
    scale = 1.0
    if not metric:
        depth = np.concatenate([o.depth[o.depth > 0] for o in observations])
        scale = float(np.median(depth)) / 0.8  # the viewing distance is about 0.8 m
    with ThreadPoolExecutor(THREADS) as pool:
        regions = []
        for region in pool.map(image_regions, observations):
            regions.append(region)
            progress(0.3 + 0.4 * len(regions) / len(observations))
    votes = region_votes(cloud, regions, [o.size[1] for o in observations])
    patches = grow_supervoxels(cloud, votes)
    planes = find_planes(cloud, patches, scale)
    gaps = links_over_gaps(cloud, patches, regions, observations, MAX_GAP * scale)
    progress(0.9)
    alone = np.arange(len(patches))
    surface = Surface(tuple(observations), cloud, patches, tuple(planes), gaps, alone, scale)
    clusters = cluster_patches(surface, planes)
    walls = [plane for plane in planes if plane.evidence > 0]
    centres = np.stack([o.world_from_cam[:3, 3] for o in observations])
    hidden = find_hidden_support(cloud, patches, votes, walls, clusters, centres)
    if hidden is not None:
        planes.append(hidden)
        clusters = cluster_patches(surface, planes)
    progress(1.0)
    return replace(surface, planes=tuple(planes), clusters=clusters)


_NONE = np.zeros(0, np.intp)


def cluster_patches(
    surface: Surface,
    planes: Sequence[Plane],
    together: NDArray[np.intp] = _NONE,
    apart: NDArray[np.intp] = _NONE,
    bias: float = 0.0,
) -> NDArray[np.int64]:
    """(P,) cluster of each patch; each support is one cluster from the start.

    Args:
        surface: its own clusters do not matter.
        planes: in place of the surface's own.
        together: patches that are one thing, whatever the evidence says.
        apart: patches that are not part of that thing.
        bias: log-odds that are added to the evidence of all contacts.
    """
    cloud, patches, gaps = surface.cloud, surface.patches, surface.gaps
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
        cloud.layers,
        marks,
    )
    adopted = adopt_fragments(cloud, patches, odds, clusters, surface.metric_scale)
    # What is apart may be a fragment, which is adopted by its neighbour.
    joined = len(together) and (adopted[apart] == adopted[together[:1]]).any()
    return clusters if joined else adopted
