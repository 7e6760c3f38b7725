"""How surely the pairs know the cameras, by what they themselves show, and who does not fit in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed
from wildseg3d_ros.alignment.priors.gauge import camera_errors, fit_rig
from wildseg3d_ros.core.geometry.transforms import rotation_angle

_LEAST = 0.01
"""Least deviation per axis [viewing distances or rad] that pairs are taken to have: few of them
may agree by chance."""

_UNKNOWN = 0.02
"""The same where no pair is checked by another."""

OUTLIER = 3.0
"""Deviations beyond which a given pose contradicts the pairs. The deviation is that of one pair,
while a camera is known by all of its pairs."""

_DOUBTFUL = 1.6
"""Deviations beyond which it is trusted no more than it agrees."""

_CHI = 1.54
"""Median length of a vector of three unit deviations."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Deviations per axis of a camera by one pair, and by how many pairs it is from another.

    Attributes:
        position: in viewing distances; rotation: rad.
        hops: (N, N) pairs on the shortest way between two views.
    """

    position: float
    rotation: float
    hops: NDArray[np.float64]


def spread_of(
    edges: NDArray[np.int64],
    seen: Sequence[Observed],
    cameras: Sequence[NDArray | None],
    reach: NDArray[np.float64],
) -> Spread:
    """From where the pairs of a view put its camera, pooled over the views.

    Pairs that were fitted to each other agree better than they are right, the more so the fewer
    there are beyond a tree.

    Args:
        edges: (E, 2) the pairs of the solution; seen, cameras: what they say; reach: (N,)
            viewing distances.
    """
    position, rotation = [], []
    for s, camera, far in zip(seen, cameras, reach, strict=True):
        count = len(s.own_poses)
        if camera is None or count < 2:
            continue
        away = s.own_poses[:, :3, 3] - camera[:3, 3]
        angle = np.array([rotation_angle(p[:3, :3] @ camera[:3, :3].T) for p in s.own_poses])
        position.append(float((away**2).sum()) / (3.0 * (count - 1) * far**2))
        rotation.append(float((angle**2).sum()) / (3.0 * (count - 1)))
    hops = _hops(edges, len(seen))
    pairs, tree = len(edges), len(seen) - 1
    if not position or pairs <= tree:
        return Spread(_UNKNOWN, _UNKNOWN, hops)
    grow = pairs / (pairs - tree)
    return Spread(
        max(float(np.sqrt(grow * np.median(position))), _LEAST),
        max(float(np.sqrt(grow * np.median(rotation))), _LEAST),
        hops,
    )


def _hops(edges: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(count, count) pairs on the shortest way between two views; inf where there is none."""
    near = np.zeros((count, count), dtype=bool)
    near[edges[:, 0], edges[:, 1]] = near[edges[:, 1], edges[:, 0]] = True
    hops, reached = np.full((count, count), np.inf), np.eye(count, dtype=bool)
    hops[reached] = 0.0
    for step in range(1, count):
        reached = reached @ near
        hops[reached & np.isinf(hops)] = step
    return hops


@dataclass(frozen=True, eq=False)
class Judged:
    """What the others say about given poses.

    Attributes:
        wrong: (K,) bool, to be left out.
        doubt: (K, 2) deviations [m, rad] to be added to those that were given: a pose that stands
            out a little is believed little, so that it need not be called wrong.
        typical: deviation of those that are not wrong, in deviations that are known of: about 1.
    """

    wrong: NDArray[np.bool_]
    doubt: NDArray[np.float64]
    typical: float


def judge_poses(
    priors: NDArray[np.float64],
    solved: NDArray[np.float64],
    reach: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    spread: Spread,
    placed: tuple[float, NDArray[np.float64]],
    known_scale: bool,
) -> Judged:
    """Which given poses lie too far from where the others put their cameras.

    Each is compared with the world registered to the *others*, so that none vouches for itself.
    The worst is left out and the rest compared anew, until all fit; where many do not, the
    deviations are too small, and only those are left out that stand out from the others. Of two
    that contradict each other neither is kept.

    Args:
        priors: (K, 4, 4) metres; solved: (K, 4, 4); reach: (K,) viewing distances, solved units.
        sigmas: (K, 2) deviations of the priors [m, rad]; spread: of these K cameras.
        placed: metres per solved unit, and (4, 4) what moves the world after that, by a robust
            registration: where to start.
    """
    count, everybody = len(priors), np.arange(len(priors))

    def compare(
        v: int, others: NDArray, size: float, pose: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Errors [m, rad] of a prior, and in deviations."""
        error = np.ravel(camera_errors(priors[[v]], solved[[v]], size, pose))
        expected = np.array([spread.position * reach[v] * size, spread.rotation])
        # Two others hardly fix a frame.
        few = 1.0 + 1.0 / max(np.count_nonzero(others) - 1, 1) ** 2
        expected *= np.sqrt(few * np.mean(spread.hops[v, others]))
        return error, error / np.hypot(expected, sigmas[v])

    def typical(among: NDArray) -> float:
        return float(np.median(chi.max(1)[among])) / _CHI

    if count < 2:
        return Judged(np.zeros(count, dtype=bool), np.zeros((count, 2)), 1.0)
    parts = [compare(v, everybody != v, *placed) for v in range(count)]
    error, chi = (np.array(part) for part in zip(*parts, strict=True))
    if count == 2:
        return Judged(np.full(2, bool((chi > OUTLIER).any())), np.zeros((2, 2)), 1.0)
    wrong = chi.max(1) > OUTLIER * max(typical(everybody), 1.0)
    while np.count_nonzero(~wrong) > 2:
        for v in range(count):
            others = ~wrong & (everybody != v)
            found = fit_rig(priors, solved, reach, others.astype(float), placed[0], known_scale)
            error[v], chi[v] = compare(v, others, *found)
        out = chi.max(1) > OUTLIER * max(typical(~wrong), 1.0)
        if not out[~wrong].any():
            wrong = out
            break
        wrong[np.argmax(np.where(wrong, 0.0, chi.max(1)))] = True
    doubt = np.where(chi > _DOUBTFUL, error / np.sqrt(3.0), 0.0)
    return Judged(wrong, doubt, typical(~wrong) if not wrong.all() else 1.0)
