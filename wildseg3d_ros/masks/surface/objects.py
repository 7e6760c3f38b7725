"""Which clusters are objects, background, or fragments of something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.supervoxels import Supervoxels
from wildseg3d_ros.masks.surface.supports import Plane, plane_tolerance
from wildseg3d_ros.masks.surface.voxels import VoxelCloud

UNKNOWN = -1
"""Label of surface that is neither background nor large enough for an object."""
SMALLEST_FACE = 0.025
"""Visible surface of the smallest object, as the edge of a square [m]."""
LARGEST_EXTENT = 0.8
"""Diagonal above which nothing is an object to pick up [m]."""


def adopt_fragments(
    cloud: VoxelCloud,
    patches: Supervoxels,
    log_odds: NDArray[np.float64],
    clusters: NDArray[np.int64],
    metric_scale: float,
) -> NDArray[np.int64]:
    """(P,) clusters after each fragment was merged into the neighbour with the best evidence.

    Args:
        log_odds: (E,) evidence of the patches' edges.
        metric_scale: scene units per metre.
    """
    clusters = clusters.copy()
    smallest = smallest_object(cloud, metric_scale)
    for _ in range(2):
        names, index = np.unique(clusters, return_inverse=True)
        index = index.reshape(-1)
        fragment = np.bincount(index, patches.count) < smallest
        one, other = index[np.concatenate([patches.edges, patches.edges[:, ::-1]])].T
        length, odds = np.tile(patches.contacts, 2), np.tile(log_odds, 2)
        meets = fragment[one] & ~fragment[other]
        if not meets.any():
            break
        key, pair = np.unique(one[meets] * len(names) + other[meets], return_inverse=True)
        pair = pair.reshape(-1)
        mean = np.bincount(pair, (length * odds)[meets]) / np.bincount(pair, length[meets])
        # A fragment all of whose neighbours are clearly something else stays unknown. Of several
        # writes NumPy keeps the last, the one with the best evidence.
        rising = np.argsort(mean, kind="stable")
        rising = rising[mean[rising] > -1.0]
        target = np.arange(len(names))
        target[key[rising] // len(names)] = key[rising] % len(names)
        clusters = names[target[index]]
    return clusters


def smallest_object(cloud: VoxelCloud, metric_scale: float) -> float:
    """Voxels of the smallest object; fewer than 40 are none, however large voxels are."""
    return max(40.0, cloud.layers * (SMALLEST_FACE * metric_scale / cloud.size) ** 2)


def name_objects(
    cloud: VoxelCloud,
    patches: Supervoxels,
    planes: Sequence[Plane],
    clusters: NDArray[np.int64],
    metric_scale: float,
) -> NDArray[np.int32]:
    """(V,) label of each voxel: 0 background, 1, 2, ... objects from large to small, or UNKNOWN.

    Args:
        planes: with their evidence; those without patches are supports that the sensor misses.
        clusters: (P,) cluster of each patch.
        metric_scale: scene units per metre.
    """
    supports = [plane for plane in planes if plane.evidence > 0]
    names, index = np.unique(clusters, return_inverse=True)
    index = index.reshape(-1)
    mass = np.bincount(index, patches.count)
    of_voxel = index[patches.of_voxel]
    tolerance = plane_tolerance(cloud)
    background = np.zeros(len(names), np.bool_)
    heights = [cloud.points @ plane.normal - plane.offset for plane in supports]
    for plane, height in zip(supports, heights, strict=True):
        background[index[plane.patches]] = True
        # What lies in a support from end to end is an island of it, cut off by a shadow.
        background |= np.bincount(of_voxel, np.abs(height) < 1.5 * tolerance) > 0.8 * mass
        if not plane.patches.any():
            behind = height < 0
            for other, above in zip(supports, heights, strict=True):
                if other is not plane:
                    behind &= above > -tolerance
            background |= np.bincount(of_voxel, behind) > 0.8 * mass  # mirrored
    low, high = np.full((len(names), 3), np.inf), np.full((len(names), 3), -np.inf)
    np.minimum.at(low, of_voxel, cloud.points)
    np.maximum.at(high, of_voxel, cloud.points)
    background |= np.linalg.norm(high - low, axis=1) > LARGEST_EXTENT * metric_scale
    label = np.full(len(names), UNKNOWN, np.int32)
    label[background] = 0
    found = np.nonzero(~background & (mass >= smallest_object(cloud, metric_scale)))[0]
    found = found[np.argsort(-mass[found], kind="stable")]
    label[found] = np.arange(1, len(found) + 1)
    return label[of_voxel]
