"""Evidence of images: whether matched features lie where the cameras put each other's rays.

Features are matched without the cameras, and only matches that some epipolar geometry explains
count: these are right, whatever the poses are. A match contradicts the cameras that are judged
where it is far from its epipolar line or behind one of them; where its depth is known, where it is
far from the point that it should be. Without depth images know no scale: translations that are all
too long leave every match on its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.pointmaps.features import match, root_sift
from wildseg3d_ros.rig.cameras import Cameras, Evidence, all_pairs
from wildseg3d_ros.rig.surfaces import on_largest_plane

_SIZE = 480
"""Longer edge [px] at which features are found."""

_FEATURES = 700

KEPT = 48
"""Matches of a pair that are kept, at most."""

_FEWEST, _MOST = 16, 0.6
"""Matches of a pair that one epipolar geometry has to explain, and their share of all. In 40
simulated scenes of 4 views, 50 of 53 such pairs held mostly right matches, and 13 of 24 with a
smaller share; things that are there twice mislead the others."""

_MISLED = 0.25
"""Likelihood that a pair's matches are wrong all the same, as far as they contradict: twins and
tiles mislead several pairs at once."""

_WIDE, _NARROW = 0.03, 0.005
"""Angles [rad] between a match and its epipolar line: what honest poses leave, 1 degree of either
camera and 10 mm at half a metre; and what good ones do."""

_AGREES = 0.4
"""Share of the kept matches within either angle by right cameras."""

INDEPENDENT = 20.0
"""Independent matches of a pair: they sit on a few textured things."""


def pairs_to_match(count: int) -> NDArray[np.int64]:
    """(P, 2) of few views all pairs; each of many views is matched to the next ones only."""
    pairs = all_pairs(count)
    return pairs[pairs[:, 1] - pairs[:, 0] <= (8 if count > 9 else count)]


class Matches:
    """Verified matches of some pairs of views; a :class:`~wildseg3d_ros.rig.cameras.Source`.

    Args:
        views: all of the rig. pairs: (P, 2) those to match; of others nothing is said.

    Attributes:
        uv: (P, 2, M, 2) pixels in either view, NaN where there are fewer matches.
        shrunk_by: (N,) by how much smaller the images are in which features are found.
    """

    def __init__(self, views: Sequence[View], pairs: NDArray[np.int64]) -> None:
        self.pairs = pairs
        count = len(views)
        # In pixels it stays the same whatever focal length is judged: a shorter one would have all
        # matches agree that lie near the middle.
        focal = np.array([1.0 if view.K is None else view.K[1, 1] for view in views])
        self._focal = focal
        self._height = np.array([float(view.size[0]) for view in views])
        self._width = np.array([float(view.size[1]) for view in views])
        self.shrunk_by = np.maximum(self._height, self._width) / _SIZE
        self._row = np.full((count, count), -1)
        self.uv = np.full((len(pairs), 2, KEPT, 2), np.nan)
        self._depth = np.full((len(pairs), 2, KEPT), np.nan)
        self._planar = np.zeros(len(pairs), dtype=bool)
        for e, ((a, b), found) in enumerate(zip(pairs, _matched(views, pairs), strict=True)):
            self._row[a, b] = e
            self.uv[e, :, : found.shape[1]] = found
            for side, v in enumerate((a, b)):
                self._depth[e, side, : found.shape[1]] = _depth_at(views[v].depth, found[side])
            self._planar[e] = _on_one_plane(found, self._depth[e], max(views[a].size))

    def evidence(self, cameras: Cameras, pairs: NDArray[np.int64], thinned: int = 1) -> Evidence:
        """Evidence of pairs (P, 2); see :class:`~wildseg3d_ros.rig.cameras.Source`. Nothing is
        left out."""
        a, b = pairs.T
        row = self._row[a, b]
        there, known, off, agrees = self._compare(cameras, pairs)
        bands = []
        for angle in (_WIDE, _NARROW):
            radius = angle * self._focal[b]
            line = np.clip(radius / self._height[b], 0.002, 0.5)  # on one side of the epipoles
            disc = np.clip(np.pi * radius**2 / (self._height[b] * self._width[b]), 0.002, 0.5)
            bands.append(np.where(known, disc[:, None], line[:, None]))
        likely = _AGREES / bands[0] + np.where(off < _NARROW, _AGREES / bands[1], 0.0)
        ratio = np.log(np.where(agrees, likely, 0.0) + 1.0 - 2.0 * _AGREES)
        compared = there.sum(axis=1).astype(np.float64)
        weight = np.minimum(1.0, INDEPENDENT / np.maximum(compared, 1.0))
        total = np.logaddexp(
            np.log(1.0 - _MISLED) + weight * (ratio * there).sum(axis=1), np.log(_MISLED)
        )
        total[compared == 0] = 0.0
        solid = np.where(self._planar[row] & (row >= 0), np.minimum(total, 0.0), total)
        return Evidence(total, total, solid, agrees.sum(axis=1).astype(np.float64), compared)

    def of_pair(
        self, cameras: Cameras, a: int, b: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Pixels (2, M, 2) of the matches of two views, a < b, and which (M,) of them agree with
        the cameras."""
        there, _, _, agrees = self._compare(cameras, np.array([[a, b]]))
        return self.uv[self._row[a, b]][:, there[0]], agrees[0][there[0]]

    def _compare(
        self, cameras: Cameras, pairs: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
        """Of P pairs and K matches, each (P, K): whether it is there and its depth is known, by
        how much it is off [px / focal length as given], and whether it agrees."""
        a, b = pairs.T
        row = self._row[a, b]
        uv = np.where((row >= 0)[:, None, None, None], self.uv[row], np.nan)
        depth = np.where((row >= 0)[:, None, None], self._depth[row], np.nan)
        depth = depth * cameras.depth_scale[pairs][:, :, None]
        there = np.isfinite(uv[:, 0, :, 0])
        b_from_a = np.linalg.inv(cameras.world_from_cam)[b] @ cameras.world_from_cam[a]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ray_a, ray_b = (rays(uv[:, k], cameras.K[v]) for k, v in enumerate((a, b)))
            on_line, ahead = _from_lines(ray_a, ray_b, b_from_a)
            by_a = _from_points(ray_a, ray_b, depth[:, 0], b_from_a)
            by_b = _from_points(ray_b, ray_a, depth[:, 1], np.linalg.inv(b_from_a))
            at_point = np.where(np.isfinite(by_a), by_a, by_b)
            known = np.isfinite(at_point)
            off = np.where(known, at_point, on_line)
            off *= (cameras.K[b, 1, 1] / self._focal[b])[:, None]
            agrees = there & (off < _WIDE) & (known | ahead)
        return there, known, off, agrees


_Features = tuple[NDArray[np.float64], NDArray[np.float32]]
"""Pixels (M, 2) and descriptors (M, 128)."""


def _matched(views: Sequence[View], pairs: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """(2, M, 2) pixels of the matches of each pair.

    A mirrored image matches none. So a view that nothing matches is looked at in a mirror as well:
    such matches contradict every pose of it, until the image is taken for a mirrored one.
    """
    features = {v: _features(views[v]) for v in sorted({int(v) for v in pairs.ravel()})}
    found = [_verified(features[a], features[b], max(views[a].size)) for a, b in pairs.tolist()]
    known = {v for pair, uv in zip(pairs.tolist(), found, strict=True) if uv.size for v in pair}
    # Of two that nothing matches one has to be as it is, for the other to be mirrored to it.
    for v in [v for v in features if v not in known][: max(len(features) - 1, 0)]:
        mirrored = _mirrored(views[v])
        for e, (a, b) in enumerate(pairs.tolist()):
            if v in (a, b) and not found[e].size:
                pair = {**features, v: mirrored}
                found[e] = _verified(pair[a], pair[b], max(views[a].size))
    return found


def _mirrored(view: View) -> _Features:
    """The features of the mirrored image, at the pixels of the image as it is."""
    uv, descriptors = _features(replace(view, image=np.ascontiguousarray(view.image[:, ::-1])))
    return np.column_stack([view.size[1] - 1 - uv[:, 0], uv[:, 1]]), descriptors


def _features(view: View) -> _Features:
    shrink = min(1.0, _SIZE / max(view.size))
    gray = np.asarray(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY), np.uint8)
    small = cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    uv, descriptors = root_sift(np.asarray(small, np.uint8), _FEATURES)
    return (uv + 0.5) / shrink - 0.5, descriptors


def _verified(a: _Features, b: _Features, size: int) -> NDArray[np.float64]:
    """(2, M, 2) pixels of the matches of two views that one epipolar geometry explains."""
    nothing = np.zeros((2, 0, 2))
    index_a, index_b = match(a[1], b[1], 0.8)
    if len(index_a) < _FEWEST:
        return nothing
    uv = np.stack([a[0][index_a], b[0][index_b]])
    off = max(1.0, 0.003 * size)
    cv2.setRNGSeed(0)
    _, good = cv2.findFundamentalMat(uv[0], uv[1], cv2.FM_RANSAC, off, 0.999, 2000)
    if good is None:
        return nothing
    uv = uv[:, good.ravel() > 0]
    if uv.shape[1] < max(_FEWEST, _MOST * len(index_a)):
        return nothing
    pick = np.random.default_rng(0).permutation(uv.shape[1])[:KEPT]
    return uv[:, pick]


def _on_one_plane(uv: NDArray[np.float64], depth: NDArray[np.float64], size: int) -> bool:
    """Whether matches (2, M, 2) are those of one plane, by themselves or by the depth (2, K) of
    either view: tiles match the next tiles as well."""
    if uv.shape[1] < 4:
        return False
    cv2.setRNGSeed(0)
    _, good = cv2.findHomography(uv[0], uv[1], cv2.RANSAC, 0.01 * size)
    shares = [0.0 if good is None else float(good.mean())]
    for pixels, z in zip(uv, depth[:, : uv.shape[1]], strict=True):
        known = np.isfinite(z)
        if known.any():
            shares.append(float(on_largest_plane(pixels[known].T, z[known]).mean()))
    return max(shares) > 0.8


def _depth_at(depth: NDArray[np.float32] | None, uv: NDArray) -> NDArray[np.float64] | float:
    """(M,) metres at pixels (M, 2); NaN where there is none."""
    if depth is None or len(uv) == 0:
        return np.nan
    cols, rows = np.clip(np.rint(uv).astype(np.int64), 0, np.array(depth.shape[::-1]) - 1).T
    found = depth[rows, cols].astype(np.float64)
    return np.where(found > 0, found, np.nan)


def rays(uv: NDArray, K: NDArray) -> NDArray[np.float64]:
    """(P, M, 3) points at depth 1 of pixels (P, M, 2) by intrinsics (P, 3, 3)."""
    homogeneous = np.concatenate([uv, np.ones_like(uv[..., :1])], axis=2)
    return homogeneous @ np.swapaxes(np.linalg.inv(K), 1, 2)


def _from_points(
    ray_a: NDArray, ray_b: NDArray, depth_a: NDArray, b_from_a: NDArray
) -> NDArray[np.float64]:
    """(P, M) angles [rad] between rays of b and the points that a measured; NaN without depth."""
    point = (ray_a * depth_a[..., None]) @ np.swapaxes(b_from_a[:, :3, :3], 1, 2)
    point = point + b_from_a[:, None, :3, 3]
    sine = np.linalg.norm(np.cross(point, ray_b), axis=2)
    return np.arctan2(sine, (point * ray_b).sum(axis=2))


def _from_lines(
    ray_a: NDArray, ray_b: NDArray, b_from_a: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(P, M) angles [rad] between matches and their epipolar planes, and whether their rays meet
    before both cameras."""
    ray_a = ray_a @ np.swapaxes(b_from_a[:, :3, :3], 1, 2)
    baseline = np.broadcast_to(b_from_a[:, None, :3, 3], ray_a.shape)
    normal = np.cross(baseline, ray_a)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    sine = np.abs((normal * ray_b).sum(axis=2)) / np.linalg.norm(ray_b, axis=2)
    # along_b ray_b = along_a ray_a + baseline, in the least squares
    aa, bb, ab = (ray_a**2).sum(2), (ray_b**2).sum(2), (ray_a * ray_b).sum(2)
    at, bt = (ray_a * baseline).sum(2), (ray_b * baseline).sum(2)
    determinant = aa * bb - ab**2
    along_a, along_b = (ab * bt - bb * at) / determinant, (aa * bt - ab * at) / determinant
    return np.arcsin(np.minimum(sine, 1.0)), (along_a > 0) & (along_b > 0)
