"""Camera poses good enough to rectify with: given poses, refined by matched features.

Rows of rectified images must agree to about a pixel, which is 0.1 degrees for common lenses, and
kinematics are worse. All cameras are therefore moved together so that matched features lie on each
other's epipolar lines, with the deviations of the given poses as prior. Points are not solved for.
The error of a match is Sampson's distance to the epipolar constraint (Hartley and Zisserman,
"Multiple View Geometry", 2nd ed., eq. 11.9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.least_squares import Linearised, gauss_newton
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    rotation_from_vector,
    vector_from_rotation,
)
from wildseg3d_ros.pointmaps.features import match

MATCH_SIGMA = 0.5
"""Standard deviation of a match across its epipolar line [px]."""

GATE = 4.0
"""Matches further from their epipolar line than this many deviations, of the given poses at first
and of the matches then, are wrong."""

MIN_FEATURES = 25
"""Matched features from which a median or a percentile over them is taken."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Features that two views share.

    Attributes:
        uv_a, uv_b: (M, 2) pixels.
        compared: matches of descriptors before those far from epipolar lines were taken out.
    """

    uv_a: NDArray[np.float64]
    uv_b: NDArray[np.float64]
    compared: int = 0


@dataclass(frozen=True, eq=False)
class RefinedPoses:
    """Poses that the features agree with.

    Attributes:
        world_from_cam: (N, 4, 4).
        agreeing: matches that agree with the poses, and matches compared, by pair.
        points: (M, 3) world points of the agreeing matches, by pair.
    """

    world_from_cam: NDArray[np.float64]
    agreeing: Mapping[tuple[int, int], tuple[int, int]]
    points: Mapping[tuple[int, int], NDArray[np.float64]]

    def contradicts(self, pair: tuple[int, int]) -> bool:
        """Whether the pair's features say that the poses are wrong."""
        good, compared = self.agreeing.get(pair, (0, 0))
        # By chance 2 % of the matches lie near their epipolar lines. Of 30 that lie anywhere, some
        # would if the poses were right.
        return compared >= 30 and good < 0.15 * compared


Features = tuple[NDArray[np.float64], NDArray[np.float32]]


def match_near_epipolar_lines(
    a: Features, b: Features, cameras: tuple[Camera, Camera], tolerance: float
) -> Matches:
    """Matches of two views' features (uv, descriptors) that the given poses do not rule out, which
    may rotate an epipolar line by ``tolerance`` [rad]."""
    index_a, index_b = match(a[1], b[1])
    return near_epipolar_lines(a[0][index_a], b[0][index_b], cameras, tolerance)


def near_epipolar_lines(
    uv_a: NDArray[np.float64],
    uv_b: NDArray[np.float64],
    cameras: tuple[Camera, Camera],
    tolerance: float,
) -> Matches:
    """Those of matches (M, 2) that the given poses do not rule out; tolerance as above."""
    found = Matches(uv_a, uv_b)
    error, _ = epipolar_errors(found, *cameras)
    focal = 0.5 * (cameras[0].K[0, 0] + cameras[1].K[0, 0])
    near = np.abs(error) < GATE * (MATCH_SIGMA + tolerance * focal)
    return Matches(found.uv_a[near], found.uv_b[near], len(near))


@dataclass(frozen=True, eq=False)
class Camera:
    """K (3, 3) in pixels and pose (4, 4)."""

    K: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]


def epipolar_errors(
    matches: Matches, a: Camera, b: Camera
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) signed Sampson distances [px] and their (M, 12) derivatives by a rotation, about its
    centre, and a translation of camera a and of camera b in the world; the distance's own
    normalisation counts as constant."""
    rotated_a, rotated_b = (c.world_from_cam[:3, :3] @ np.linalg.inv(c.K) for c in (a, b))
    ray_a, ray_b, baseline = _ray(matches.uv_a, a), _ray(matches.uv_b, b), _baseline(a, b)
    normal_b, normal_a = np.cross(baseline, ray_b), np.cross(ray_a, baseline)
    # ray_a . (baseline x ray_b) is 0 where the rays meet, as ray_b . (ray_a x baseline) is.
    by_pixels = np.concatenate([normal_b @ rotated_a[:, :2], normal_a @ rotated_b[:, :2]], 1)
    length = np.maximum(np.linalg.norm(by_pixels, axis=1, keepdims=True), 1e-12)
    error = np.einsum("mi,mi->m", ray_a, normal_b) / length[:, 0]
    by_translation = np.cross(ray_b, ray_a)
    # The distance does not change with the baseline's length, though its numerator does.
    along = baseline / max(float(np.linalg.norm(baseline)), 1e-12)
    by_translation -= (by_translation @ along)[:, None] * along
    slope = [np.cross(ray_a, normal_b), -by_translation, np.cross(ray_b, normal_a), by_translation]
    return error, np.concatenate(slope, 1) / length


def poses_by_features(
    K: Sequence[NDArray],
    given: NDArray[np.float64],
    sigma: NDArray[np.float64],
    features: Mapping[int, Features],
    pairs: Iterable[tuple[int, int]],
    matched_otherwise: Callable[[int, int], tuple[NDArray, NDArray] | None] = lambda a, b: None,
) -> RefinedPoses:
    """The given poses, refined by the features that pairs of views match.

    Args:
        K: per view (3, 3) intrinsics. given: (N, 4, 4) ``world_from_cam``.
        sigma: (N, 2) standard deviations of the given poses, metres and rad.
        matched_otherwise: (M, 2) pixels in both views of a pair whose features match too little
            for a median, or None.
    """
    cameras = [Camera(k, pose) for k, pose in zip(K, given, strict=True)]
    matches: dict[tuple[int, int], Matches] = {}
    for a, b in pairs:
        baseline = float(np.linalg.norm(_baseline(cameras[a], cameras[b])))
        if not baseline > 0.0:
            continue
        # A point is some 3 baselines away or more where something can be triangulated, so that a
        # shift of a camera rotates the ray to it by that shift over them at most. What may rotate
        # by more than 0.1 rad rules nothing out.
        tolerance = max(sigma[v, 1] + sigma[v, 0] / max(3.0 * baseline, 1e-6) for v in (a, b))
        both, tolerance = (cameras[a], cameras[b]), min(float(tolerance), 0.1)
        found = match_near_epipolar_lines(features[a], features[b], both, tolerance)
        if len(found.uv_a) < MIN_FEATURES and (other := matched_otherwise(a, b)) is not None:
            found = near_epipolar_lines(*other, both, tolerance)
        matches[a, b] = found
    return refine_poses(K, given, sigma, matches)


def refine_poses(
    K: Sequence[NDArray],
    given: NDArray[np.float64],
    sigma: NDArray[np.float64],
    matches: Mapping[tuple[int, int], Matches],
) -> RefinedPoses:
    """Gauss-Newton over all cameras, matches weighted by Geman and McClure's rule.

    Args:
        K: N intrinsics. given: (N, 4, 4) world_from_cam.
        sigma: (N, 2) standard deviations of the given poses, metres and rad.
        matches: by pair.
    """
    # Fewer matches say nothing about poses.
    usable = [pair for pair, m in matches.items() if len(m.uv_a) >= 12]
    precision = np.repeat(1.0 / sigma[:, ::-1] ** 2, 3, axis=1).reshape(-1)

    def errors(pair: tuple[int, int], poses: NDArray) -> tuple[NDArray, NDArray]:
        return epipolar_errors(matches[pair], *_cameras(K, poses, pair))

    def near(poses: NDArray) -> int:
        return sum(
            int((np.abs(errors(pair, poses)[0]) < 2.0 * MATCH_SIGMA).sum()) for pair in usable
        )

    def linearise(poses: NDArray) -> Linearised:
        off = np.array([_difference(now, then) for now, then in zip(poses, given, strict=True)])
        rows = {pair: errors(pair, poses) for pair in usable}
        return _normal_equations(rows, precision, off.reshape(-1))

    def retract(poses: NDArray, step: NDArray) -> NDArray:
        parts = step.reshape(-1, 6)
        return np.stack([moved(pose, part) for pose, part in zip(poses, parts, strict=True)])

    passes = 12 if usable else 0
    poses = gauss_newton(given, linearise, retract, passes, tolerance=1e-7).state
    # Where it brings less than 10 % more matches to within two deviations of their epipolar lines,
    # the given poses are as good as the features.
    if near(poses) < 1.1 * near(given):
        poses = given.copy()
    agreeing, points = {}, {}
    for pair, m in matches.items():
        good = np.abs(errors(pair, poses)[0]) < GATE * MATCH_SIGMA
        agreeing[pair] = int(good.sum()), m.compared
        points[pair] = triangulate(Matches(m.uv_a[good], m.uv_b[good]), *_cameras(K, poses, pair))
    return RefinedPoses(poses, agreeing, points)


def _cameras(K: Sequence[NDArray], poses: NDArray, pair: tuple[int, int]) -> tuple[Camera, Camera]:
    a, b = pair
    return Camera(K[a], poses[a]), Camera(K[b], poses[b])


def _normal_equations(
    rows: Mapping[tuple[int, int], tuple[NDArray, NDArray]],
    precision: NDArray[np.float64],
    off: NDArray[np.float64],
) -> Linearised:
    """Of all matches and the given poses.

    Args:
        rows: errors (M,) and derivatives (M, 12) by pair.
        precision: (6 N,) inverse variances of the given poses. off: (6 N,) distances from these.
    """
    mad = float(np.median(np.abs(np.concatenate([error for error, _ in rows.values()]))))
    # Wide at first, when it is the poses that are wrong.
    width = max(3.0 * mad, 3.0 * MATCH_SIGMA)
    hessian, gradient = np.diag(precision), precision * off
    for (a, b), (error, slope) in rows.items():
        weight = (1.0 + (error / width) ** 2) ** -2 / MATCH_SIGMA**2
        # Errors of features are those of the texture and the lens about them, and alike over a
        # pair, which therefore counts as 20 independent matches at most.
        weight *= min(1.0, 20.0 / len(error))
        index = np.add.outer([6 * a, 6 * b], np.arange(6)).ravel()
        weighted = slope * weight[:, None]
        hessian[np.ix_(index, index)] += slope.T @ weighted
        gradient[index] += weighted.T @ error
    return hessian, gradient


def triangulate(matches: Matches, a: Camera, b: Camera) -> NDArray[np.float64]:
    """World points (M, 3) in the middle between the two rays; only those before both cameras."""
    ray_a, ray_b = _ray(matches.uv_a, a), _ray(matches.uv_b, b)
    along_a, along_b, good = _nearest_on_rays(ray_a, ray_b, _baseline(a, b))
    good &= (along_a > 0) & (along_b > 0)
    middle = a.world_from_cam[:3, 3] + along_a[:, None] * ray_a
    middle += b.world_from_cam[:3, 3] + along_b[:, None] * ray_b
    return 0.5 * middle[good]


def triangulated_depth(
    uv_a: NDArray[np.float64], uv_b: NDArray[np.float64], a: Camera, b: Camera
) -> NDArray[np.float64]:
    """(M,) z [m] in camera a at which the rays of its pixels come nearest to those of b's."""
    return _nearest_on_rays(_ray(uv_a, a), _ray(uv_b, b), _baseline(a, b))[0]


def moved(pose: NDArray, step: NDArray) -> NDArray[np.float64]:
    """The pose rotated about the camera's centre and moved, both along the world's axes (6,)."""
    rotation = rotation_from_vector(step[:3]) @ pose[:3, :3]
    return make_transform(rotation, pose[:3, 3] + step[3:])


def _ray(uv: NDArray, camera: Camera) -> NDArray[np.float64]:
    """(M, 3) rays in the world, z = 1 in the camera."""
    homogeneous = np.concatenate([uv, np.ones((len(uv), 1))], 1)
    return homogeneous @ (camera.world_from_cam[:3, :3] @ np.linalg.inv(camera.K)).T


def _baseline(a: Camera, b: Camera) -> NDArray[np.float64]:
    return b.world_from_cam[:3, 3] - a.world_from_cam[:3, 3]


def _nearest_on_rays(
    ray_a: NDArray, ray_b: NDArray, baseline: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Where along its ray each comes nearest to the other, and whether they are not parallel."""
    aa, bb, ab = (ray_a**2).sum(1), (ray_b**2).sum(1), (ray_a * ray_b).sum(1)
    determinant = aa * bb - ab**2
    with np.errstate(divide="ignore", invalid="ignore"):
        along_a = (bb * (ray_a @ baseline) - ab * (ray_b @ baseline)) / determinant
        along_b = (ab * (ray_a @ baseline) - aa * (ray_b @ baseline)) / determinant
    return along_a, along_b, determinant > 1e-9 * aa * bb


def _difference(now: NDArray, then: NDArray) -> NDArray[np.float64]:
    """(6,) rotation and translation from one pose to another."""
    rotation = vector_from_rotation(now[:3, :3] @ then[:3, :3].T)
    return np.concatenate([rotation, now[:3, 3] - then[:3, 3]])
