"""The fused surface of a scene, cut into patches, and the tree of their merges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.parallel import THREADS, run_all
from wildseg3d_ros.masks.learned.affinities import Affinities
from wildseg3d_ros.masks.learned.network import AffinityModel, PixelAffinities
from wildseg3d_ros.masks.surface.gaps import Gaps, links_over_gaps
from wildseg3d_ros.masks.surface.graph import PairEvidence, SurfaceGraph
from wildseg3d_ros.masks.surface.hidden_support import find_hidden_support
from wildseg3d_ros.masks.surface.merge_tree import MergeTree, merge_patches
from wildseg3d_ros.masks.surface.model import ScoreModel, default_model
from wildseg3d_ros.masks.surface.node_features import node_features
from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.selection import node_of_patch, node_values, select_nodes
from wildseg3d_ros.masks.surface.supervoxels import Supervoxels, grow_supervoxels
from wildseg3d_ros.masks.surface.supports import Plane, find_planes, plane_tolerance
from wildseg3d_ros.masks.surface.votes import Votes, image_regions, region_votes
from wildseg3d_ros.masks.surface.voxels import (
    VoxelCloud,
    fuse_voxels,
    voxel_size_from_footprint,
)

MAX_GAP = 0.1
"""Largest gap that parts of one object are linked over [m]: the width of a cup."""


@dataclass(frozen=True, eq=False)
class Patches:
    """All views fused and cut into patches, before anything is decided.

    Attributes:
        observations: one per view.
        cloud: surface voxels.
        votes: of the images, one per edge of the cloud.
        patches: of the voxels.
        planes: with their evidence of being supports.
        gaps: between patches that only meet in an image.
        metric_scale: scene units per metre, an estimate where the scene is not metric.
        seen: what a network says of the views' pixels, if one was asked.
        affinities: and so of the patches.
    """

    observations: tuple[Observation, ...]
    cloud: VoxelCloud
    votes: Votes
    patches: Supervoxels
    planes: tuple[Plane, ...]
    gaps: Gaps
    metric_scale: float
    seen: tuple[PixelAffinities, ...] | None = None
    affinities: Affinities | None = None

    def graph(self) -> SurfaceGraph:
        """The patches and what is known of pairs of them."""
        graph = SurfaceGraph.create(
            self.cloud,
            self.patches,
            self.planes,
            self.gaps,
            self.observations,
            self.metric_scale,
        )
        if self.affinities is None:
            return graph
        # What a floor mirrors looks like part of the thing that stands on it.
        mirrored = 2.0 * self.behind_supports() > self.patches.count
        return graph.with_affinities(self.affinities.apart(mirrored))

    def behind_supports(self) -> NDArray[np.float64]:
        """(P,) number of each patch's voxels behind a support without depth and before all
        others: what a shiny floor mirrors."""
        supports = [plane for plane in self.planes if plane.evidence > 0]
        heights = [self.cloud.points @ plane.normal - plane.offset for plane in supports]
        mirrored = np.zeros(len(self.cloud), np.bool_)
        for plane, height in zip(supports, heights, strict=True):
            if not plane.patches.any():
                behind = height < 0
                for other, above in zip(supports, heights, strict=True):
                    if other is not plane:
                        behind &= above > -plane_tolerance(self.cloud)
                mirrored |= behind
        weight = mirrored.astype(np.float64)
        return np.bincount(self.patches.of_voxel, weight, len(self.patches)).astype(np.float64)

    def with_affinities(self, network: AffinityModel) -> Patches:
        """The same, and what the network says."""
        seen = tuple(run_all(lambda o: network(o.lab, o.depth, o.K), self.observations))
        views = zip(seen, self.patches_of_pixels(), strict=True)
        return replace(self, seen=seen, affinities=Affinities.of_views(views, len(self.patches)))

    def patches_of_pixels(self) -> list[NDArray[np.int32]]:
        """Per view (h, w) patch that each working pixel shows, -1 = none."""
        of_voxel = np.append(self.patches.of_voxel, -1).astype(np.int32)
        return [of_voxel[voxel] for voxel in self.cloud.of_pixel]


class EvidenceSource(Protocol):
    """Something that knows which patches belong together: masks, tracks, a network."""

    def evidence(self, surface: Patches) -> PairEvidence:
        """Log-odds of pairs of patches, summed over the views."""
        ...


@dataclass(frozen=True, eq=False)
class Surface:
    """The merge tree of all patches, and which of its nodes are taken.

    Attributes:
        fused: the patches.
        tree: of their merges.
        score: (T,) in [0, 1] of each node, the IoU that is expected between it and the thing that
            a click on it means; low for background.
        nodes: (K,) those taken: disjoint, they hold all patches.
    """

    fused: Patches
    tree: MergeTree
    score: NDArray[np.float64]
    nodes: NDArray[np.int64]


def fuse_patches(
    observations: Sequence[Observation],
    voxel_size: float,
    metric: bool,
    progress: Callable[[float], None] = lambda _: None,
) -> Patches | None:
    """Fuses the views; None when they have no usable point.

    Args:
        voxel_size: edge of a voxel in scene units; 0 = from the images' resolution.
        metric: whether the scene's unit is the metre.
        progress: told the share of the work that is done.
    """
    scale = 1.0
    if not metric:
        depth = np.concatenate([o.depth[o.depth > 0] for o in observations])
        scale = float(np.median(depth)) / 0.8  # the viewing distance is about 0.8 m
    with ThreadPoolExecutor(THREADS) as pool:
        coming = pool.map(image_regions, observations)  # meanwhile
        cloud = fuse_voxels(observations, voxel_size or voxel_size_from_footprint(observations))
        progress(0.4)
        if cloud is None:
            return None
        regions = []
        for region in coming:
            regions.append(region)
            progress(0.4 + 0.5 * len(regions) / len(observations))
    votes = region_votes(cloud, regions, [o.size[1] for o in observations])
    patches = grow_supervoxels(cloud, votes)
    planes = find_planes(cloud, patches, scale)
    gaps = links_over_gaps(cloud, patches, regions, observations, MAX_GAP * scale)
    progress(1.0)
    return Patches(tuple(observations), cloud, votes, patches, tuple(planes), gaps, scale)


def segment_surface(
    fused: Patches, sources: Sequence[EvidenceSource] = (), model: ScoreModel | None = None
) -> Surface:
    """Merges the patches to the root and takes the best nodes; once more where objects end on a
    support that has no depth.

    Args:
        sources: of further evidence.
        model: of the scores; by default the package's own for surfaces with, or without,
            affinities.
    """
    model = model or default_model(fused.affinities is not None)
    evidence = [source.evidence(fused) for source in sources]
    surface = _segment(fused, evidence, model)
    clusters = node_of_patch(surface.tree, surface.nodes)
    walls = [plane for plane in fused.planes if plane.evidence > 0]
    centres = np.stack([o.world_from_cam[:3, 3] for o in fused.observations])
    hidden = find_hidden_support(fused.cloud, fused.patches, fused.votes, walls, clusters, centres)
    if hidden is None:
        return surface
    return _segment(replace(fused, planes=(*fused.planes, hidden)), evidence, model)


def _segment(fused: Patches, evidence: Sequence[PairEvidence], model: ScoreModel) -> Surface:
    graph = fused.graph()
    if evidence:
        graph = graph.with_evidence(evidence)
    return Surface(fused, *scored_tree(graph, model))


def scored_tree(
    graph: SurfaceGraph, model: ScoreModel
) -> tuple[MergeTree, NDArray[np.float64], NDArray[np.int64]]:
    """All merges of a graph's patches, (T,) the score of each node, and which nodes are taken."""
    tree = merge_patches(graph, model.merge_log_odds)
    log_odds = model.node(node_features(tree, graph.layers, graph.voxel_size))
    score = 1.0 / (1.0 + np.exp(-log_odds))
    return tree, score, select_nodes(tree, node_values(tree, score))
