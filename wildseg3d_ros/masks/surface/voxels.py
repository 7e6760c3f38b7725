"""All views fused into one cloud of surface voxels, and the graph of neighbouring voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import KDTree

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.planes import fit_planes
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid
from wildseg3d_ros.masks.surface.observations import Observation, depth_range

MAX_VOXELS = 100_000
"""More than this many voxels make the voxels grow: the cost of all later steps is bounded."""


@dataclass(frozen=True, eq=False)
class VoxelCloud:
    """Surface voxels with what all views say of them.

    Attributes:
        size: edge of a voxel in scene units.
        points: (V, 3) float32 weighted mean of the points inside.
        lab: (V, 3) float32 weighted mean colour.
        normals: (V, 3) float32 unit normals towards the cameras that saw the voxel.
        curvature: (V,) float32 in [0, 1/3], smallest eigenvalue share of the neighbourhood.
        noise: distance [scene units] of measured points to the local surface, robust deviation.
        pixels: (V, N) int32 flat working pixel of each view that sees the voxel, -1 where none.
        of_pixel: per view (h, w) int32 voxel that the pixel's own point lies in, -1 where none.
        edges: (E, 2) int32 neighbouring voxels, a < b.
    """

    size: float
    points: NDArray[np.float32]
    lab: NDArray[np.float32]
    normals: NDArray[np.float32]
    curvature: NDArray[np.float32]
    noise: float
    pixels: NDArray[np.int32]
    of_pixel: tuple[NDArray[np.int32], ...]
    edges: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def layers(self) -> float:
        """How many voxels thick noise makes the surface: in a thin one each has 8 neighbours."""
        return max(1.0, 2.0 * len(self.edges) / len(self.points) / 8.0)


def voxel_size_from_footprint(observations: Sequence[Observation]) -> float:
    """Voxel edge that a few pixels of the nearer views fill, in scene units; 0 without points.

    The first quartile of depth counts, so that a far background does not coarsen what is near.
    """
    known = [(o.depth[o.depth > 0], o.K[0, 0]) for o in observations]
    footprints = [np.quantile(depth, 0.25) / f for depth, f in known if depth.size]
    # Sensors give about one independent depth per 2 to 4 pixels; under 3 pixels voxels have holes.
    return 4.0 * float(np.median(footprints)) if footprints else 0.0


def fuse_voxels(observations: Sequence[Observation], size: float) -> VoxelCloud | None:
    """Fuses the views; None when they have no usable point.

    Voxels that the views contradict (more of them look through it than see it) are dropped: they
    are flying pixels, reflections, or things that move with a camera, such as its gripper.
    """
    used, parts = [], []
    for o in observations:
        good = o.weight > 0
        # Where pixels are too far apart to fill voxels, the surface cannot be segmented.
        good &= o.depth < size * o.K[0, 0] / 1.5
        used.append(good)
        ray = o.world_from_cam[:3, 3].astype(np.float32) - o.points[good]
        ray /= np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-12)
        parts.append((o.points[good], o.lab[good], o.weight[good], ray))
    points, lab, weight, towards = (np.concatenate(part) for part in zip(*parts, strict=True))
    if len(points) < 16 or size <= 0:
        return None
    some, coarse = points[:: max(1, len(points) // 400_000)], 4.0 * size
    # Voxels on a surface go with the inverse square of their size.
    share = 16.0 * len(_grid(some, coarse).counts) / (1.5 * MAX_VOXELS)
    size *= max(1.0, float(np.sqrt(share)))
    grid = _grid(points, size)
    centres, colours, towards = (
        grid.mean(values, weight).astype(np.float32) for values in (points, lab, towards)
    )
    noise = _measure_noise(centres)
    pixels, seen, through = _visibility(centres, observations, max(2 * size, 4 * noise))
    agreed = np.nonzero((seen >= 1) & (through <= np.maximum(seen - 1, 0)))[0]
    if len(agreed) == 0:
        return None
    edges = KDTree(centres[agreed]).query_pairs(1.8 * size, output_type="ndarray")
    # Voxels with fewer than 3 neighbours are noise.
    dense = np.bincount(edges.ravel(), minlength=len(agreed)) >= 3
    if dense.sum() < 16:
        return None
    new_index = np.cumsum(dense) - 1
    edges = new_index[edges[dense[edges].all(axis=1)]].astype(np.int32)
    kept = agreed[dense]
    centres = centres[kept]
    normals, curvature = _normals(centres, towards[kept], edges)
    noise = _measure_noise(centres)
    return VoxelCloud(
        size=size,
        points=centres,
        lab=colours[kept],
        normals=normals,
        curvature=curvature,
        noise=noise,
        pixels=pixels[kept],
        of_pixel=_voxels_of_pixels(used, grid, kept),
        edges=edges,
    )


def _voxels_of_pixels(
    used: Sequence[NDArray[np.bool_]], grid: VoxelGrid, kept: NDArray
) -> tuple[NDArray[np.int32], ...]:
    """Per view the voxel of each pixel; the grid has the used pixels, view by view."""
    new_index = np.full(len(grid.counts), -1, np.int32)
    new_index[kept] = np.arange(len(kept))
    ends = np.cumsum([np.count_nonzero(mask) for mask in used])
    parts = np.split(new_index[grid.cell], ends[:-1])
    maps = tuple(np.full(mask.shape, -1, np.int32) for mask in used)
    for image, mask, part in zip(maps, used, parts, strict=True):
        image[mask] = part
    return maps


def _grid(points: NDArray[np.float32], size: float) -> VoxelGrid:
    """Voxels of a grid that starts at the points' minimum coordinates."""
    return VoxelGrid.of_coordinates(np.floor((points - points.min(axis=0)) / size))


def _measure_noise(centres: NDArray[np.float32]) -> float:
    """Noise of the cloud: robust deviation of voxels from planes through their neighbourhoods."""
    sample = np.linspace(0, len(centres) - 1, min(len(centres), 3000)).astype(int)
    tree = KDTree(centres)
    _, near = tree.query(centres[sample], k=min(24, len(centres)))
    return float(np.sqrt(np.median(fit_planes(centres[near])[2])))


def _visibility(
    centres: NDArray[np.float32], observations: Sequence[Observation], tolerance: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Pixels that see each voxel, in how many views, and how many views look through it."""
    pixels = np.full((len(centres), len(observations)), -1, np.int32)
    seen, through = np.zeros((2, len(centres)), np.int32)
    for i, o in enumerate(observations):
        height, width = o.size
        uv, z = project(apply(invert(o.world_from_cam), centres), o.K)
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & (uv > -0.5).all(axis=1)
            inside &= (uv[:, 0] < width - 0.5) & (uv[:, 1] < height - 0.5)
        index = np.nonzero(inside)[0]
        col, row = np.rint(uv[index]).astype(np.int64).T
        flat = row * width + col
        nearest, farthest = depth_range(o.depth)
        near, far = nearest.ravel()[flat], farthest.ravel()[flat]
        z = z[index]
        # Depth is noisier the farther it is; the tolerance is that of the median depth.
        match = (far > 0) & (near < z + tolerance) & (far > z - tolerance)
        pixels[index[match], i] = flat[match]
        seen[index[match]] += 1
        through[index[(far > 0) & (near > z + 2 * tolerance)]] += 1
    return pixels, seen, through


def _normals(
    centres: NDArray[np.float32], towards: NDArray[np.float32], edges: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Normals and curvature, oriented towards the cameras.

    Moments of position are passed over the voxel graph twice, which weights a neighbourhood of two
    rings by the number of paths to it.
    """
    count = len(centres)
    ones = np.ones(len(edges))
    graph = sparse.coo_matrix((ones, tuple(edges.T)), shape=(count, count)).tocsr()
    graph = graph + graph.T + sparse.identity(count, format="csr")
    local = centres.astype(np.float64) - centres.mean(axis=0, dtype=np.float64)
    i, j = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
    moments = np.concatenate([np.ones((count, 1)), local, local[:, i] * local[:, j]], axis=1)
    moments = graph @ (graph @ moments)
    moments /= moments[:, :1]
    mean, second = moments[:, 1:4], moments[:, 4:]
    covariance = np.empty((count, 3, 3))
    covariance[:, i, j] = covariance[:, j, i] = second - mean[:, i] * mean[:, j]
    values, vectors = np.linalg.eigh(covariance)
    normals = vectors[:, :, 0]
    normals *= np.where((normals * towards).sum(axis=1) < 0, -1.0, 1.0)[:, None]
    curvature = np.maximum(values[:, 0], 0) / np.maximum(values.sum(axis=1), 1e-30)
    return normals.astype(np.float32), curvature.astype(np.float32)
