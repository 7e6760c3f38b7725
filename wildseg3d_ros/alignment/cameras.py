"""Camera poses and focal lengths from aligned pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph import MIN_POINTS, Graph
from wildseg3d_ros.alignment.placement import Poses
from wildseg3d_ros.geometry.similarity import umeyama
from wildseg3d_ros.geometry.transforms import (
    invert,
    make_transform,
    nearest_rotation,
    rotation_from_vector,
)
from wildseg3d_ros.types import View

_FOCAL_RANGE = (0.3, 6.0)
"""Focal lengths in image widths that a resection tries: fisheye-like to long lens."""

_REPROJECTION_PASSES = 8


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
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Pose (N, 4, 4) world_from_cam and intrinsics (N, 3, 3) of every view, and warnings.

    A view that a prior holds keeps the mean of the poses that its pairs give: these were solved
    with the prior, which a fit to points would undo. A measured view is fitted rigidly onto its
    world points. Other views start from the mean of the poses that their pairs give (or from
    resection, when none does) and are refined by reprojection. Unknown focal lengths come from the
    pointmaps; the principal point is the image's centre.
    """
    poses = np.tile(np.eye(4), (len(views), 1, 1))
    intrinsics = np.tile(np.eye(3), (len(views), 1, 1))
    warnings = []
    for v, (view, seen) in enumerate(zip(views, observed, strict=True)):
        start = mean_pose(seen)
        K = view.K
        if K is None and len(seen.own_points):
            focal = focal_from_pointmaps(seen.own_points, seen.own_weight, seen.uv, _centre(view))
            K = _intrinsics(focal, view) if focal is not None else None
        if start is not None and K is not None and held[v]:
            pose = start
        elif start is not None and measured[v] and K is not None:
            pose = _fit_rigid(seen, start)
        elif start is not None and view.K is not None:
            pose = refine_camera(seen, start, view.K, with_focal=False)[0]
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
                K = _intrinsics(float(max(view.size)), view) if K is None else K
            else:
                pose, K = refine_camera(seen, *resected, with_focal=view.K is None)
        poses[v], intrinsics[v] = pose, K
    return poses, intrinsics, warnings


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


def focal_from_pointmaps(
    points: NDArray, weight: NDArray, uv: NDArray, centre: NDArray
) -> float | None:
    """Focal length in pixels by a robust (Weiszfeld) fit of ``uv - centre = f (x, y) / z``.

    Args:
        points: (K, n, 3) in the camera's frame; weight: (K, n); uv: (n, 2); centre: (2,).

    Returns:
        None when no point lies in front of the camera and off its axis.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = points[..., :2] / points[..., 2:]
    use = (weight > 0) & (points[..., 2] > 0) & np.isfinite(direction).all(-1)
    offset = np.broadcast_to(uv - centre, direction.shape)[use]
    direction, weight = direction[use], weight[use]
    if len(direction) < 3 or np.abs(direction).max() < 1e-9:
        return None
    ratio = np.einsum("ik,ik->i", offset, direction), np.einsum("ik,ik->i", direction, direction)
    robust = weight
    focal = 0.0
    for _ in range(10):
        focal = float(robust @ ratio[0] / max(robust @ ratio[1], 1e-300))
        residual = np.linalg.norm(offset - focal * direction, axis=1)
        robust = weight / np.maximum(residual, 1e-3 + 0.1 * np.median(residual))
    return focal if np.isfinite(focal) and focal > 0 else None


def refine_camera(
    seen: Observed, pose: NDArray, K: NDArray, with_focal: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Newton on the reprojection of world points, with a Cauchy loss of the median error.

    Args:
        seen: the view's world points; pose: world_from_cam to start from.
        with_focal: whether the focal length is refined too.

    Returns:
        the refined world_from_cam and K; the given ones when the points do not support a step.
    """
    use = seen.sure > 0
    if np.count_nonzero(use) < MIN_POINTS:
        return pose, K
    world, uv, weight = seen.world[use], seen.uv[use], seen.sure[use]
    cam_from_world, K = invert(pose), np.array(K, dtype=np.float64)
    best = _robust_error(world, uv, weight, cam_from_world, K), cam_from_world, K
    for _ in range(_REPROJECTION_PASSES):
        error, jacobian, front = _reprojection(world, uv, cam_from_world, K)
        if np.count_nonzero(front) < MIN_POINTS:
            break
        norm = np.linalg.norm(error, axis=1)
        width = max(float(np.median(norm[front])), 1e-3)
        robust = np.where(front, weight, 0.0) / (1.0 + (norm / width) ** 2)
        jacobian = jacobian if with_focal else jacobian[..., :6]
        size = jacobian.shape[-1]
        flat, twice = jacobian.reshape(-1, size), np.repeat(robust, 2)
        normal = (flat * twice[:, None]).T @ flat
        normal[np.diag_indices(size)] *= 1.0 + 1e-6
        normal[np.diag_indices(size)] += 1e-12 * np.trace(normal)
        xi = -np.linalg.solve(normal, (flat * twice[:, None]).T @ error.ravel())
        step = make_transform(rotation_from_vector(xi[:3]), xi[3:6])
        cam_from_world = step @ cam_from_world
        if with_focal:
            K = K.copy()
            K[0, 0] *= np.exp(np.clip(xi[6], -0.5, 0.5))
            K[1, 1] = K[0, 0]
        now = _robust_error(world, uv, weight, cam_from_world, K)
        if now < best[0]:
            best = now, cam_from_world, K
        if np.abs(xi).max() < 1e-4 or not now < 2.0 * best[0]:
            break
    return invert(best[1]), best[2]


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
        else [_intrinsics(f * width, view) for f in np.geomspace(*_FOCAL_RANGE, 16)]
    )
    best: tuple[float, NDArray, NDArray] | None = None
    for candidate in choices:
        found, turn, shift, _ = cv2.solvePnPRansac(
            world - centre,
            uv,
            candidate,
            None,
            iterationsCount=100,
            reprojectionError=0.02 * width,
            flags=cv2.SOLVEPNP_SQPNP,
        )
        if not found:
            continue
        rotation = cv2.Rodrigues(turn)[0]
        cam_from_world = make_transform(rotation, shift.ravel() - rotation @ centre)
        error = _robust_error(world, uv, weight, cam_from_world, candidate)
        if np.isfinite(error) and (best is None or error < best[0]):
            best = error, invert(cam_from_world), np.asarray(candidate, dtype=np.float64)
    return None if best is None else best[1:]


def _reprojection(
    world: NDArray, uv: NDArray, cam_from_world: NDArray, K: NDArray
) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Errors (n, 2), derivatives (n, 2, 7) over (rotation, translation, log f), in front (n,)."""
    points = world @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    front = points[:, 2] > 1e-6 * np.abs(points).max()
    z = np.where(front, points[:, 2], 1.0)
    x, y = points[:, 0] / z, points[:, 1] / z
    fx, fy, skew = K[0, 0], K[1, 1], K[0, 1]
    pixel = np.stack([fx * x + skew * y + K[0, 2], fy * y + K[1, 2]], 1)
    zero = np.zeros_like(x)
    normalised = np.stack(
        [
            np.stack([-x * y, 1 + x * x, -y, 1 / z, zero, -x / z], 1),
            np.stack([-1 - y * y, x * y, x, zero, 1 / z, -y / z], 1),
        ],
        1,
    )
    jacobian = np.zeros((len(world), 2, 7))
    jacobian[:, 0, :6] = fx * normalised[:, 0] + skew * normalised[:, 1]
    jacobian[:, 1, :6] = fy * normalised[:, 1]
    jacobian[:, :, 6] = np.stack([fx * x, fy * y], 1)
    return pixel - uv, jacobian, front


def _robust_error(
    world: NDArray, uv: NDArray, weight: NDArray, cam_from_world: NDArray, K: NDArray
) -> float:
    """Weighted mean of the truncated reprojection error in pixels; points behind count in full."""
    error, _, front = _reprojection(world, uv, cam_from_world, K)
    limit = 0.1 * (uv.max() + 1.0)
    norm = np.where(front, np.minimum(np.linalg.norm(error, axis=1), limit), limit)
    return float(weight @ norm / weight.sum())


def mean_pose(seen: Observed) -> NDArray[np.float64] | None:
    """Chordal mean of the rotations and Weiszfeld mean of the positions that the pairs give."""
    if not len(seen.own_poses):
        return None
    weight = seen.own_weight.sum(1) + 1e-300
    positions = seen.own_poses[:, :3, 3]
    mean = weight @ positions / weight.sum()
    for _ in range(10):
        apart = np.linalg.norm(positions - mean, axis=1)
        robust = weight / np.maximum(apart, 0.1 * np.median(apart) + 1e-12)
        mean = robust @ positions / robust.sum()
    apart = np.linalg.norm(positions - mean, axis=1)
    robust = weight / np.maximum(apart, 0.1 * np.median(apart) + 1e-12)
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


def _centre(view: View) -> NDArray[np.float64]:
    height, width = view.size
    return np.array([(width - 1) / 2.0, (height - 1) / 2.0])


def _intrinsics(focal: float, view: View) -> NDArray[np.float64]:
    u, v = _centre(view)
    return np.array([[focal, 0.0, u], [0.0, focal, v], [0.0, 0.0, 1.0]])
