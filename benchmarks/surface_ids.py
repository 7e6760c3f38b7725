"""Ids over views by the surface: its patches are merged by the masks that hold them. What
:mod:`wildseg3d_ros.masks.association` is compared with.

Masks as evidence on pairs of patches, as in MaskClustering (Yan et al., CVPR 2024) and SAI3D (Yin
et al., CVPR 2024): a view that has two patches in one mask speaks for them, one that has them in
two, or one of them in a mask and the other in none, against. Patches, which end where masks do,
merge by average linkage while more speaks for it than against; a mask has the id of the cluster
that holds most of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.agglomeration import agglomerate
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.surface.observations import observe_views
from wildseg3d_ros.masks.surface.supervoxels import grow_supervoxels
from wildseg3d_ros.masks.surface.votes import region_votes
from wildseg3d_ros.masks.surface.voxels import VoxelCloud, fuse_voxels, voxel_size_from_footprint
from wildseg3d_testing.association import Ids
from wildseg3d_testing.scenes import ConstructedScene

IN_MASKS = 0.2
"""Share of a patch that masks of some view hold, below which it is background."""


def surface_ids(
    masks: Sequence[NDArray[np.integer]],
    world: WorldPointmaps,
    truth: ConstructedScene,
    poses: NDArray[np.float64] | None = None,
) -> Ids:
    """Per view the id of each mask by its label.

    Args:
        masks: per view (H, W) labels, 0 = none, at most 640 px wide.
        world: points by view.
        truth: images and intrinsics; poses, too, where none are given.
        poses: (N, 4, 4) world from camera.
    """
    images = [view.image for view in truth.views]
    K = np.stack([view.K for view in truth.views if view.K is not None])
    observations = observe_views(
        images, world, K, truth.world_from_cam if poses is None else poses
    )
    cloud = fuse_voxels(observations, voxel_size_from_footprint(observations))
    assert cloud is not None
    widths = [observation.size[1] for observation in observations]
    halves = [mask[::2, ::2].astype(np.int64) for mask in masks]
    patch = grow_supervoxels(cloud, region_votes(cloud, halves, widths)).of_voxel
    held = [_held(cloud, patch, view, mask) for view, mask in enumerate(masks)]
    kept = np.flatnonzero(np.max([each[:, 1:].sum(axis=1) for each in held], axis=0) > IN_MASKS)
    if len(kept) == 0:
        return [{} for _ in masks]
    agree, views = np.zeros((2, len(kept), len(kept)))
    for share in (each[kept] for each in held):
        seen = share.any(axis=1).astype(float)
        both = np.outer(seen, seen)
        same, none = share[:, 1:] @ share[:, 1:].T, np.outer(share[:, 0], share[:, 0])
        agree += same - (both - same - none)
        views += both
    pairs = np.argwhere(np.triu(views > 0, 1))
    sums = np.stack([agree[tuple(pairs.T)], views[tuple(pairs.T)]], axis=1)

    def score(
        _a: Sequence[int], _b: Sequence[int], said: Sequence[float], asked: Sequence[float]
    ) -> list[float]:
        return [each / count for each, count in zip(said, asked, strict=True)]

    cluster = agglomerate(len(kept), pairs, sums, score, lambda *_: None)
    of_patch = np.full(int(patch.max()) + 1, -1)
    of_patch[kept] = cluster
    return [_ids(cloud, of_patch[patch], view, mask) for view, mask in enumerate(masks)]


def _held(
    cloud: VoxelCloud, patch: NDArray[np.int32], view: int, mask: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(P, 1 + masks) share of each patch, as far as the view sees it, in no mask and in each; 0
    where it is not seen."""
    pixel = cloud.pixels[:, view]
    seen = pixel >= 0
    names, name = np.unique(np.append(mask.ravel()[pixel[seen]], 0), return_inverse=True)
    count = np.zeros((int(patch.max()) + 1, len(names)))
    np.add.at(count, (patch[seen], name[:-1]), 1.0)
    return count / np.maximum(count.sum(axis=1, keepdims=True), 1.0)


def _ids(
    cloud: VoxelCloud, cluster: NDArray[np.integer], view: int, mask: NDArray[np.integer]
) -> dict[int, int]:
    """The cluster (V,), -1 = none, that holds most of each mask's voxels."""
    pixel = cloud.pixels[:, view]
    there = (pixel >= 0) & (cluster >= 0)
    label, mine = mask.ravel()[pixel[there]], cluster[there]
    return {
        int(name): int(np.bincount(mine[label == name]).argmax())
        for name in np.unique(label[label > 0])
    }
