"""Oriented boxes about objects."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull, KDTree, QhullError

from wildseg3d_ros.core.geometry.transforms import apply, make_transform
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """A box about an object.

    Attributes:
        frame_from_box: (4, 4) pose of its centre, a right-handed frame along its edges.
        size: (3,) edges along the pose's axes.
        face_coverage: (6,) share of the faces -x, +x, -y, +y, -z, +z that was seen, in [0, 1];
            NaN where nobody looked.
    """

    frame_from_box: NDArray[np.float64]
    size: NDArray[np.float64]
    face_coverage: NDArray[np.float64] = field(default_factory=lambda: np.full(6, np.nan))

    @property
    def coverage(self) -> float:
        """Share of all faces that was seen, by their areas."""
        areas = np.repeat(np.prod(self.size) / np.maximum(self.size, 1e-12), 2)
        total = float(areas.sum())
        return float(areas @ self.face_coverage) / total if total > 0 else 0.0

    def corners(self) -> NDArray[np.float64]:
        """(8, 3) corners; bit 0, 1 and 2 of a corner's number say whether it is at +x, +y, +z."""
        signs = np.array([[(k >> axis & 1) - 0.5 for axis in range(3)] for k in range(8)])
        return apply(self.frame_from_box, signs * self.size)


def fit_box(points: NDArray[np.float32], up: ArrayLike | None = None) -> OrientedBox:
    """The smallest box, among equally small ones the one whose faces lie closest to the points.

    Tried are boxes that have a face in common with the points' convex hull or are aligned with
    their principal axes, each rotated to the smallest rectangle about its axis (the smallest box
    has a face or two edges in common with the hull: O'Rourke 1985). Seen from one side an object
    is an open shell that several boxes fit equally well; of those within 10 % the one whose faces
    are nearest to the points is taken (the criterion of closeness: Zhang et al. 2017).

    Args:
        points: (M, 3), M > 0.
        up: (3,) direction that things stand upright along, if there is one: a box about it is
            taken when it is no more than half as large again as the smallest one. The box's z axis
            is then the one nearest to it, and x the longer one of the others. Else x is the
            longest edge and z the shortest.

    Returns:
        The box, without coverage.
    """
    # Some 20,000 points bound the time; for a mean distance to faces 2000 are enough.
    some = _evened(np.asarray(points, np.float64)[:: max(1, len(points) // 20_000)])
    outer, axes = _hull(some)
    up = None if up is None else np.asarray(up, np.float64)
    candidates = [_about_axis(outer, axis) for axis in (*axes, *([] if up is None else [up]))]
    thickness = 0.01 * float(np.ptp(outer, axis=0).max()) + 1e-12  # flat things have no volume
    volumes = [np.prod(np.ptp(outer @ rotation, axis=0) + thickness) for rotation in candidates]
    equal = [r for r, v in zip(candidates, volumes, strict=True) if v <= 1.1 * min(volumes)]
    # Seen from one side things look as if they leaned towards the cameras.
    if up is not None and volumes[-1] <= 1.5 * min(volumes):
        rotation = candidates[-1]
    else:
        few = some[:: max(1, len(some) // 2000)]
        rotation = min(equal, key=lambda r: _distances_to_faces(few @ r).mean())
    rotation = _ordered(rotation, np.ptp(outer @ rotation, axis=0), up)
    # Of the surface 0.2 % may lie beyond a face: noise sets no extent.
    low, high = np.percentile(some @ rotation, [0.2, 99.8], axis=0)
    centre = rotation @ ((low + high) / 2)
    return OrientedBox(make_transform(rotation, centre), high - low)


def _evened(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of small cells: density no longer depends on how many pixels saw the surface.

    Points whose eighth neighbour is four times as far as usual are left out: a single one would be
    a corner of the hull. Fewer than 50 points have no usual distance.
    """
    if len(points) < 50:
        return points
    distance = KDTree(points).query(points, k=9)[0][:, -1]
    typical = float(np.median(distance))
    kept = points[distance <= 4.0 * typical]
    if typical == 0.0:
        return kept
    return VoxelGrid.of(kept.astype(np.float32), typical).mean(kept)


def _hull(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the convex hull, and (k, 3) axes to try."""
    covariance = np.cov(points.T) if len(points) > 1 else np.zeros((3, 3))
    principal = np.linalg.eigh(covariance)[1].T
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):  # flat, straight, or hardly a point
        return points, principal
    normals = hull.equations[:, :3]
    corners = points[hull.simplices]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    # A noisy face is many triangles: those of almost one direction (0.1, or 6
    # degrees) count as one, and the 30 largest are tried.
    halved: NDArray[np.float64] = normals * np.where(normals[:, [2]] < 0, -1.0, 1.0)
    _, group = np.unique(np.rint(10.0 * halved), axis=0, return_inverse=True)
    group = group.ravel()
    weight = np.bincount(group, area)
    axes = np.stack([np.bincount(group, area * column) for column in halved.T], axis=1)
    axes = axes[np.argsort(-weight)[:30]]
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    axes = axes[lengths[:, 0] > 0] / lengths[lengths[:, 0] > 0]
    return points[hull.vertices], np.concatenate([axes, principal])


def _about_axis(points: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) columns: the edges of the smallest rectangle about the axis, and the axis."""
    axis = axis / np.linalg.norm(axis)
    side = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    side /= np.linalg.norm(side)
    plane = np.stack([side, np.cross(axis, side)], axis=1)
    flat = points @ plane
    flat = flat - flat.mean(axis=0)
    scale = max(float(np.abs(flat).max()), 1e-12)
    corners = cv2.boxPoints(cv2.minAreaRect((flat / scale).astype(np.float32)))
    edges = np.asarray(corners, np.float64)[1:3] - np.asarray(corners, np.float64)[:2]
    longest = edges[np.argmax(np.linalg.norm(edges, axis=1))]
    length = np.linalg.norm(longest)
    along = plane @ (longest / length) if length > 1e-9 else side
    return np.asarray(np.stack([along, np.cross(axis, along), axis], axis=1), np.float64)


def _distances_to_faces(inside: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) from points in the box's axes."""
    return np.minimum(inside - inside.min(axis=0), inside.max(axis=0) - inside).min(axis=1)


def _ordered(
    rotation: NDArray[np.float64], size: NDArray[np.float64], up: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """The same axes as columns in the order, and with the signs, that :func:`fit_box` promises."""
    order = list(np.argsort(-size))
    if up is not None:
        order.append(order.pop(order.index(np.argmax(np.abs(up @ rotation)))))
    ordered = rotation[:, order]
    if ordered[:, 2] @ (np.eye(3)[2] if up is None else up) < 0:
        ordered[:, 2] *= -1
    if ordered[np.argmax(np.abs(ordered[:, 0])), 0] < 0:
        ordered[:, 0] *= -1
    ordered[:, 1] = np.cross(ordered[:, 2], ordered[:, 0])
    return ordered
