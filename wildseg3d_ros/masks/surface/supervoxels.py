"""Small patches of surface that are never cut again: the leaves of the tree of merges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid, group_means
from wildseg3d_ros.masks.surface.votes import Votes
from wildseg3d_ros.masks.surface.voxels import VoxelCloud


@dataclass(frozen=True, eq=False)
class Supervoxels:
    """Patches of a voxel cloud.

    Attributes:
        of_voxel: (V,) int32 patch of each voxel.
        count: (P,) number of voxels.
        centres, normals, lab: (P, 3) float64 means; normals are unit vectors towards the cameras.
        edges: (E, 2) int32 touching patches, a < b.
        contacts: (E,) float64 number of voxel edges between the two.
        same, both: (E,) votes of the images summed over these voxel edges.
    """

    of_voxel: NDArray[np.int32]
    count: NDArray[np.int64]
    centres: NDArray[np.float64]
    normals: NDArray[np.float64]
    lab: NDArray[np.float64]
    edges: NDArray[np.int32]
    contacts: NDArray[np.float64]
    same: NDArray[np.float64]
    both: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.count)


def grow_supervoxels(cloud: VoxelCloud, votes: Votes) -> Supervoxels:
    """Grows patches from seeds on a grid by shortest paths that avoid borders in the images.

    The idea is that of VCCS (Papon et al., CVPR 2013), with geodesic distance over the voxel graph
    in place of its local k-means, so that every patch is connected.

    Args:
        votes: of the images, one per edge of the cloud.
    """
    spacing = 4.0 * cloud.size  # of the seeds
    a, b = cloud.edges.T
    step = np.linalg.norm(cloud.points[a] - cloud.points[b], axis=1) / spacing
    crease = 1.0 - np.abs((cloud.normals[a] * cloud.normals[b]).sum(axis=1))
    colour = np.linalg.norm(cloud.lab[a] - cloud.lab[b], axis=1) / 100.0
    length = 1e-6 + 0.4 * step + crease + colour + (1.0 - votes.share)
    voxels = len(cloud)
    graph = sparse.coo_matrix((length, (a, b)), shape=(voxels, voxels)).tocsr()
    seeds = _seeds(cloud, spacing)
    # A component without a seed (its seed cell chose another one) gets its first voxel as seed.
    parts = components(voxels, cloud.edges)
    seeds = np.concatenate([seeds, np.setdiff1d(parts, parts[seeds])])
    _, _, source = csgraph.dijkstra(
        graph, directed=False, indices=seeds, min_only=True, return_predecessors=True
    )
    of_voxel = np.unique(source, return_inverse=True)[1].reshape(-1).astype(np.int32)
    count = np.bincount(of_voxel)
    normals = group_means(of_voxel, cloud.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    a, b = of_voxel[cloud.edges].T
    crossing = a != b
    a, b = np.minimum(a, b)[crossing].astype(np.int64), np.maximum(a, b)[crossing]
    key, index, contacts = np.unique(a * len(count) + b, return_inverse=True, return_counts=True)
    index = index.reshape(-1)
    return Supervoxels(
        of_voxel=of_voxel,
        count=count,
        centres=group_means(of_voxel, cloud.points),
        normals=normals,
        lab=group_means(of_voxel, cloud.lab),
        edges=np.stack([key // len(count), key % len(count)], axis=1).astype(np.int32),
        contacts=contacts.astype(np.float64),
        same=np.bincount(index, votes.same[crossing], len(key)).astype(np.float64),
        both=np.bincount(index, votes.both[crossing], len(key)).astype(np.float64),
    )


def _seeds(cloud: VoxelCloud, spacing: float) -> NDArray[np.int64]:
    """The flattest voxel near each grid cell's mean."""
    grid = VoxelGrid.of_coordinates(np.floor((cloud.points - cloud.points.min(axis=0)) / spacing))
    distance = np.linalg.norm(cloud.points - grid.mean(cloud.points)[grid.cell], axis=1) / spacing
    order = np.lexsort((distance + cloud.curvature, grid.cell))
    first = np.concatenate([[0], np.cumsum(grid.counts)[:-1]])
    return order[first]
