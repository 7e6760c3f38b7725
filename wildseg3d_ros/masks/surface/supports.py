"""Planes of the scene and the evidence that each of them is a support or a wall, not an object."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.geometry.planes import fit_planes
from wildseg3d_ros.masks.surface.supervoxels import Supervoxels
from wildseg3d_ros.masks.surface.voxels import VoxelCloud

GRASPABLE_FACE = 0.07
"""Area [m^2] at which a flat face is as likely a support as an object; A4 paper has 0.062."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane ``normal . x = offset`` with the patches on it.

    Attributes:
        normal: (3,) unit normal on the side that the cameras see.
        offset: distance of the plane from the origin along the normal.
        patches: (P,) bool, the supervoxels on the plane; none when only the images show it.
        evidence: log-odds of being a support or wall; positive means background.
    """

    normal: NDArray[np.float64]
    offset: float
    patches: NDArray[np.bool_]
    evidence: float


def plane_tolerance(cloud: VoxelCloud) -> float:
    """Distance from a plane within which a voxel can be part of it, scene units."""
    return max(3.0 * cloud.noise, cloud.size)


def find_planes(cloud: VoxelCloud, patches: Supervoxels, metric_scale: float) -> list[Plane]:
    """At most 14 planes with at least 1.5 % of the voxels, largest first, with their evidence.

    One-point RANSAC: a supervoxel and its normal are a hypothesis (fixed seed).

    Args:
        metric_scale: scene units per metre (an estimate when the scene is not metric).
    """
    random = np.random.default_rng(0)
    tolerance = plane_tolerance(cloud)
    mass = patches.count.astype(np.float64)
    free = patches.count >= 4
    planes: list[Plane] = []
    while len(planes) < 14:
        index = np.nonzero(free)[0]
        if len(index) < 3:
            break
        share = mass[index] / mass[index].sum()
        # Drawn by size: a plane of 1.5 % of the voxels is among 200 three times on average.
        trials = random.choice(index, min(200, len(index)), replace=False, p=share)
        offsets = (patches.normals[trials] * patches.centres[trials]).sum(axis=1)
        near = np.abs(patches.normals[trials] @ patches.centres[index].T - offsets[:, None])
        # Normals of patches are noisy: within 32 degrees of a hypothesis, 37 of a fitted plane.
        alike = patches.normals[trials] @ patches.normals[index].T
        support = ((near < tolerance) & (alike > 0.85)) @ mass[index]
        best = trials[support.argmax()]
        normal, offset = patches.normals[best], float(offsets[support.argmax()])
        for step in range(5):
            near = np.abs(patches.centres[index] @ normal - offset) < tolerance
            on = index[near & (patches.normals[index] @ normal > 0.8)]
            if len(on) < 3 or step == 4:
                break
            fitted, centre, _ = fit_planes(patches.centres[on], mass[on])
            normal = fitted if fitted @ normal >= 0 else -fitted
            offset = float(normal @ centre)
        if mass[on].sum() < 0.015 * mass.sum() or len(on) < 3:
            break
        free[on] = False
        member = _large_parts(patches, on)
        evidence = _support_evidence(cloud, member[patches.of_voxel], normal, offset, metric_scale)
        planes.append(Plane(normal, offset, member, evidence))
    return planes


def _large_parts(patches: Supervoxels, on: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(P,) bool: patches of a plane in connected parts of a tenth of the largest part or more.

    The bottom of a bowl lies in the plane of its table, but is an island in it.
    """
    member = np.zeros(len(patches), np.bool_)
    member[on] = True
    part = components(len(patches), patches.edges[member[patches.edges].all(axis=1)])
    mass = np.bincount(part, patches.count * member)
    return member & (mass[part] >= 0.1 * mass.max())


def _support_evidence(
    cloud: VoxelCloud,
    on: NDArray[np.bool_],
    normal: NDArray[np.float64],
    offset: float,
    metric_scale: float,
) -> float:
    """Log-odds that a plane bounds the scene: large, with things before it and not behind.

    A face of an object is small and has the support and the room behind it. Neither cue suffices:
    a table seen with its floor has much behind it, a face in a single view hides what is behind.
    """
    axis = np.eye(3)[np.abs(normal).argmin()]
    u = np.cross(normal, axis)
    u /= np.linalg.norm(u)
    flat = cloud.points @ np.stack([u, np.cross(normal, u)], axis=1)
    height = cloud.points @ normal - offset
    tolerance = plane_tolerance(cloud)
    extent = np.ptp(flat[on], axis=0).max()
    # Cells of three voxels have no gaps; 400 along the plane bound the cost. The margin holds
    # the ring around the hull.
    edge = max(3.0 * cloud.size, extent / 400)
    margin = 6 + int(0.2 * extent / edge)
    cell = np.floor((flat - flat[on].min(axis=0)) / edge).astype(np.int64) + margin
    shape = cell[on].max(axis=0) + margin + 1
    inside = ((cell >= 0) & (cell < shape)).all(axis=1)

    def cells(chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
        grid = np.zeros(shape, np.uint8)
        grid[tuple(cell[chosen & inside].T)] = 1
        return grid

    covered = cv2.morphologyEx(cells(on), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(covered)
    largest = parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    area = largest.sum() * edge**2
    side = np.sqrt(area)
    hull = np.zeros(shape, np.uint8)
    corners = np.stack(np.nonzero(largest)[::-1], axis=1).astype(np.int32)
    cv2.fillConvexPoly(hull, cv2.convexHull(corners), (1.0,))
    ring = max(2, int(0.15 * side / edge))
    around = cv2.dilate(hull, np.ones((2 * ring + 1, 2 * ring + 1), np.uint8)) - hull
    before = cells((height > 2 * tolerance) & (height < side))
    behind = cells((height < -2 * tolerance) & (height > -side))
    inner, outer = hull > 0, around > 0
    front = before[inner].mean() + before[outer].mean()
    back = behind[inner].mean() + behind[outer].mean()
    # Where hardly anything is before or behind, it is undecided (0.5).
    facing = (front + 0.02) / (front + back + 0.04)
    # The terms are 0 at GRASPABLE_FACE, where as much is before as behind, and where a quarter of
    # all points is behind.
    all_behind = float((height < -2 * tolerance).mean())
    return float(
        1.5 * np.log(area / (GRASPABLE_FACE * metric_scale**2))
        + 4.0 * (facing - 0.5)
        + 3.0 * (0.25 - all_behind)
    )
