"""Which depths a pair is searched for: where the features of its views lie, unless it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.pointmaps.refined_poses import MIN_FEATURES, RefinedPoses
from wildseg3d_ros.pointmaps.stereo.rectification import rectified_depth


def depth_range(
    pair: tuple[int, int],
    poses: RefinedPoses,
    a_from_b: NDArray[np.float64],
    given: tuple[float, float],
) -> tuple[float, float]:
    """Nearest and farthest rectified depth [m] to search: as given, else where the features of
    either view's pairs lie, else about where the optical axes meet.

    Args:
        a_from_b: (4, 4) camera b in camera a's frame.
        given: nearest and farthest [m]; 0 = not given.
    """
    seen = [points for other, points in poses.points.items() if set(other) & set(pair)]
    a_from_world = invert(poses.world_from_cam[pair[0]])
    world = np.concatenate(seen) if seen else np.zeros((0, 3))
    depth = rectified_depth(apply(a_from_world, world), a_from_b)
    if len(depth) >= MIN_FEATURES:
        # Some more than the features': their surfaces go on.
        near, far = np.percentile(depth, [1.0, 99.0]) * [1.0 / 1.15, 1.15]
    else:
        middle = _distance_to_axis(a_from_b)
        # The cameras look at the scene: it lies around where their axes meet.
        near, far = 0.6 * middle, 2.0 * middle
    near, far = given[0] or near, given[1] or far
    return float(near), float(max(far, 1.01 * near))


def check_range(poses: RefinedPoses, given: tuple[float, float], progress: Progress) -> None:
    """Compares a given range with where the features of all pairs lie.

    Outside of the range a matcher finds no true match, and takes the best of the wrong ones. A
    range that holds less than half of the features is warned of.

    Raises:
        InputError: it holds less than 5 % of them (BAD_CONFIG).
    """
    depths = []
    for (a, b), points in poses.points.items():
        a_from_world = invert(poses.world_from_cam[a])
        a_from_b = a_from_world @ poses.world_from_cam[b]
        depths.append(rectified_depth(apply(a_from_world, points), a_from_b))
    depth = np.concatenate([*depths, np.zeros(0)])
    if len(depth) < MIN_FEATURES:
        return
    nearest, farthest = given[0], given[1] or np.inf
    within = float(((depth >= nearest) & (depth <= farthest)).mean())
    if within >= 0.5:
        return
    low, high = np.percentile(depth, [5.0, 95.0])
    text = (
        f"only {within:.0%} of the matched features lie within pointmaps.stereo.min_depth and "
        f"max_depth ({nearest:g} to {farthest:g} m); most are at {low:.2g} to {high:.2g} m. What "
        "lies outside is matched wrongly or not at all: give a range that holds the scene, in "
        "metres, or 0 to have it found"
    )
    # Such a range is that of another scene.
    if within < 0.05:
        raise InputError(text, ErrorCode.BAD_CONFIG)
    progress.warn(text)


def _distance_to_axis(a_from_b: NDArray[np.float64]) -> float:
    """Distance [m] along a's optical axis to where b's comes nearest; some baselines when the
    axes never meet."""
    baseline, axis = a_from_b[:3, 3], a_from_b[:3, 2]
    determinant, length = 1.0 - axis[2] ** 2, float(np.linalg.norm(baseline))
    along = 0.0
    if determinant >= 1e-4:  # axes at 0.6 degrees or more
        along = float((baseline[2] - axis[2] * (axis @ baseline)) / determinant)
    return along if along > 0.5 * length else 5.0 * length
