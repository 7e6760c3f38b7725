"""What one view sees, in the image of another: points of measured depth, or matched features.

The judge compares some hundred points of small images. Here are those of whole images, for people
to look at, told apart in the same way; and which pairs of views are worth a look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project, rays_of
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig.cameras import Cameras, Evidence, all_pairs
from wildseg3d_ros.rig.matches import Matches, pairs_to_match
from wildseg3d_ros.rig.surfaces import TOLERANCE, Surfaces

POINTS = 5000
"""Points of a view that are drawn in another, about."""

_TELLING = 1.0
"""Log ratio, up or down, from which two views have something in common, as in the report."""


class Outcome(IntEnum):
    """What becomes of a point of one view in another."""

    UNKNOWN = 0
    """No depth is measured there."""
    HIDDEN = 1
    """It lies behind the surface that is measured there."""
    AGREES = 2
    """It lies on it; a match lies where the cameras put it."""
    CONTRADICTS = 3
    """It lies before it, where the other camera sees through; a match lies elsewhere."""


@dataclass(frozen=True, eq=False)
class Reprojection:
    """Points of view a in the image of view b.

    Attributes:
        uv: (M, 2) pixels of b.
        outcome: (M,) int, of :class:`Outcome`.
        off: (M,) distance to the surface that is measured there, as a share of the distance to
            the camera, negative before it; NaN where none is measured and of matches.
        matched: (2, M, 2) pixels of a and b where the points are matched features, and uv is where
            b should see them: on the epipolar line, or where a's depth puts them. None for points
            of depth alone.
        behind, outside: shares of all points of a that are behind camera b, and that are before it
            but not in its image.
    """

    uv: NDArray[np.float64]
    outcome: NDArray[np.int64]
    off: NDArray[np.float64]
    matched: NDArray[np.float64] | None = None
    behind: float = 0.0
    outside: float = 0.0

    def share(self, outcome: Outcome) -> float:
        """Share of the points in the image with an outcome; 0 where there is none."""
        return float((self.outcome == outcome).mean()) if len(self.outcome) else 0.0

    @property
    def agreement(self) -> float:
        """Share of what agrees or contradicts that agrees; NaN where nothing does either."""
        agrees, contradicts = self.share(Outcome.AGREES), self.share(Outcome.CONTRADICTS)
        return agrees / (agrees + contradicts) if agrees + contradicts else float("nan")


def measured_points(
    view: View, cameras: Cameras, v: int, count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """About so many points (M, 3) of a view with depth, evenly spread over its image, in its
    camera's frame; their rows (M,) and columns (M,).

    Args:
        v: the view's index in ``cameras``.
    """
    depth = np.asarray(view.depth)
    step = max(1, round(np.sqrt((depth > 0).sum() / count)))
    rows, cols = (
        each * step + step // 2 for each in np.nonzero(depth[step // 2 :: step, step // 2 :: step])
    )
    z = depth[rows, cols].astype(np.float64) * cameras.depth_scale[v]
    rays = rays_of(cols.astype(np.float64), rows.astype(np.float64), cameras.K[v])
    return rays * z[:, None], rows, cols


def reproject_depth(views: Sequence[View], cameras: Cameras, a: int, b: int) -> Reprojection:
    """Points that view a measured, in the image of view b; both have depth."""
    depth_b = np.asarray(views[b].depth)
    points, _, _ = measured_points(views[a], cameras, a, POINTS)
    moved = apply(_b_from_a(cameras, a, b), points)
    uv, z = project(moved, cameras.K[b])
    height, width = depth_b.shape
    with np.errstate(invalid="ignore"):
        inside = ((uv > -0.5) & (uv < [width - 0.5, height - 0.5])).all(axis=1)
    uv, z, total = uv[inside], z[inside], max(len(moved), 1)
    col, row = np.rint(uv).astype(np.int64).T
    measured = depth_b[row, col] * cameras.depth_scale[b]
    with np.errstate(divide="ignore"):
        off = np.where(measured > 0, np.log(z) - np.log(measured), np.nan)
    outcome = np.full(len(uv), int(Outcome.CONTRADICTS))
    outcome[off > -TOLERANCE] = Outcome.AGREES
    outcome[off >= TOLERANCE] = Outcome.HIDDEN
    outcome[np.isnan(off)] = Outcome.UNKNOWN
    behind = float((moved[:, 2] <= 0).sum()) / total
    return Reprojection(uv, outcome, off, None, behind, 1.0 - behind - len(uv) / total)


def reproject_matches(
    matches: Matches, views: Sequence[View], cameras: Cameras, a: int, b: int
) -> Reprojection:
    """Matched features of view a and where view b should see them."""
    matched, agrees = matches.of_pair(cameras, a, b)
    b_from_a, depth = _b_from_a(cameras, a, b), views[a].depth
    ray = rays_of(matched[0, :, 0], matched[0, :, 1], cameras.K[a])
    with np.errstate(divide="ignore", invalid="ignore"):
        # Two points of each ray span its epipolar line; the foot on it is nearest to the match.
        line = np.cross(ray @ b_from_a[:3, :3].T @ cameras.K[b].T, cameras.K[b] @ b_from_a[:3, 3])
        line = line / np.linalg.norm(line[:, :2], axis=1, keepdims=True)
        distance = (line[:, :2] * matched[1]).sum(axis=1) + line[:, 2]
    uv = matched[1] - distance[:, None] * line[:, :2]
    if depth is not None:
        cols, rows = np.rint(matched[0]).astype(np.int64).T
        z = depth[rows.clip(0, depth.shape[0] - 1), cols.clip(0, depth.shape[1] - 1)]
        at_depth, _ = project(
            apply(b_from_a, ray * (z * cameras.depth_scale[a])[:, None]), cameras.K[b]
        )
        uv = np.where((z > 0)[:, None], at_depth, uv)
    outcome = np.where(agrees, int(Outcome.AGREES), int(Outcome.CONTRADICTS))
    return Reprojection(uv, outcome, np.full(len(uv), np.nan), matched)


class Reprojections:
    """The views' points in each other's images, by any cameras.

    Args:
        views: some may have no pose, intrinsics or depth.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views
        self._surfaces = Surfaces(views)
        pairs = pairs_to_match(len(views))
        pairs = pairs[~self._surfaces.measured[pairs].all(axis=1)]
        self._matches = Matches(views, pairs) if len(pairs) else None

    def evidence(self, cameras: Cameras) -> Evidence:
        """Of all pairs; see :func:`~wildseg3d_ros.rig.cameras.all_pairs`. Cameras that are not
        known are NaN, and their pairs say nothing."""
        pairs = all_pairs(len(self._views))
        found = self._surfaces.evidence(cameras, pairs)
        if self._matches is not None:
            found = found + self._matches.evidence(cameras, pairs)
        silent = ~cameras.known[pairs].all(axis=1)
        return Evidence(*(np.where(silent, 0.0, each) for each in vars(found).values()))

    def of_pair(self, cameras: Cameras, a: int, b: int) -> Reprojection:
        """Points of view a in the image of view b, a < b; those of depth where both have it."""
        if self._surfaces.measured[[a, b]].all():
            return reproject_depth(self._views, cameras, a, b)
        if self._matches is None:
            raise ValueError("views without depth have matches")
        return reproject_matches(self._matches, self._views, cameras, a, b)

    def triangulated(
        self, cameras: Cameras
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """World points (M, 3) of matches that agree with the cameras, for want of depth; the first
        view (M,) of each and its pixel (M, 2) there, column and row."""
        points, seen_by, pixels = [np.zeros((0, 3))], [], [np.zeros((0, 2), np.int64)]
        matches = self._matches
        for a, b in () if matches is None else matches.pairs.tolist():
            if matches is None or not cameras.known[[a, b]].all():
                continue
            matched, agrees = matches.of_pair(cameras, a, b)
            found = _between_rays(cameras, (a, b), matched[:, agrees])
            ahead = np.isfinite(found).all(axis=1)
            points.append(found[ahead])
            seen_by += [a] * int(ahead.sum())
            pixels.append(np.rint(matched[0, agrees][ahead]).astype(np.int64))
        return np.concatenate(points), np.array(seen_by, dtype=np.int64), np.concatenate(pixels)


def pairs_to_show(
    evidence: Sequence[Evidence], count: int, most: int, per_view: int
) -> list[tuple[int, int]]:
    """Pairs of views that have something in common, those that agree least first.

    Args:
        evidence: of all pairs of the views, by the cameras as given and by others: what is common
            to two views only by the latter should be so by the former.
        count: of views. most: pairs at most. per_view: pairs of one view that others make way for.
    """
    given = evidence[0]
    told = np.any([(np.abs(e.log_ratio) >= _TELLING) & (e.compared > 0) for e in evidence], axis=0)
    share = given.agreeing / np.maximum(given.compared, 1.0)
    order = np.lexsort((given.log_ratio, share))
    pairs = [tuple(pair) for pair in all_pairs(count)[order[told[order]]].tolist()]
    degree, first = np.zeros(count, dtype=np.int64), []
    for pair in pairs:
        if degree[list(pair)].min() < per_view:
            first.append(pair)
            degree[list(pair)] += 1
    return (first + [pair for pair in pairs if pair not in first])[:most]


def _between_rays(
    cameras: Cameras, pair: tuple[int, int], uv: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M, 3) world points halfway between the rays of pixels (2, M, 2) of two views; NaN where
    they meet behind a camera or under an angle of less than a degree."""
    poses = cameras.world_from_cam[list(pair)]
    one, two = (
        rays_of(pixels[:, 0], pixels[:, 1], cameras.K[v]) @ pose[:3, :3].T
        for pixels, v, pose in zip(uv, pair, poses, strict=True)
    )
    one, two = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in (one, two))
    baseline, cosine = poses[1, :3, 3] - poses[0, :3, 3], (one * two).sum(axis=1)
    along = np.stack([one @ baseline, two @ baseline])
    with np.errstate(divide="ignore", invalid="ignore"):
        to_one = (along[0] - cosine * along[1]) / (1.0 - cosine**2)
        to_two = (cosine * along[0] - along[1]) / (1.0 - cosine**2)
        ahead = (to_one > 0) & (to_two > 0) & (cosine < np.cos(np.radians(1.0)))
    ends = poses[0, :3, 3] + to_one[:, None] * one, poses[1, :3, 3] + to_two[:, None] * two
    return np.where(ahead[:, None], (ends[0] + ends[1]) / 2.0, np.nan)


def _b_from_a(cameras: Cameras, a: int, b: int) -> NDArray[np.float64]:
    return np.linalg.inv(cameras.world_from_cam[b]) @ cameras.world_from_cam[a]
