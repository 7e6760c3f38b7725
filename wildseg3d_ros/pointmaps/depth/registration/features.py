"""Relative pose of two RGB-D views from local features alone, when no prior is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import rays_of
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import apply, nearest_rotation
from wildseg3d_ros.pointmaps.depth.registration.frame import Frame
from wildseg3d_ros.pointmaps.features import affine_sift, match, match_places, root_sift

MIN_INLIERS = 10
"""Matches that must agree on one rigid motion. Three fix it; that seven more agree by chance, each
in three coordinates, is negligible."""


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Features of one view that have depth.

    Attributes:
        points: (M, 3) float64 metres, camera frame.
        sigma: (M,) float64 metres, standard deviation of their depth.
        descriptors: (M, 128) float32 RootSIFT, unit length.
        uv: (M, 2) float64 pixels.
        several: whether a place may have several descriptors.
        matched: whether row k of these is the match of row k of the other view's.
    """

    points: NDArray[np.float64]
    sigma: NDArray[np.float64]
    descriptors: NDArray[np.float32]
    uv: NDArray[np.float64]
    several: bool = False
    matched: bool = False

    def matches(self, other: Keypoints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices (K,) into these and the other view's keypoints that look alike."""
        if self.matched:
            return np.arange(len(self.uv)), np.arange(len(self.uv))
        if self.several and other.several:
            return match_places(self.uv, self.descriptors, other.uv, other.descriptors)
        return match(self.descriptors, other.descriptors)


def detect_keypoints(frame: Frame, wide: bool = False) -> Keypoints:
    """RootSIFT features of a frame where it has depth.

    Args:
        wide: whether they are to be matched with views far aside; takes ten times as long.
    """
    uv, descriptors = affine_sift(frame.gray, 500) if wide else root_sift(frame.gray, 1500)
    points, sigma = _with_depth(frame, uv)
    has_depth = np.isfinite(sigma)
    found = points[has_depth], sigma[has_depth], descriptors[has_depth], uv[has_depth]
    return Keypoints(*found, wide)


def matched_keypoints(
    a: Frame, b: Frame, uv_a: NDArray[np.float64], uv_b: NDArray[np.float64]
) -> tuple[Keypoints, Keypoints]:
    """Matches of two frames, (M, 2) pixels each, where both have depth."""
    points_a, sigma_a = _with_depth(a, uv_a)
    points_b, sigma_b = _with_depth(b, uv_b)
    both = np.isfinite(sigma_a) & np.isfinite(sigma_b)
    none = np.zeros((int(both.sum()), 0), np.float32)
    return (
        Keypoints(points_a[both], sigma_a[both], none, uv_a[both], matched=True),
        Keypoints(points_b[both], sigma_b[both], none, uv_b[both], matched=True),
    )


def _with_depth(
    frame: Frame, uv: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, 3) points of pixels (M, 2), and the deviation of their depth, inf where none is."""
    points, sigma = np.zeros((len(uv), 3)), np.full(len(uv), np.inf)
    if len(uv) == 0:
        return points, sigma
    height, width = frame.gray.shape
    # What is simulated may lie a little outside.
    cols, rows = np.rint(np.clip(uv, 0, [width - 1, height - 1])).astype(np.int64).T
    # Registered depth is full of pinholes: the nearest pixel with depth, up to two pixels away.
    offsets = sorted(np.ndindex(5, 5), key=lambda o: (o[0] - 2) ** 2 + (o[1] - 2) ** 2)
    for dv, du in offsets:
        r = np.clip(rows + dv - 2, 0, height - 1)
        c = np.clip(cols + du - 2, 0, width - 1)
        take = ~np.isfinite(sigma) & np.isfinite(frame.sigma[r, c])
        z = frame.points[r[take], c[take], 2].astype(np.float64)
        sigma[take] = frame.sigma[r[take], c[take]]
        # The feature's own ray at its neighbour's depth.
        points[take] = rays_of(uv[take, 0], uv[take, 1], frame.K) * z[:, None]
    return points, sigma


def pose_from_features(
    a: Keypoints, b: Keypoints, K_a: NDArray, image_size: int
) -> tuple[NDArray[np.float64], int] | None:
    """RANSAC over rigid motions between matched 3D points.

    Triples of matches are drawn at random; those whose three distances differ between the views
    are no rigid motion and cost nothing. A match is an inlier when it reprojects to within half a
    percent of the image and its depth agrees to within the noise.

    Args:
        K_a: (3, 3) intrinsics of view a; image_size: longer edge of its image [px].

    Returns:
        (4, 4) ``a_from_b`` and its number of inliers; None when fewer than MIN_INLIERS matches
        agree on a pose.
    """
    index_a, index_b = a.matches(b)
    if len(index_a) < MIN_INLIERS:
        return None
    matches = _Matches(a, b, index_a, index_b, 0.005 * image_size / K_a[0, 0])
    pose = _best_hypothesis(matches, np.random.default_rng(0))
    if pose is None:
        return None
    inliers = matches.inliers(pose[None])[0]
    for _ in range(5):
        if inliers.sum() < MIN_INLIERS:
            return None
        source, target = matches.points_b[inliers], matches.points_a[inliers]
        weights = 1.0 / matches.sigma[inliers] ** 2
        try:
            _, pose = umeyama(source, target, weights, with_scale=False)
        except ValueError:
            return None
        inliers = matches.inliers(pose[None])[0]
    # Repeated features in one corner fix no pose: the inliers must span twice their noise, in
    # two directions.
    moved = apply(pose, matches.points_b[inliers])
    extent = np.linalg.svd(moved - moved.mean(axis=0), compute_uv=False) / np.sqrt(len(moved))
    if inliers.sum() < MIN_INLIERS or extent[1] < 2.0 * np.median(matches.sigma[inliers]):
        return None
    return pose, int(inliers.sum())


class _Matches:
    """Matched points (M, 3) of two views, and how far a rigid motion may miss them.

    Args:
        index_a, index_b: (M,) into the keypoints. lateral: tolerance of x / z and y / z.
    """

    def __init__(
        self, a: Keypoints, b: Keypoints, index_a: NDArray, index_b: NDArray, lateral: float
    ) -> None:
        self.points_a, self.points_b = a.points[index_a], b.points[index_b]
        self.sigma = np.hypot(a.sigma[index_a], b.sigma[index_b])
        # Depth scale differs by about a percent between uncalibrated depth cameras.
        self.axial = 3.0 * self.sigma + 0.01 * self.points_a[:, 2]
        self.lateral = lateral

    def inliers(self, motions: NDArray) -> NDArray[np.bool_]:
        """(H, M) of motions (H, 4, 4) of view b's points."""
        moved = np.einsum("hij,mj->hmi", motions[:, :3, :3], self.points_b)
        moved += motions[:, None, :3, 3]
        z = np.maximum(moved[..., 2], 1e-6)
        off = moved[..., :2] / z[..., None] - self.points_a[:, :2] / self.points_a[:, 2:]
        close = (off * off).sum(axis=-1) < self.lateral**2
        return close & (np.abs(z - self.points_a[:, 2]) < self.axial)


def _best_hypothesis(matches: _Matches, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """The pose (4, 4) of the triple with most inliers; None where no triple is rigid."""
    triples = _rigid_triples(matches.points_a, matches.points_b, matches.axial, rng)
    if len(triples) == 0:
        return None
    motions = _rigid_motions(matches.points_b[triples], matches.points_a[triples])
    # Hypotheses in blocks bound the memory of the scores.
    blocks = (motions[i : i + 128] for i in range(0, len(motions), 128))
    scores = np.concatenate([matches.inliers(block).sum(axis=1) for block in blocks])
    return motions[scores.argmax()]


def _rigid_triples(
    points_a: NDArray, points_b: NDArray, tolerance: NDArray, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(T, 3) triples of matches whose distances to each other agree in both views, T <= 1000."""
    # Were but a tenth of the matches right, 20 of 20,000 triples would still be.
    drawn = rng.integers(0, len(points_a), (20000, 3))
    first, second = drawn, np.roll(drawn, -1, axis=1)
    distinct = (first != second).all(axis=1)
    length_a = np.linalg.norm(points_a[first] - points_a[second], axis=-1)
    length_b = np.linalg.norm(points_b[first] - points_b[second], axis=-1)
    slack = np.maximum(tolerance[first], tolerance[second])
    rigid = (np.abs(length_a - length_b) < slack).all(axis=1)
    # Short edges agree by accident and leave the rotation open.
    rigid &= (length_a > 3.0 * slack).all(axis=1) & distinct
    return drawn[rigid][:1000]


def _rigid_motions(source: NDArray, target: NDArray) -> NDArray[np.float64]:
    """(H, 4, 4) least-squares motions of (H, 3, 3) point triples (Kabsch)."""
    centre_s, centre_t = source.mean(axis=1, keepdims=True), target.mean(axis=1, keepdims=True)
    covariance = np.einsum("hmi,hmj->hij", target - centre_t, source - centre_s)
    motions = np.tile(np.eye(4), (len(source), 1, 1))
    motions[:, :3, :3] = rotations = nearest_rotation(covariance)
    motions[:, :3, 3] = centre_t[:, 0] - np.einsum("hij,hj->hi", rotations, centre_s[:, 0])
    return motions
