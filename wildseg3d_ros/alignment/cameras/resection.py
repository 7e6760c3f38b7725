"""Camera poses and focal lengths from aligned pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
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
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    nearest_rotation,
    rotation_from_vector,
    vector_from_rotation,
)
from wildseg3d_ros.core.types import View

_FOCAL_RANGE = (0.3, 6.0)
"""Focal lengths in image widths that a resection tries: fisheye-like to long lens."""

_REPROJECTED_SHARE = 0.33
"""How far a camera goes from the mean of its pairs' frames towards the least reprojection error.
Both are off, by errors that have little to do with each other: a part of the way is better
than either end."""

_REPROJECTED = 256
"""Points per view that a camera is refined on: errors are smooth, more change nothing."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What the solve says about one view, in NumPy.

    Attributes:
        uv: (n, 2) pixels; world: (n, 3) their world points; sure: (n,) weight, 0 = no point.
        own_poses: (K, 4, 4) world_from_cam by each pair that has the view's map in its own frame;
        own_points: (K, n, 3) these maps' points in the camera's frame in world units (up to the
            pair's scale); own_weight: (K, n) their weights.
    """

    uv: NDArray[np.float64]
    world: NDArray[np.float64]
    sure: NDArray[np.float64]
    own_poses: NDArray[np.float64]
    own_points: NDArray[np.float64]
    own_weight: NDArray[np.float64]


def solve_cameras(
    views: Sequence[View],
    observed: Sequence[Observed],
    measured: NDArray[np.bool_],
    held: NDArray[np.bool_],
    trust_intrinsics: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Pose (N, 4, 4) world_from_cam and intrinsics (N, 3, 3) of every view, and warnings.

    A view that a prior holds keeps the mean of the poses that its pairs give: these were solved
    with the prior, which a fit to points would undo. A measured view is fitted rigidly onto its
    world points. Other views start from the mean of the poses that their pairs give and go a third
    of the way to the least reprojection error (or all of it, from resection, when no pair gives a
    pose). Unknown focal lengths come from the pointmaps, as do given ones that the pointmaps
    contradict unless ``trust_intrinsics``. These keep the given principal point and shape of the
    pixels where the principal point can be that of such an image; unknown ones have it in the
    middle.
    """
    poses = np.tile(np.eye(4), (len(views), 1, 1))
    intrinsics = np.tile(np.eye(3), (len(views), 1, 1))
    warnings, to_refine, with_focal = [], [], []
    starts: dict[int, NDArray[np.float64]] = {}
    for v, (view, seen) in enumerate(zip(views, observed, strict=True)):
        start = mean_pose(seen)
        K, is_given = view.K, view.K is not None
        if len(seen.own_points) and not measured[v]:
            if K is None:
                focal = focal_from_pointmaps(
                    seen.own_points, seen.own_weight, seen.uv, image_centre(view)
                )
                K = None if focal is None else intrinsics_of(focal, view)
            else:
                said = contradicting_intrinsics(K, view, seen.own_points, seen.own_weight, seen.uv)
                if said is not None:
                    warnings.append(contradicted_text(view, K, said, trust_intrinsics))
                if said is not None and not trust_intrinsics:
                    K, is_given = said, False
        if start is not None and K is not None and held[v]:
            pose = start
        elif start is not None and measured[v] and K is not None:
            pose = _fit_rigid(seen, start)
        elif start is not None and is_given:
            pose = starts[v] = start
            to_refine.append(v)
            with_focal.append(False)
        elif start is not None and K is not None:
            # Refining pose and focal length together trades one for the other and made both worse.
            pose = start
        else:
            resected = resect(seen, view, K)
            if resected is None:
                warnings.append(
                    f"the camera of '{view.name}' could not be located from its points; its pose "
                    "is that of its strongest neighbour"
                )
                pose = start if start is not None else np.eye(4)
                K = intrinsics_of(float(max(view.size)), view) if K is None else K
            else:
                pose, K = resected
                to_refine.append(v)
                with_focal.append(not is_given)
        poses[v], intrinsics[v] = pose, K
    if to_refine:
        refined, found = refine_cameras(
            _sightings([observed[v] for v in to_refine]),
            torch.from_numpy(invert(poses[to_refine])[:, :3].copy()),
            torch.from_numpy(intrinsics[to_refine]),
            torch.tensor(with_focal),
        )
        poses[to_refine, :3] = _inverted(refined.numpy())
        intrinsics[to_refine] = found.numpy()
        for v, start in starts.items():
            poses[v] = towards(start, poses[v], _REPROJECTED_SHARE, _REPROJECTED_SHARE)
    return poses, intrinsics, warnings + unusual_lenses(views, intrinsics)


def observe(graph: Graph, poses: Poses, world: NDArray, sure: NDArray) -> list[Observed]:
    """Gathers what each view's camera is found from."""
    rotation, translation = poses.rotation.cpu().numpy(), poses.translation.cpu().numpy()
    scale = poses.scale.cpu().numpy()
    x, weight = graph.x.cpu().numpy(), graph.weight.cpu().numpy()
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
            own_poses[k] = make_transform(
                rotation[e] @ from_map[:3, :3],
                scale[e] * rotation[e] @ offset + translation[e],
            )
            own_points[k] = scale[e] * (x[o, :, :count].T - offset) @ from_map[:3, :3]
        out.append(
            Observed(
                graph.pixels[v][:, ::-1].astype(np.float64),
                world[v, :, :count].T,
                sure[v, :count],
                own_poses,
                own_points,
                weight[own, :count] if own else np.zeros((0, count)),
            )
        )
    return out


def towards(
    start: NDArray[np.float64], end: NDArray[np.float64], position: float, rotation: float
) -> NDArray[np.float64]:
    """(4, 4) pose between two poses, by shares of the way in position and in rotation."""
    turn = vector_from_rotation(start[:3, :3].T @ end[:3, :3])
    place = (1.0 - position) * start[:3, 3] + position * end[:3, 3]
    return make_transform(start[:3, :3] @ rotation_from_vector(rotation * turn), place)


def resect(
    seen: Observed, view: View, K: NDArray | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Pose and intrinsics of a camera from world points and pixels alone (PnP in RANSAC).

    An unknown focal length is searched over :data:`_FOCAL_RANGE`; None when nothing fits.
    """
    use = seen.sure > 0
    if np.count_nonzero(use) < MIN_POINTS:
        return None
    world, uv, weight = seen.world[use], seen.uv[use], seen.sure[use]
    centre = world.mean(0)
    width = max(view.size)
    choices = (
        [K]
        if K is not None
        else [intrinsics_of(f * width, view) for f in np.geomspace(*_FOCAL_RANGE, 16)]
    )
    best: tuple[float, NDArray, NDArray] | None = None
    for candidate in choices:
        try:
            found, turn, shift, _ = cv2.solvePnPRansac(
                world - centre,
                uv,
                candidate,
                None,
                iterationsCount=100,
                reprojectionError=0.02 * width,
                flags=cv2.SOLVEPNP_SQPNP,
            )
        except cv2.error:  # points that lie on a line, as seen by such a camera
            continue
        if not found:
            continue
        rotation = cv2.Rodrigues(turn)[0]
        cam_from_world = make_transform(rotation, shift.ravel() - rotation @ centre)
        error = float(
            robust_errors(
                Sightings(*(torch.from_numpy(part)[None] for part in (world, uv, weight))),
                torch.from_numpy(cam_from_world[None, :3]),
                torch.from_numpy(np.asarray(candidate, dtype=np.float64)[None]),
            )
        )
        if np.isfinite(error) and (best is None or error < best[0]):
            best = error, invert(cam_from_world), np.asarray(candidate, dtype=np.float64)
    return None if best is None else best[1:]


def _sightings(observed: Sequence[Observed]) -> Sightings:
    """World points of some views, thinned and padded to the same number."""
    thin = [max(1, len(seen.uv) // _REPROJECTED) for seen in observed]
    count = max(len(seen.uv[::step]) for seen, step in zip(observed, thin, strict=True))
    world = torch.zeros((len(observed), count, 3), dtype=torch.float64)
    uv = torch.zeros((len(observed), count, 2), dtype=torch.float64)
    weight = torch.zeros((len(observed), count), dtype=torch.float64)
    for v, (seen, step) in enumerate(zip(observed, thin, strict=True)):
        n = len(seen.uv[::step])
        world[v, :n] = torch.from_numpy(seen.world[::step])
        uv[v, :n] = torch.from_numpy(seen.uv[::step])
        weight[v, :n] = torch.from_numpy(np.ascontiguousarray(seen.sure[::step]))
    return Sightings(world, uv, weight)


def middle(values: NDArray) -> float:
    """The (upper) median of a few values; NumPy's own takes ten times as long for them."""
    return float(np.sort(values)[len(values) // 2])


def mean_pose(seen: Observed) -> NDArray[np.float64] | None:
    """Chordal mean of the rotations and Weiszfeld mean of the positions that the pairs give."""
    if not len(seen.own_poses):
        return None
    weight = seen.own_weight.sum(1) + 1e-300
    positions = seen.own_poses[:, :3, 3]
    mean = weight @ positions / weight.sum()
    for _ in range(10):
        apart = np.linalg.norm(positions - mean, axis=1)
        robust = weight / np.maximum(apart, 0.1 * middle(apart) + 1e-12)
        mean = robust @ positions / robust.sum()
    apart = np.linalg.norm(positions - mean, axis=1)
    robust = weight / np.maximum(apart, 0.1 * middle(apart) + 1e-12)
    rotation = nearest_rotation(np.einsum("k,kij->ij", robust, seen.own_poses[:, :3, :3]))
    return make_transform(rotation, mean)


def _fit_rigid(seen: Observed, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pose that lays a measured map onto its world points, robustly."""
    weight = np.where(seen.sure > 0, seen.own_weight.max(0), 0.0)
    # All maps are one array; pairs of unknown scale put it at slightly different sizes.
    points = np.median(seen.own_points, axis=0)
    if np.count_nonzero(weight) < 3:
        return start
    robust = weight
    pose = start
    for _ in range(5):
        try:
            pose = umeyama(points, seen.world, robust, with_scale=False)[1]
        except ValueError:
            return start
        residual = np.linalg.norm(points @ pose[:3, :3].T + pose[:3, 3] - seen.world, axis=1)
        robust = weight / np.maximum(residual, np.median(residual[weight > 0]) + 1e-9)
    return pose


def _inverted(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(V, 3, 4) of (V, 3, 4) rigid transforms."""
    full = np.zeros((len(poses), 4, 4))
    full[:, :3], full[:, 3, 3] = poses, 1.0
    return invert(full)[:, :3]
