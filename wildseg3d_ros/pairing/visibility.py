"""What views with poses have in common, from their points, poses and depth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project, rays_of
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import View

SAMPLES = 600
"""Points per view whose visibility in the other views is computed."""


def visibility(views: Sequence[View]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How well each view's points are seen in each other view, and at which parallax.

    Args:
        views: all with ``world_from_cam_prior``. Without depth, points are put along the rays at
            the distance where the optical axes come closest to each other; without ``K``, a usual
            lens is assumed.

    Returns:
        Two (N, N, SAMPLES) float32 arrays, for a's points in view b. The first is 0 where b does
        not see the point, else the cosine of the angle between the two rays to it, at least 0.1: a
        surface that is seen from far aside is foreshortened and looks different. The second is
        that angle [rad].
    """
    count = len(views)
    unposed = [view.name for view in views if view.world_from_cam_prior is None]
    if unposed:
        raise ValueError(f"view '{unposed[0]}' has no pose")
    world_from_cam = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
    points = [_scene_points(view, world_from_cam, index) for index, view in enumerate(views)]
    similarity = np.zeros((count, count, SAMPLES), dtype=np.float32)
    parallax = np.zeros_like(similarity)
    for a, b in permutations(range(count), 2):
        visible = _visible(views[b], apply(invert(world_from_cam[b]), points[a]))
        to_a, to_b = (points[a] - world_from_cam[v, :3, 3] for v in (a, b))
        lengths = np.linalg.norm(to_a, axis=1) * np.linalg.norm(to_b, axis=1)
        cosine = np.clip((to_a * to_b).sum(axis=1) / np.maximum(lengths, 1e-12), -1.0, 1.0)
        similarity[a, b] = visible * np.maximum(cosine, 0.1)
        parallax[a, b] = np.arccos(cosine)
    return similarity, parallax


def mutual_mean(values: NDArray) -> NDArray[np.floating]:
    """(N, N) means of (N, N, SAMPLES) over the points, and over both directions of a pair."""
    mean = values.mean(axis=2)
    return 0.5 * (mean + mean.T)


def _intrinsics(view: View) -> NDArray[np.float64]:
    if view.K is not None:
        return view.K
    height, width = view.size
    focal = 0.9 * max(height, width)  # 58 degrees wide: a usual lens
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def _scene_points(view: View, world_from_cam: NDArray, index: int) -> NDArray[np.float64]:
    """(SAMPLES, 3) points that the view sees, in the world."""
    height, width = view.size
    rng = np.random.default_rng(0)
    if view.depth is not None and (view.depth > 0).any():
        rows, cols = np.nonzero(view.depth)
        pick = rng.choice(len(rows), SAMPLES, replace=len(rows) < SAMPLES)
        u, v, z = 1.0 * cols[pick], 1.0 * rows[pick], view.depth[rows[pick], cols[pick]]
    else:
        u, v = (rng.uniform(0, 1, (SAMPLES, 2)) * [width - 1, height - 1]).T
        z = _fixation_distance(world_from_cam, index) * rng.uniform(0.8, 1.2, SAMPLES)
    return apply(world_from_cam[index], rays_of(u, v, _intrinsics(view)) * z[:, None])


def _fixation_distance(world_from_cam: NDArray, index: int) -> float:
    """Distance along a camera's axis to the point that is nearest to all axes (least squares)."""
    centres, axes = world_from_cam[:, :3, 3], world_from_cam[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    # Parallel axes meet nowhere: a little weight on the cameras' own extent keeps it finite.
    baseline = np.linalg.norm(centres - centres.mean(axis=0), axis=1).max()
    ahead = centres + 4.0 * max(baseline, 1e-3) * axes
    normal = across.sum(axis=0) + 1e-3 * len(centres) * np.eye(3)
    right = np.einsum("nij,nj->i", across, centres) + 1e-3 * ahead.sum(axis=0)
    fixation = np.linalg.solve(normal, right)
    distance = float((fixation - centres[index]) @ axes[index])
    return max(distance, 0.5 * baseline, 1e-3)


def _visible(view: View, points_in_cam: NDArray) -> NDArray[np.bool_]:
    """Which points the view sees: inside its image and not behind what its depth shows.

    A point that is in front of the measured depth is not there; where the view has no depth
    nothing speaks against the point.
    """
    height, width = view.size
    uv, z = project(points_in_cam, _intrinsics(view))
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & ((uv >= 0) & (uv <= [width - 1, height - 1])).all(axis=1)
    if view.depth is None or not inside.any():
        return inside
    cols, rows = np.rint(uv[inside]).astype(np.int64).T
    measured = view.depth[rows, cols]
    # Generous: poses are off by a few per cent of the range before they are refined.
    inside[inside] = (measured == 0) | (np.abs(z[inside] - measured) < 0.05 * measured + 0.01)
    return inside
