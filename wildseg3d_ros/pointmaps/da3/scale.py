"""The one scale that brings the network's depth of all views to the metres of given poses.

Features that the given poses allow to match are triangulated with them, and compared with the
network's depth at their pixels. Where a scene has too few, the network's own cameras are compared
with the given ones: the baselines of all pairs, as vectors in a camera's frame, so that two views
suffice and a wrong direction is noticed. Either way a typical difference that is too large says
that no scale brings the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pointmaps.features import root_sift
from wildseg3d_ros.pointmaps.learned_matches import LearnedMatcher
from wildseg3d_ros.pointmaps.refined_poses import (
    MATCH_SIGMA,
    MIN_FEATURES,
    RefinedPoses,
    poses_by_features,
)

Pair = tuple[int, int]

_MIN_OF_VIEW = 10
"""Triangulated points that a camera is judged by."""


@dataclass(frozen=True, eq=False)
class Anchored:
    """Views with poses, and what is known of their depth.

    Attributes:
        views: the views; all have poses. Others may be left out.
        K: per view (3, 3) intrinsics.
        depths: per view (H, W), the network's, in a unit of its own, 0 = none.
        found: (N, 4, 4) the network's poses, in the same unit and any world.
        sigma: (N, 2) standard deviations of the given poses, metres and rad.
        matcher: asked for pairs in which SIFT matches too little for a median.
    """

    views: Sequence[View]
    K: Sequence[NDArray[np.float64]]
    depths: Sequence[NDArray[np.float32]]
    found: NDArray[np.float64]
    sigma: NDArray[np.float64]
    matcher: LearnedMatcher | None = None

    @property
    def given(self) -> NDArray[np.float64]:
        """(N, 4, 4) ``world_from_cam``, metres."""
        return np.stack([np.asarray(view.world_from_cam_prior) for view in self.views])


@dataclass(frozen=True, eq=False)
class Scale:
    """What brings the network's lengths to metres.

    Attributes:
        factor: metres per unit of the network.
        deviation: robust standard deviation of a depth from the poses, over the depth; 0 where no
            depth was compared.
        compared: triangulated points that were compared with depth; 0 where the cameras were.
        poses: the given poses, refined by the matches.
    """

    factor: float
    deviation: float
    compared: int
    poses: RefinedPoses


def find_scale(problem: Anchored, max_disagreement: float) -> Scale:
    """The scale of views with poses.

    Args:
        max_disagreement: largest typical difference at the best scale, over the length compared.

    Raises:
        InputError: no scale brings them together, or nothing tells it (BAD_CALIBRATION).
    """
    poses = _refined(problem)
    log_ratio, weight, view = _ratios(problem, poses)
    if len(log_ratio) < MIN_FEATURES:
        return Scale(_from_cameras(problem, max_disagreement, len(log_ratio)), 0.0, 0, poses)
    middle = _weighted_median(log_ratio, weight)
    off = np.abs(log_ratio - middle)
    # One camera may be wrong among many that agree: each is judged by its own points, and by all
    # where it has few.
    own = [np.flatnonzero(view == k) for k in range(len(problem.views))]
    judged = [which for which in own if len(which) >= _MIN_OF_VIEW] or [np.arange(len(off))]
    worst = max(_weighted_median(off[which], weight[which]) for which in judged)
    if worst > np.log1p(max_disagreement):
        each = [
            f"'{v.name}' {np.exp(_weighted_median(log_ratio[which], weight[which])):.3g}"
            for v, which in zip(problem.views, own, strict=True)
            if len(which)
        ]
        raise InputError(
            "the given poses and the network's depth do not fit together at any scale: of the "
            f"{len(log_ratio)} triangulated points half of one camera's differ by more than "
            f"{100 * np.expm1(worst):.0f} % of their depth at the best one, at most "
            f"{100 * max_disagreement:.0f} % are allowed (pointmaps.da3.max_disagreement). Scale "
            f"by camera: {', '.join(each)}. A camera that stands out has a wrong pose or wrong "
            "intrinsics, or sees what the network misjudges; if all differ, check the poses' unit "
            "and direction, or leave the poses out",
            ErrorCode.BAD_CALIBRATION,
        )
    # 1.4826: of a normal distribution's median deviation.
    deviation = 1.4826 * _weighted_median(off, weight)
    return Scale(float(np.exp(middle)), deviation, len(log_ratio), poses)


def _refined(problem: Anchored) -> RefinedPoses:
    """The given poses, refined by what the views' features say, and triangulated features."""
    gray = [
        np.asarray(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY), np.uint8)
        for view in problem.views
    ]
    features = {k: root_sift(image, 2000) for k, image in enumerate(gray)}
    matcher = problem.matcher
    return poses_by_features(
        problem.K,
        problem.given,
        problem.sigma,
        features,
        combinations(range(len(gray)), 2),
        lambda a, b: None if matcher is None else matcher.match(gray[a], gray[b]),
    )


def _ratios(
    problem: Anchored, poses: RefinedPoses
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Logarithm of triangulated over network's depth, its weight, and the view, (M,) each."""
    ratios, weights, views = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, np.int64)]
    for pair, points in poses.points.items():
        rays = [points - poses.world_from_cam[v][:3, 3] for v in pair]
        sine = np.linalg.norm(np.cross(*rays), axis=1)
        sine /= np.maximum(
            np.linalg.norm(rays[0], axis=1) * np.linalg.norm(rays[1], axis=1), 1e-12
        )
        for v in pair:
            uv, z = project(apply(invert(poses.world_from_cam[v]), points), problem.K[v])
            depth = _at(problem.depths[v], uv)
            # Deviation of a triangulated depth, over the depth.
            sigma = MATCH_SIGMA / problem.K[v][0, 0] / np.maximum(sine, 1e-9)
            good = (depth > 0) & (z > 0) & (sigma < 0.1)
            ratios.append(np.log(z[good] / depth[good]))
            # 1 % is what the network's depth differs by anyhow.
            weights.append(1.0 / (sigma[good] ** 2 + 1e-4))
            views.append(np.full(int(good.sum()), v))
    return np.concatenate(ratios), np.concatenate(weights), np.concatenate(views)


def _at(depth: NDArray[np.float32], uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) values at the nearest pixels; 0 outside."""
    height, width = depth.shape
    u, v = np.rint(np.nan_to_num(uv, nan=-1.0)).T
    inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
    out = np.zeros(len(uv))
    out[inside] = depth[v[inside].astype(int), u[inside].astype(int)]
    return out


def _from_cameras(problem: Anchored, max_disagreement: float, compared: int) -> float:
    """Metres per unit of the network by the baselines of all pairs, in the cameras' frames."""
    given, found = problem.given, problem.found
    pairs = [(a, b) for a in range(len(given)) for b in range(len(given)) if a != b]
    metres, units = (
        np.array([(invert(poses[a]) @ poses[b])[:3, 3] for a, b in pairs])
        for poses in (given, found)
    )
    few = f"only {compared} features of the images could be triangulated with the given poses"
    length = np.linalg.norm(metres, axis=1)
    if not length.max() > 0:
        raise InputError(
            "the given poses put all cameras at one place, which tells no scale; give the poses "
            "of cameras that stand apart, or none",
            ErrorCode.BAD_CALIBRATION,
        )
    factor = float((metres * units).sum() / max((units**2).sum(), 1e-30))
    off = np.linalg.norm(metres - factor * units, axis=1) / np.maximum(length, 1e-12)
    typical = float(np.median(off[length > 0]))
    if factor <= 0 or typical > max_disagreement:
        raise InputError(
            f"nothing tells the scale of the scene: {few}, and the network's own cameras differ "
            f"from the given ones by {100 * typical:.0f} % of their distances, at most "
            f"{100 * max_disagreement:.0f} % are allowed (pointmaps.da3.max_disagreement). Give "
            "the scene texture, move the cameras closer together, check the poses, or leave them "
            "out",
            ErrorCode.BAD_CALIBRATION,
        )
    return factor


def _weighted_median(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


def relative_poses(
    count: int, scale: Scale | None, posed: Mapping[int, int], found: NDArray[np.float64]
) -> dict[Pair, NDArray[np.float64]]:
    """``a_from_b`` of all pairs of N views: of given poses where both have one, else of the
    network's, in metres where there is a scale.

    Args:
        posed: place among the views with poses, by view. found: (N, 4, 4) the network's poses.
    """
    out = {}
    for a in range(count):
        for b in range(count):
            if scale is not None and a in posed and b in posed:
                poses = scale.poses.world_from_cam
                out[a, b] = invert(poses[posed[a]]) @ poses[posed[b]]
            else:
                out[a, b] = invert(found[a]) @ found[b]
                out[a, b][:3, 3] *= 1.0 if scale is None else scale.factor
    return out
