"""Given camera poses beside the cameras that the pairs alone make: which contradict them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from wildseg3d_ros.alignment.cameras.resection import Observed
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.priors.gauge import Gauge, PosedCameras, prior_sigmas, register
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import View

_MIN_SIGMA = 0.01
"""Pairs are taken to deviate by at least this [viewing distances or rad] per axis: a few of them
may agree by chance."""

OUTLIER = 3.0
"""Deviations beyond which a given pose contradicts the pairs. The deviation is that of one pair,
while a camera is known by all of its pairs."""


@dataclass(frozen=True, eq=False)
class PairCameras:
    """What the pairs alone say about the cameras.

    Attributes:
        poses: N of (4, 4), graph units; None for a camera without a pair in its own frame.
        distance: (N,) viewing distances, graph units.
        sigmas: deviations per axis of a camera by one pair [viewing distances, rad].
        hops: (N, N) pairs on the shortest way between two views.
    """

    poses: Sequence[NDArray[np.float64] | None]
    distance: NDArray[np.float64]
    sigmas: tuple[float, float]
    hops: NDArray[np.float64]

    @classmethod
    def of(cls, edges: NDArray[np.int64], seen: Sequence[Observed]) -> PairCameras:
        """By (E, 2) pairs, and what they say about each view."""
        poses = [s.mean_pose() for s in seen]
        distance = np.array([s.viewing_distance(c) for s, c in zip(seen, poses, strict=True)])
        sigmas = _pair_sigmas(len(edges), seen, poses, distance)
        return cls(poses, distance, sigmas, _hops(edges, len(seen)))


def _pair_sigmas(
    pairs: int,
    seen: Sequence[Observed],
    cameras: Sequence[NDArray | None],
    distance: NDArray[np.float64],
) -> tuple[float, float]:
    """From where the pairs of a view put its camera, pooled over the views.

    Pairs that were fitted to each other agree better than they are right, the more so the fewer
    there are beyond a tree.
    """
    variances = []
    for s, camera, depth in zip(seen, cameras, distance, strict=True):
        count = len(s.own_poses)
        if camera is None or count < 2:
            continue
        apart = s.own_poses[:, :3, 3] - camera[:3, 3]
        angle = np.array([rotation_angle(p[:3, :3] @ camera[:3, :3].T) for p in s.own_poses])
        squares = np.array([(apart**2).sum() / depth**2, (angle**2).sum()])
        variances.append(squares / (3.0 * (count - 1)))
    tree = len(seen) - 1
    if not variances or pairs <= tree:  # no pair is checked by another
        return 2.0 * _MIN_SIGMA, 2.0 * _MIN_SIGMA
    found = np.sqrt(pairs / (pairs - tree) * np.median(variances, axis=0))
    position, rotation = np.maximum(found, _MIN_SIGMA).tolist()
    return position, rotation


def _hops(edges: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(count, count) pairs on the shortest way between two views; inf where there is none."""
    graph = coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count)).tocsr()
    return shortest_path(graph, directed=False, unweighted=True)


@dataclass(frozen=True, eq=False)
class GivenPoses:
    """Given poses beside the world that the pairs make alone.

    Attributes:
        known: those that stand the comparison, as rows of :func:`pose_rows`.
        metric_scale: graph units per metre; None where unknown.
        error, share: (N,) by which they differ, in metres at the scene and in viewing distances,
            NaN where unknown.
        rejected: whether a pose is left out, by view, where it might have entered the solve.
        warnings: that many poses are ambiguous.
    """

    known: list[tuple[int, int, NDArray, float, float]]
    metric_scale: float | None
    error: NDArray[np.float64]
    share: NDArray[np.float64]
    rejected: Mapping[int, bool]
    warnings: tuple[str, ...] = ()


def compare_poses(
    views: Sequence[View],
    cameras: PairCameras,
    metric_scale: float | None,
    config: AlignmentConfig,
) -> GivenPoses:
    """Registers the world to the given poses, and judges those that may constrain it.

    Args:
        metric_scale: graph units per metre, None where only the given poses can tell.
    """
    error, share = np.full((2, len(views)), np.nan)
    nothing = GivenPoses([], metric_scale, error, share, {})
    there = [v for v, camera in enumerate(cameras.poses) if camera is not None]
    if not there:
        return nothing
    solved = np.stack([np.asarray(cameras.poses[v]) for v in there])
    solved[:, :3, 3] /= metric_scale or 1.0
    distance = cameras.distance[there] / (metric_scale or 1.0)
    known_scale = metric_scale is not None
    found = register([views[v] for v in there], solved, distance, known_scale, config)
    if not found.found:
        return nothing
    error[there], share[there] = found.error, found.share
    metric_scale = metric_scale or 1.0 / found.scale
    said = np.array([prior_sigmas(views[v], config) for v in there])
    is_given = np.array([views[v].world_from_cam_prior is not None for v in there])
    is_given &= (said > 0).all(1)
    if not is_given.any():
        return replace(nothing, metric_scale=metric_scale)
    ids, said = np.array(there)[is_given], said[is_given]
    priors = [np.asarray(views[v].world_from_cam_prior) for v in ids]
    wrong, inflation, typical = judge_poses(
        PosedCameras(np.stack(priors), solved[is_given], distance[is_given]),
        said,
        replace(cameras, hops=cameras.hops[np.ix_(ids, ids)]),
        Gauge(found.scale, found.prior_from_world),
        known_scale,
    )
    known = [
        (0, int(ids[k]), priors[k], *np.hypot(said[k], inflation[k]).tolist())
        for k in np.flatnonzero(~wrong)
    ]
    warnings = ()
    # Right deviations make 1; few poses may be beyond by chance.
    if len(known) > 3 and typical > 1.3:
        ambiguous = ids[~wrong & inflation.any(1)]
        names = ", ".join(f"'{views[v].name}'" for v in ambiguous)
        text = (
            f"the given poses of {names} differ from what the images say by more than their "
            "deviations, and are trusted less: check TF and calibration, or give larger ones"
        )
        warnings = (text,)
    rejected = dict(zip(ids.tolist(), wrong.tolist(), strict=True))
    return GivenPoses(known, metric_scale, error, share, rejected, warnings)


def judge_poses(
    cameras: PosedCameras,
    said: NDArray[np.float64],
    pairs: PairCameras,
    start: Gauge,
    known_scale: bool,
) -> tuple[NDArray[np.bool_], NDArray[np.float64], float]:
    """Which given poses lie too far from where the others put their cameras.

    Each is compared with the world registered to the *others*, so that none vouches for itself.
    The worst is left out and the rest compared anew, until all fit; where many do not, the
    deviations are too small, and only those are left out that stand out from the others. Of two
    that contradict each other neither is kept.

    Args:
        said: (K, 2) deviations of the priors [m, rad]; pairs: with the hops between these K.
        start: of the world, by a robust registration.

    Returns:
        (K,) bool, to be left out; (K, 2) deviations [m, rad] to be added to those that were given:
        a pose that stands out a little is believed little, so that it need not be called wrong;
        and the deviation of those that are not wrong, in deviations that are known of: about 1.
    """
    count, everybody = len(cameras.priors), np.arange(len(cameras.priors))

    def compare(v: int, others: NDArray, gauge: Gauge) -> tuple[NDArray, NDArray]:
        """Errors [m, rad] of a prior, and in deviations."""
        error = np.ravel(cameras.select(np.array([v])).errors(gauge))
        expected = np.array(pairs.sigmas) * (cameras.distance[v] * gauge.scale, 1.0)
        # Two others hardly fix a frame.
        few = 1.0 + 1.0 / max(np.count_nonzero(others) - 1, 1) ** 2
        expected *= np.sqrt(few * np.mean(pairs.hops[v, others]))
        return error, error / np.hypot(expected, said[v])

    def typical(among: NDArray) -> float:
        # The median length of a vector of three unit deviations.
        return float(np.median(chi.max(1)[among])) / 1.54

    if count < 2:
        return np.zeros(count, dtype=bool), np.zeros((count, 2)), 1.0
    parts = [compare(v, everybody != v, start) for v in range(count)]
    error, chi = (np.array(part) for part in zip(*parts, strict=True))
    if count == 2:
        return np.full(2, bool((chi > OUTLIER).any())), np.zeros((2, 2)), 1.0
    wrong = chi.max(1) > OUTLIER * max(typical(everybody), 1.0)
    while np.count_nonzero(~wrong) > 2:
        for v in range(count):
            others = ~wrong & (everybody != v)
            gauge = cameras.fit(others.astype(float), start.scale, known_scale)
            error[v], chi[v] = compare(v, others, gauge)
        out = chi.max(1) > OUTLIER * max(typical(~wrong), 1.0)
        if not out[~wrong].any():
            wrong = out
            break
        wrong[np.argmax(np.where(wrong, 0.0, chi.max(1)))] = True
    # A pose beyond 1.6 deviations is trusted no more than it agrees.
    inflation = np.where(chi > 1.6, error / np.sqrt(3.0), 0.0)
    return wrong, inflation, typical(~wrong) if not wrong.all() else 1.0


def pairs_against_poses(
    views: Sequence[View], graph: Graph, seen: Sequence[Observed], config: AlignmentConfig
) -> NDArray[np.bool_]:
    """(E,) bool, measured pairs that given poses decide against.

    Where a view's solved pose contradicts its prior, its pairs are asked one by one where they put
    it. When at least half of them put it where the prior says, the others are wrong: pairs that
    contradict each other are a tie, and the prior decides it.

    Args:
        graph: all pairs, metric; seen: what the used pairs say about each view, graph units.
    """
    out = np.zeros(len(graph.edges), dtype=bool)
    cameras = [s.mean_pose() for s in seen]
    if any(camera is None for camera in cameras):
        return out
    metric_scale = float(1.0 / graph.unit[0])
    distance = np.array([s.viewing_distance(c) for s, c in zip(seen, cameras, strict=True)])
    distance /= metric_scale
    solved = np.stack([np.asarray(c) for c in cameras])
    solved[:, :3, 3] /= metric_scale
    found = register(views, solved, distance, known_scale=True, config=config)
    for v in np.flatnonzero(found.wrong).tolist():
        given = invert(found.prior_from_world) @ np.asarray(views[v].world_from_cam_prior)
        mine, agrees = [], []
        for e in np.flatnonzero((graph.edges == v).any(1)):
            side = int(graph.edges[e, 1] == v)
            own, other = graph.observation[e, [side, 1 - side]]
            u = graph.edges[e, 1 - side]
            if found.wrong[u] or not (graph.own_frame[own] and graph.own_frame[other]):
                continue
            put = solved[u] @ invert(graph.pair_from_map[other]) @ graph.pair_from_map[own]
            error = np.linalg.norm(put[:3, 3] - given[:3, 3])
            error += rotation_angle(put[:3, :3] @ given[:3, :3].T) * distance[v]
            mine.append(e)
            # A pair agrees where it is less than 5 % of the viewing distance off at the scene.
            agrees.append(error < 0.05 * distance[v])
        if mine and 2 * sum(agrees) >= len(mine):
            out[[e for e, agree in zip(mine, agrees, strict=True) if not agree]] = True
    return out
