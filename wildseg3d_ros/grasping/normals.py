"""Normals of fused clouds: local planes, facing the cameras that saw the points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.core.geometry.planes import fit_planes
from wildseg3d_ros.scene.voxels import requested_grid


def fit_normals(
    points: NDArray[np.float32], toward: NDArray[np.float32], radius: float
) -> NDArray[np.float32]:
    """Unit normals of a surface that noisy points lie on.

    A plane is fitted to the points within the radius by weighted least squares, twice: the second
    time what lies off the first plane counts less (Cauchy weights). Where that is not flat the
    radius crosses a crease, and the flattest plane of the neighbours that passes through the place
    is taken (Kuwahara's rule). Points that are seen from the other side do not count, so that the
    two sides of a thin plate do not mix. Points are averaged in cells of a third of the radius,
    whose means carry less noise and which share one normal.

    Args:
        points: (M, 3).
        toward: (M, 3) unit vectors from the points to where they were seen from.
        radius: of the neighbourhood, in the points' unit, > 0.

    Returns:
        (M, 3) unit vectors with a positive product with ``toward``; ``toward`` itself where fewer
        than three cells are within the radius.
    """
    if not len(points):
        return np.zeros((0, 3), np.float32)
    octant = ((toward > 0) * np.array([1, 2, 4])).sum(axis=1)
    cells = requested_grid(points, radius / 3.0, octant)
    middle, facing = cells.mean(points), cells.mean(toward)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    # A disk of that radius has about 28 cells.
    distance, near = KDTree(middle).query(
        middle, k=min(40, len(middle)), distance_upper_bound=radius
    )
    near = near.reshape(len(middle), -1)
    found = np.isfinite(distance.reshape(near.shape))
    near = np.where(found, near, 0)
    alike = np.einsum("ni,nki->nk", facing, facing[near])
    weight = found * np.maximum(alike, 0.0) * np.sqrt(cells.counts[near])
    offset = middle[near] - middle[:, None]
    normals, centre, _ = fit_planes(offset, weight)
    residual = np.abs(np.einsum("nki,ni->nk", offset - centre[:, None], normals))
    typical = (weight * residual).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    weight /= 1.0 + (residual / np.maximum(typical, 1e-4 * radius)[:, None]) ** 2
    normals, centre, _ = fit_planes(offset, weight)
    alone = (weight > 0).sum(axis=1) < 3
    normals[alone], typical[alone] = facing[alone], 0.0
    # A mean distance from the plane above 6 % of the radius says that there is a crease.
    creased = np.flatnonzero(typical > 0.06 * radius)
    others = near[creased]
    outward = normals * np.sign(np.einsum("ni,ni->n", normals, facing))[:, None]
    miss = middle[creased][:, None] - (middle + centre)[others]
    miss = np.abs(np.einsum("cki,cki->ck", miss, outward[others]))
    # Nobody sees a face from behind.
    usable = np.einsum("ci,cki->ck", facing[creased], outward[others]) > 0
    usable &= (found & (alike > 0))[creased]
    flattest = np.where(usable, typical[others] + miss, np.inf).argmin(axis=1)
    normals[creased] = outward[others[np.arange(len(creased)), flattest]]
    normals = normals[cells.cell]
    normals[np.einsum("mi,mi->m", normals, toward) < 0] *= -1.0
    return normals.astype(np.float32)


def neighbourhood_radius(points: NDArray[np.float32], spacing: float) -> float:
    """A radius that fits an object: 6 % of its size, but 3 to 10 times the points' distance.

    Args:
        points: (M, 3), M > 0.
        spacing: distance of neighbouring points.
    """
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    return float(np.clip(0.06 * size, 3.0 * spacing, 10.0 * spacing))
