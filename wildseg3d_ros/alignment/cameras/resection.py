"""Camera poses and focal lengths from aligned pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.intrinsics import (
    contradicted_text,
    contradicting_intrinsics,
    focal_from_pointmaps,
    image_centre,
    intrinsics_of,
    unusual_lenses,
)
from wildseg3d_ros.alignment.cameras.reprojection import Sightings, refine_cameras, robust_errors
from wildseg3d_ros.alignment.graph.graph import MIN_POINTS, Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.core.geometry.least_squares import reweighted
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    nearest_rotation,
    rotation_from_vector,
    vector_from_rotation,
)
from wildseg3d_ros.core.types import View


@dataclass(frozen=True, eq=False)
class Observed:
    """What the solve says about one view.

    Attributes:
        uv: (n, 2) pixels; world: (n, 3) their world points; confidence: (n,), 0 = no point.
        own_poses: (K, 4, 4) world_from_cam by each pair that has the view's map in its own frame;
        own_points: (K, n, 3) these maps' points in the camera's frame in world units (up to the
            pair's scale); own_weight: (K, n) their weights.
    """

    uv: NDArray[np.float64]
    world: NDArray[np.float64]
    confidence: NDArray[np.float64]
    own_poses: NDArray[np.float64]
    own_points: NDArray[np.float64]
    own_weight: NDArray[np.float64]

    def viewing_distance(self, world_from_cam: NDArray[np.float64] | None) -> float:
        """Median distance of the world points from a camera; 1 where either is missing."""
        points = self.world[self.confidence > 0]
        if world_from_cam is None or not len(points):
            return 1.0
        return float(np.median(np.linalg.norm(points - world_from_cam[:3, 3], axis=1)))

    def mean_pose(self) -> NDArray[np.float64] | None:
        """Chordal mean of the rotations and Weiszfeld mean of the positions that the pairs give;
        None without one."""
        if not len(self.own_poses):
            return None
        weight = self.own_weight.sum(1) + 1e-300
        positions = self.own_poses[:, :3, 3]

        def fit(weights: NDArray) -> tuple[NDArray, NDArray]:
            mean = weights @ positions / weights.sum()
            return mean, np.linalg.norm(positions - mean, axis=1)

        def reweigh(apart: NDArray) -> NDArray:
            # The upper median of a few values; NumPy's own takes ten times as long for them.
            middle = np.sort(apart)[len(apart) // 2]
            # Bounded, so that the mean does not stick to one of the positions.
            return weight / np.maximum(apart, 0.1 * middle + 1e-12)

        mean, robust = reweighted(fit, reweigh, weight, passes=11)
        rotation = nearest_rotation(np.einsum("k,kij->ij", robust, self.own_poses[:, :3, :3]))
        return make_transform(rotation, mean)


class _Start(NamedTuple):
    """A camera before its reprojection errors are minimised.

    Attributes:
        pose: (4, 4); K: (3, 3).
        is_refined: whether its reprojection errors are minimised; with_focal: over the focal
            length too; is_anchored: but only a part of the way from ``pose``.
    """

    pose: NDArray[np.float64]
    K: NDArray[np.float64]
    is_refined: bool = False
    with_focal: bool = False
    is_anchored: bool = False


def solve_cameras(
    views: Sequence[View],
    observed: Sequence[Observed],
    measured: NDArray[np.bool_],
    constrained: NDArray[np.bool_],
    trust_intrinsics: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Pose (N, 4, 4) world_from_cam and intrinsics (N, 3, 3) of every view, and warnings.

    A view that a prior constrains keeps the mean of the poses that its pairs give: these were
    solved with the prior, which a fit to points would undo. A measured view is fitted rigidly onto
    its world points. Other views start from the mean of the poses that their pairs give and go a
    third of the way to the least reprojection error (or all of it, from resection, when no pair
    gives a pose). Unknown focal lengths come from the pointmaps, as do given ones that the
    pointmaps contradict unless ``trust_intrinsics``. These keep the given principal point and
    shape of the pixels where the principal point can be that of such an image; unknown ones have
    it in the middle.
    """
    starts, warnings = [], []
    for v, (view, seen) in enumerate(zip(views, observed, strict=True)):
        K, is_given = view.K, view.K is not None
        if len(seen.own_points) and not measured[v]:
            K, is_given, notes = _intrinsics(view, seen, trust_intrinsics)
            warnings += notes
        start = _start(view, seen, K, is_given, bool(measured[v]), bool(constrained[v]))
        if start is None:
            warnings.append(
                f"the camera of '{view.name}' could not be located from its points; its pose is "
                "that of its strongest neighbour"
            )
            pose = seen.mean_pose()
            start = _Start(
                np.eye(4) if pose is None else pose,
                intrinsics_of(float(max(view.size)), view) if K is None else K,
            )
        starts.append(start)
    poses = np.stack([start.pose for start in starts])
    intrinsics = np.stack([start.K for start in starts])
    refined = [v for v, start in enumerate(starts) if start.is_refined]
    if refined:
        cam_from_world, intrinsics[refined] = refine_cameras(
            _sightings([observed[v] for v in refined]),
            invert(poses[refined])[:, :3],
            intrinsics[refined],
            np.array([starts[v].with_focal for v in refined]),
        )
        poses[refined, :3] = cam_from_world
        poses[refined] = invert(poses[refined])
    for v, start in enumerate(starts):
        if start.is_anchored:
            # The mean of the pairs' frames and the least reprojection error are both off, by
            # errors that have little to do with each other: between them is better than either.
            poses[v] = interpolate_pose(start.pose, poses[v], 0.33, 0.33)
    return poses, intrinsics, warnings + unusual_lenses(views, intrinsics)


def _intrinsics(
    view: View, seen: Observed, trust_intrinsics: bool
) -> tuple[NDArray[np.float64] | None, bool, list[str]]:
    """Intrinsics of a view with pointmaps, whether they are the given ones, and warnings."""
    K, maps = view.K, (seen.own_points, seen.own_weight, seen.uv)
    if K is None:
        focal = focal_from_pointmaps(*maps, image_centre(view))
        return None if focal is None else intrinsics_of(focal, view), False, []
    found = contradicting_intrinsics(K, view, *maps)
    if found is None:
        return K, True, []
    warnings = [contradicted_text(view, K, found, trust_intrinsics)]
    return (K, True, warnings) if trust_intrinsics else (found, False, warnings)


def _start(
    view: View,
    seen: Observed,
    K: NDArray[np.float64] | None,
    is_given: bool,
    measured: bool,
    constrained: bool,
) -> _Start | None:
    """Where :func:`solve_cameras` starts a camera; None where it cannot be located."""
    pose = seen.mean_pose()
    if pose is not None and K is not None:
        if constrained:
            return _Start(pose, K)
        if measured:
            return _Start(_fit_rigid(seen, pose), K)
        # Refining pose and focal length together trades one for the other and made both worse.
        return _Start(pose, K, is_refined=is_given, is_anchored=is_given)
    resected = resect(seen, view, K)
    return None if resected is None else _Start(*resected, True, not is_given)


def observe(graph: Graph, poses: Poses, world: NDArray, confidence: NDArray) -> list[Observed]:
    """Gathers what each view's camera is found from."""
    rotation, translation, scale = poses.rotation, poses.translation, poses.scale
    out = []
    for v, part in enumerate(graph.of_view):
        count = len(graph.pixels[v])
        own = [o for o in range(part.start, part.stop) if graph.own_frame[o]]
        own_poses, own_points = np.zeros((len(own), 4, 4)), np.zeros((len(own), count, 3))
        for k, o in enumerate(own):
            e = graph.edge[o]
            # Graph units: a point is scale * (R_map x_map + t_map / unit) before the pair's pose.
            from_map = graph.pair_from_map[o]
            offset = from_map[:3, 3] / graph.unit[e]
            shift = scale[e] * rotation[e] @ offset + translation[e]
            own_poses[k] = make_transform(rotation[e] @ from_map[:3, :3], shift)
            own_points[k] = scale[e] * (graph.x[o, :, :count].T - offset) @ from_map[:3, :3]
        out.append(
            Observed(
                graph.pixels[v][:, ::-1].astype(np.float64),
                world[v, :, :count].T,
                confidence[v, :count],
                own_poses,
                own_points,
                graph.weight[own, :count] if own else np.zeros((0, count)),
            )
        )
    return out


def interpolate_pose(
    start: NDArray[np.float64], end: NDArray[np.float64], position: float, rotation: float
) -> NDArray[np.float64]:
    """(4, 4) pose between two poses, by shares of the way in position and in rotation."""
    vector = vector_from_rotation(start[:3, :3].T @ end[:3, :3])
    place = (1.0 - position) * start[:3, 3] + position * end[:3, 3]
    return make_transform(start[:3, :3] @ rotation_from_vector(rotation * vector), place)


def resect(
    seen: Observed, view: View, K: NDArray | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Pose and intrinsics of a camera from world points and pixels alone (PnP in RANSAC).

    An unknown focal length is searched from fisheye-like to long lenses; None when nothing fits.
    """
    use = seen.confidence > 0
    if np.count_nonzero(use) < MIN_POINTS:
        return None
    world, uv, weight = seen.world[use], seen.uv[use], seen.confidence[use]
    centre = world.mean(0)
    width = max(view.size)
    if K is not None:
        candidates = [K]
    else:
        # In widths: 118 to 10 degrees across, in steps of 22 %, which refinement bridges.
        candidates = [intrinsics_of(f * width, view) for f in np.geomspace(0.3, 6.0, 16)]
    best: tuple[float, NDArray, NDArray] | None = None
    for candidate in candidates:
        try:
            found, vector, shift, _ = cv2.solvePnPRansac(
                world - centre,
                uv,
                candidate,
                np.zeros(0),
                # A rough pose is enough, within 2 % of the width: refinement follows.
                iterationsCount=100,
                reprojectionError=0.02 * width,
                flags=cv2.SOLVEPNP_SQPNP,
            )
        except cv2.error:  # points that lie on a line, as seen by such a camera
            continue
        if not found:
            continue
        rotation = cv2.Rodrigues(vector)[0]
        cam_from_world = make_transform(rotation, shift.ravel() - rotation @ centre)
        intrinsics = np.asarray(candidate, dtype=np.float64)
        sightings = Sightings(world[None], uv[None], weight[None])
        error = float(robust_errors(sightings, cam_from_world[None, :3], intrinsics[None])[0])
        if np.isfinite(error) and (best is None or error < best[0]):
            best = error, invert(cam_from_world), intrinsics
    return None if best is None else best[1:]


def _sightings(observed: Sequence[Observed]) -> Sightings:
    """World points of some views, thinned and padded to the same number."""
    # Errors are smooth: more than 256 points per view change nothing.
    steps = [max(1, len(seen.uv) // 256) for seen in observed]
    count = max(len(seen.uv[::step]) for seen, step in zip(observed, steps, strict=True))
    world, uv, weight = (np.zeros((len(observed), count, *part)) for part in ((3,), (2,), ()))
    for v, (seen, step) in enumerate(zip(observed, steps, strict=True)):
        n = len(seen.uv[::step])
        world[v, :n], uv[v, :n] = seen.world[::step], seen.uv[::step]
        weight[v, :n] = seen.confidence[::step]
    return Sightings(world, uv, weight)


def _fit_rigid(seen: Observed, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pose that lays a measured map onto its world points, robustly."""
    weight = np.where(seen.confidence > 0, seen.own_weight.max(0), 0.0)
    # All maps are one array; pairs of unknown scale put it at slightly different sizes.
    points = np.median(seen.own_points, axis=0)

    def fit(weights: NDArray) -> tuple[NDArray, NDArray]:
        pose = umeyama(points, seen.world, weights, with_scale=False)[1]
        return pose, np.linalg.norm(apply(pose, points) - seen.world, axis=1)

    def reweigh(residual: NDArray) -> NDArray:
        return weight / np.maximum(residual, np.median(residual[weight > 0]) + 1e-9)

    try:
        return reweighted(fit, reweigh, weight, passes=5)[0]
    except ValueError:  # fewer than 3 points, or on a line
        return start
