"""Whether the pairs of a view triangulate it alike, and whose pose is wrong where they do not.

An error of a pose along the baseline, or of the rotation of the cameras towards each other, leaves
all matches on their epipolar lines and shows in no pair alone: it scales the pair's depths. But
another pair sees the same pixels. So matches of pairs that share a view are triangulated anew with
one camera moved at a time. If that camera is wrong, all pairs can agree; if another one is, they
cannot, unless there are too few pairs to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.least_squares import Linearised, gauss_newton
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pointmaps.refined_poses import Camera, moved, triangulated_depth

_NOISE = 0.01
"""Standard deviation of a comparison: the relative error of depth that its pixels share."""

_UNEXPLAINED = 0.1
"""Share of the disagreement that remains after the wrong camera was moved: up to 0.03 in
constructed rigs, and 0.1 or more after another one was."""

_WRONG = 1.45
"""Deviations by which the pairs have to move a camera, beyond which its pose is called wrong: 1.6
to 1.8 for one that is two deviations off, up to 1.4 where all are off by half of a deviation."""

_ALL_WRONG = 1.0
"""The same in the mean square over all cameras, where no single one explains it: 0.2 to 0.75 where
all are off by half of a deviation."""


def check_agreement(
    views: Sequence[View],
    predictions: Sequence[PairPrediction],
    refined: NDArray[np.float64],
    sigma: NDArray[np.float64],
    limit: float,
    progress: Progress,
) -> None:
    """Warns of pairs that measure the same pixels differently, and refuses what is beyond use.

    Args:
        predictions: each view's map in its own frame.
        refined: (N, 4, 4) poses that these were made with.
        sigma: (N, 2) standard deviations of the views' given poses, metres and rad.
        limit: share of the depth that pairs may differ by; 0 = never refused.

    Raises:
        InputError: they differ by more, and by more than the deviations explain (BAD_CALIBRATION).
    """
    used, given = (
        [Camera(np.asarray(v.K), np.asarray(pose)) for v, pose in zip(views, poses, strict=True)]
        for poses in (refined, [v.world_from_cam_prior for v in views])
    )
    found = find_disagreement(compare_pairs(predictions, used), given, sigma)
    if found is None:
        return
    text = describe(found, [view.name for view in views])
    if 0 < limit < found.share:
        raise InputError(
            f"{text}. Beyond pointmaps.stereo.max_disagreement = {limit:g} no scene is built; "
            "0 = always build",
            ErrorCode.BAD_CALIBRATION,
        )
    progress.warn(text)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pixels of one view that two pairs have triangulated.

    Attributes:
        view: index; others: the second view of either pair.
        uv: (M, 2) pixels in the view; uv_others: (M, 2) the matches in either second view.
        depth: median depth of both [m].
        difference: median over the pixels of the log ratio of the depths.
    """

    view: int
    others: tuple[int, int]
    uv: NDArray[np.float64]
    uv_others: tuple[NDArray[np.float64], NDArray[np.float64]]
    depth: float
    difference: float


@dataclass(frozen=True, eq=False)
class Disagreement:
    """Pairs that differ by more than the given poses' deviations and matching explain.

    Attributes:
        worst: the comparison that differs most.
        suspects: views whose pose alone can explain it, the likeliest first; may be none.
        deviations: by which the likeliest of them has to be moved; without suspects, all together,
            per camera in the mean square.
    """

    worst: Comparison
    suspects: tuple[int, ...]
    deviations: float

    @property
    def share(self) -> float:
        """By how much the worst comparison's depths differ, in depths."""
        return float(np.expm1(abs(self.worst.difference)))


def compare_pairs(
    predictions: Sequence[PairPrediction], cameras: Sequence[Camera]
) -> list[Comparison]:
    """All comparisons of two pairs with a view in common that measure 100 pixels or more of it
    both; 64 of these are kept. The predictions are as of :func:`check_agreement`, the cameras
    those that they were made with."""
    out = []
    for view in range(len(cameras)):
        maps: dict[int, tuple[NDArray, NDArray]] = {}
        for p in predictions:
            if view == p.a:
                maps[p.b] = p.pointmap_a, p.confidence_a
            elif view == p.b:
                maps[p.a] = p.pointmap_b, p.confidence_b
        for one, two in combinations(sorted(maps), 2):
            rows, cols = np.nonzero(np.minimum(maps[one][1], maps[two][1]) > 0)
            # Fewer pixels with a depth by both pairs make no comparison.
            if len(rows) < 100:
                continue
            points = [maps[other][0][rows, cols].astype(np.float64) for other in (one, two)]
            ratio = np.log(points[0][:, 2] / points[1][:, 2])
            middle = float(np.median(ratio))
            # The half that differs as the median does: the other one has outliers.
            near = np.argsort(np.abs(ratio - middle))[: len(ratio) // 2]
            # 64 stand for all: pixels of a comparison share their error.
            chosen = np.sort(near)[np.linspace(0, len(near) - 1, 64).astype(int)]
            matches = (
                _seen_from(cameras[view], cameras[one], points[0][chosen]),
                _seen_from(cameras[view], cameras[two], points[1][chosen]),
            )
            depth = float(np.median(np.concatenate(points)[:, 2]))
            uv = np.stack([cols, rows], 1)[chosen].astype(np.float64)
            out.append(Comparison(view, (one, two), uv, matches, depth, middle))
    return out


def _seen_from(camera: Camera, other: Camera, points: NDArray) -> NDArray[np.float64]:
    """(M, 2) pixels of another camera that show points (M, 3) of a camera's frame."""
    other_from_camera = invert(other.world_from_cam) @ camera.world_from_cam
    return project(apply(other_from_camera, points), other.K)[0]


def find_disagreement(
    comparisons: Sequence[Comparison], cameras: Sequence[Camera], sigma: NDArray[np.float64]
) -> Disagreement | None:
    """What the deviations of the poses do not explain, and who can have caused it.

    Args:
        cameras: as they are given, not as they were refined: features move a right camera with a
            wrong one.
        sigma: (N, 2) standard deviations of their poses, metres and rad.
    """
    before = _size(np.array([c.difference for c in comparisons] or [0.0]))
    # Within two standard deviations all agree.
    if before < 2.0 * _NOISE:
        return None
    worst = max(comparisons, key=lambda c: abs(c.difference))
    involved = sorted({v for c in comparisons for v in (c.view, *c.others)})
    needed: dict[int, float] = {}
    for v in involved:
        left, deviations = _explain(comparisons, cameras, sigma, [v])
        if left < max(_UNEXPLAINED * before, _NOISE):
            needed[v] = deviations
    if needed:
        smallest = min(needed.values())
        order = sorted(needed, key=lambda v: needed[v])
        # Another camera that would have to move three times as far is not named.
        suspects = tuple(v for v in order if needed[v] <= 3.0 * smallest)
        return Disagreement(worst, suspects, smallest) if smallest > _WRONG else None
    _, deviations = _explain(comparisons, cameras, sigma, involved)
    deviations /= np.sqrt(len(involved))
    return Disagreement(worst, (), deviations) if deviations > _ALL_WRONG else None


def _explain(
    comparisons: Sequence[Comparison],
    cameras: Sequence[Camera],
    sigma: NDArray[np.float64],
    free: Sequence[int],
) -> tuple[float, float]:
    """Moves some cameras as little as possible until the pairs agree: what these then differ by,
    root mean square of log ratios, and by how many deviations the cameras were moved in all."""
    unit = np.repeat(sigma[list(free)][:, ::-1], 3, axis=1).reshape(-1)

    def differences(step: NDArray) -> NDArray[np.float64]:
        changed = list(cameras)
        for v, part in zip(free, (step * unit).reshape(-1, 6), strict=True):
            changed[v] = Camera(cameras[v].K, moved(cameras[v].world_from_cam, part))
        return np.concatenate([_log_ratio(c, changed) for c in comparisons])

    def linearise(step: NDArray) -> Linearised:
        now, small = differences(step), 1e-5
        slope = np.stack(
            [(differences(step + small * e) - now) / small for e in np.eye(len(step))], 1
        )
        # The pixels of a comparison share their error, so that all of them count as one.
        variance = _NOISE**2 * len(comparisons[0].uv)
        return slope.T @ slope / variance + np.eye(len(step)), slope.T @ now / variance + step

    start = np.zeros(len(unit))
    step = gauss_newton(start, linearise, np.add, passes=6, tolerance=1e-3).state
    left = differences(step).reshape(len(comparisons), -1)
    return _size(np.median(left, axis=1)), float(np.linalg.norm(step))


def _log_ratio(comparison: Comparison, cameras: Sequence[Camera]) -> NDArray[np.float64]:
    """(M,) log ratio of the depths by either pair."""
    one, two = (
        triangulated_depth(comparison.uv, uv, cameras[comparison.view], cameras[v])
        for v, uv in zip(comparison.others, comparison.uv_others, strict=True)
    )
    return np.log(np.maximum(one, 1e-6)) - np.log(np.maximum(two, 1e-6))


def _size(differences: NDArray) -> float:
    return float(np.sqrt(np.mean(differences**2)))


def describe(found: Disagreement, names: Sequence[str]) -> str:
    """The warning: figures, pairs, and whose pose to check."""
    worst = found.worst
    one, two = (f"'{names[worst.view]}' - '{names[other]}'" for other in worst.others)
    text = (
        f"pairs of cameras triangulate the same pixels differently: {one} and {two} put them "
        f"{found.share:.0%} of their depth apart ({found.share * worst.depth:.3g} m)"
    )
    named = [f"'{names[v]}'" for v in found.suspects]
    if len(named) == 1:
        text += (
            f". The pose of camera {named[0]} is wrong, by some {found.deviations:.1f} of its "
            "standard deviations: with it moved the pairs agree, and with no other"
        )
    elif named:
        text += (
            f". One of the poses of {', '.join(named)} is wrong, by some {found.deviations:.1f} "
            "standard deviations or more; the pairs do not tell which"
        )
    else:
        text += (
            ", and no single camera explains it: the poses are off by some "
            f"{found.deviations:.1f} standard deviations each, or the matches are wrong"
        )
    return text + (
        ". Lengths and places in the scene cannot be relied on: check TF, calibration and the "
        "range of depth, or leave the camera out"
    )
