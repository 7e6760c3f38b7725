"""All that is known of the cameras beforehand, beside the cameras that the pairs alone make.

:class:`Given` gathers it as a graph of factors (:mod:`.priors.pose_graph`), and says in the words
of the cameras what the graph finds: which poses, relative poses, depth images and measured pairs
stand, how well, and what people should know of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.priors.factors import ScaleRows, scale_rows
from wildseg3d_ros.alignment.priors.gauge import Registration, prior_sigmas, register
from wildseg3d_ros.alignment.priors.metric_scale import well_shaped
from wildseg3d_ros.alignment.priors.pair_cameras import PairCameras
from wildseg3d_ros.alignment.priors.pose_graph import (
    Cameras,
    Posed,
    PoseGraph,
    Related,
    Scaled,
    Verdicts,
)
from wildseg3d_ros.alignment.solve.robust import SolvedPairs
from wildseg3d_ros.core.geometry.factor_graph import outlier_limit
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import PairPrediction, RelativePose, View

HONEST_SIGMA = (0.0033, 0.0057)
"""Deviations of a given pose per axis [m, rad] where they are not said: 10 mm, and 1 degree, are
exceeded once in 40 times each, as by a careful hand-eye calibration."""

_SCALE_SIGMA = 0.015
"""Deviation of the logarithm of a scale by depth: beside a network's errors, 5 % is an outlier."""

_STANDS_OUT = 2.15
"""Length of a whitened residual of three dimensions that one in five right ones exceeds."""


@dataclass(frozen=True)
class PoseFinding:
    """What the others say about a given pose.

    Attributes:
        used: whether it agrees with them.
        deviations: from where they expect it, NaN where they do not; in standard deviations.
        worse: whether it is farther off than is said of it, as most are; the others then have
            wider deviations, and it may agree with them all the same.
        sigmas: standard deviations of that difference per axis [m, rad].
        is_checked: whether there is anything that could contradict it.
    """

    used: bool
    deviations: float
    sigmas: tuple[float, float]
    is_checked: bool
    worse: bool = False


@dataclass(frozen=True)
class Baseline:
    """A relative pose of two cameras that the pairs locate.

    Attributes:
        tells_scale: whether it is longer than it is uncertain.
    """

    pose: RelativePose
    tells_scale: bool


@dataclass(frozen=True, eq=False)
class Given:
    """All that is known beforehand, beside the cameras of the pairs.

    Attributes:
        views: all; cameras: of the pairs; depths: rows whose shape is that of the pointmaps.
        there: (M,) views that the pairs locate, the cameras of the graph.
        posed: (K,) views with a pose that the graph holds, in its order.
        baselines: relative poses that the graph holds.
        depth_views: views whose depth it holds.
        found: registration of the pairs' world to the given poses, by the graph's cameras.
        graph, start: what is judged, and from where; start is None where nothing gives a scale.
        warnings, misshapen: of depth that has another shape.
    """

    views: Sequence[View]
    cameras: PairCameras
    depths: ScaleRows
    there: NDArray[np.int64]
    posed: NDArray[np.int64]
    baselines: Sequence[Baseline]
    depth_views: NDArray[np.int64]
    found: Registration
    graph: PoseGraph
    start: Cameras | None
    warnings: Sequence[str]
    misshapen: tuple[int, ...]
    config: AlignmentConfig

    @classmethod
    def of(
        cls,
        predictions: Sequence[PairPrediction],
        views: Sequence[View],
        result: SolvedPairs,
        relative: Sequence[RelativePose],
        config: AlignmentConfig,
    ) -> Given:
        """What there is to judge."""
        graph = result.graph
        measured = ~np.array([predictions[e].doubtful for e in result.current.ids], dtype=bool)
        cameras = PairCameras.of(views, result.current.edges[measured], result.observed())
        is_metric = bool(graph.fixed.any())
        units = float(1.0 / graph.unit[graph.fixed][0]) if is_metric else 1.0
        there = np.flatnonzero(cameras.known)
        place = np.full(len(views), -1)
        place[there] = np.arange(len(there))
        solved = cameras.poses[there].copy()
        solved[:, :3, 3] /= units
        found = register(
            [views[v] for v in there.tolist()], solved, cameras.distance[there] / units, is_metric
        )
        rows = scale_rows(graph, [v.depth for v in views])
        depths, misshapen, warnings = well_shaped(rows, views)
        by_row = np.log(np.asarray(result.poses.scale)[depths.edge]) + depths.log_units
        depth_views = np.unique(depths.view)
        log_units = np.array([np.median(by_row[depths.view == v]) for v in depth_views])
        baselines, lengths = [], []
        for pose in relative:
            if min(place[pose.a], place[pose.b]) >= 0:
                ours = np.linalg.norm(cameras.poses[pose.a] - cameras.poses[pose.b], axis=0)[3]
                length = np.linalg.norm(pose.a_from_b[:3, 3])
                tells = bool(ours > 0 and length > 3.0 * pose.translation_sigma)
                baselines.append(Baseline(pose, tells))
                lengths += [float(np.log(ours / length))] if tells else []
        scales = [*log_units, *lengths, *([-np.log(found.scale)] if found.found else [])]
        start = None
        if is_metric or scales:
            # Graph units so far are those of the pairs, or metres.
            log_scale = float(np.log(units)) if is_metric else float(np.median(scales))
            start = _start(solved, found, log_scale, is_metric)
        has_pose = [
            found.found and views[v].world_from_cam_prior is not None for v in there.tolist()
        ]
        posed = there[np.array(has_pose, dtype=bool)]
        return cls(
            views,
            cameras,
            depths,
            there,
            posed,
            baselines,
            depth_views,
            found,
            PoseGraph(
                len(there),
                _solved_pairs(cameras, place, 0.0 if start is None else start.log_units),
                _posed(views, posed, place, config),
                _related(baselines, place),
                Scaled(log_units, np.full(len(log_units), _SCALE_SIGMA)),
                is_metric,
            ),
            start,
            warnings,
            misshapen,
            config,
        )

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) of all views, from (M,) of the graph's cameras; NaN elsewhere."""
        out = np.full(len(self.views), np.nan)
        out[self.there] = values
        return out

    def findings(self, judged: Verdicts) -> dict[int, PoseFinding]:
        """Of the given poses, by view."""
        found, out = judged.posed, {}
        worse, _ = self.worse_than_said(judged)
        for k, v in enumerate(self.posed.tolist()):
            variance = np.diag(found.covariance[k]).reshape(2, 3).mean(axis=1)
            position, rotation = (judged.graph.posed.sigma[k] * np.sqrt(variance)).tolist()
            out[v] = PoseFinding(
                bool(found.used[k]),
                float(found.deviations[k]),
                (position, rotation),
                bool(found.redundancy[k] > 0),
                bool(worse[k]),
            )
        return out

    def worse_than_said(self, judged: Verdicts) -> tuple[NDArray[np.bool_], list[str]]:
        """(K,) given poses that are farther off than is said of them, if most are, and a warning
        then: the views may agree well with each other, and the scene lie beside its place."""
        found, out = judged.posed, np.zeros(len(self.posed), dtype=bool)
        checked = np.flatnonzero(found.redundancy > 0)
        if len(checked) < 3:
            return out, []
        beyond = judged.widened * np.array([found.part_deviations(k) for k in checked.tolist()])
        worse = (beyond > outlier_limit(3)).any(axis=1)
        if 2 * worse.sum() <= len(checked):
            return out, []
        sigma = judged.graph.posed.sigma[checked]
        off = np.median([found.part_errors(k) for k in checked.tolist()] * sigma, axis=0)
        units = float(np.exp(judged.judged.state.log_units))
        distance = float(np.median(self.cameras.distance[self.posed[checked]])) / units
        # Turns about the line of sight move nothing; of n, one is off from n - 1 by
        # sqrt(n / (n - 1)), and the mean from what is right by 1 / sqrt(n).
        one, count = np.hypot(off[0], np.sqrt(2.0 / 3.0) * off[1] * distance), len(checked)
        place = one * np.sqrt(count - 1.0) / count
        said = np.median(self.graph.posed.sigma[checked], axis=0)
        is_said = all(min(prior_sigmas(self.views[v], self.config)) > 0 for v in self.posed)
        expected = "is said of them" if is_said else "a careful calibration leaves"
        out[checked] = worse
        text = (
            f"most given camera poses are off by more than {expected}: a camera is typically "
            f"{1e3 * off[0]:.0f} mm and {np.degrees(off[1]):.1f} degrees from where the others "
            f"and the images put it, where {1e3 * said[0]:.2g} mm and {np.degrees(said[1]):.2g} "
            "degrees per axis are expected. The views were brought together, but where the scene "
            "lies in the frame of these poses is not known better than to some "
            f"{1e3 * place:.0f} mm: calibrate the cameras anew"
        )
        return out, [text]

    def outvoted(self, judged: Verdicts, graph: Graph) -> NDArray[np.bool_]:
        """(E,) bool, measured pairs that given poses decide against.

        Where the solved world contradicts a given pose, its pairs are judged one by one beside
        the given poses: of two pairs that contradict each other the pose may tell which is wrong.
        """
        own = np.asarray(graph.own_frame[graph.observation].all(axis=1))
        out = np.zeros(len(graph.edges), dtype=bool)
        views = graph.edges[own]
        if judged.posed.used.all() or not graph.fixed.all() or not len(views):
            return out
        a, b = graph.pair_from_map[graph.observation[own]].swapaxes(0, 1)
        place = np.searchsorted(self.there, views)
        position, rotation = self.cameras.sigmas
        distance = self.cameras.distance[views].mean(axis=1) * graph.unit[own]
        sigma = np.stack([position * distance, np.full(len(views), rotation)], axis=1)
        measured = Related(place, invert(a) @ b, np.sqrt(2.0) * sigma)
        assert self.start is not None
        beside = replace(self.graph, pairs=measured, pairs_may_be_wrong=True).judge(self.start)
        restored = self.posed[~judged.posed.used & beside.posed.used]
        out[own] = ~beside.pairs.used & np.isin(views, restored).any(axis=1)
        return out

    def accepted_poses(
        self, judged: Verdicts
    ) -> tuple[list[tuple[int, int, NDArray, float, float]], list[str]]:
        """Rows of :func:`pose_rows`, of given poses whose deviations are said and that stand, and
        a warning where many of these are too small."""
        rows, doubtful = [], []
        for k, v in enumerate(self.posed.tolist()):
            if not judged.posed.used[k] or min(prior_sigmas(self.views[v], self.config)) <= 0:
                continue
            error = judged.posed.part_errors(k) * judged.graph.posed.sigma[k]
            # A pose that stands out a little is believed no more than it agrees, so that it need
            # not be called wrong.
            beyond = judged.widened * judged.posed.part_deviations(k) > _STANDS_OUT
            sigma = self.graph.posed.sigma[k]
            sigma = np.hypot(sigma, np.where(beyond, error / np.sqrt(3.0), 0.0))
            rows.append((0, v, np.asarray(self.views[v].world_from_cam_prior), *sigma.tolist()))
            if beyond.any():
                doubtful.append(v)
        if len(rows) <= 3 or judged.widened == 1.0:
            return rows, []
        names = ", ".join(f"'{self.views[v].name}'" for v in doubtful)
        text = (
            f"the given poses of {names} differ from what the images say by more than their "
            "deviations, and are trusted less: check TF and calibration, or give larger ones"
        )
        return rows, [text]

    def accepted_relations(
        self, judged: Verdicts
    ) -> tuple[list[tuple[Baseline, float]], list[str]]:
        """Relative poses that stand, with their error [m] at the scene in the world that the
        pairs alone make, and warnings of the others."""
        out, warnings = [], []
        units = float(np.exp(judged.judged.state.log_units))
        for base, used in zip(self.baselines, judged.related.used, strict=True):
            pose, known = base.pose, base.pose.a_from_b
            solved = invert(self.cameras.poses[pose.a]) @ self.cameras.poses[pose.b]
            angle = rotation_angle(solved[:3, :3] @ known[:3, :3].T)
            distance = max(self.cameras.distance[[pose.a, pose.b]]) / units
            error = float(np.linalg.norm(solved[:3, 3] / units - known[:3, 3]) + angle * distance)
            if used:
                out.append((base, error))
                continue
            warnings.append(
                f"the given relative pose of the cameras '{self.views[pose.a].name}' and "
                f"'{self.views[pose.b].name}' is {error * 1e3:.0f} mm (at the scene) from what "
                "the images say; the pairs contradict it, and it is rejected: check their "
                "calibration"
            )
        return out, warnings

    def accepted_depths(self, judged: Verdicts) -> tuple[ScaleRows, list[str]]:
        """Rows of depth images that stand, and warnings of the others."""
        used, state = judged.scaled.used, judged.judged.state
        sources = len(used) + sum(base.tells_scale for base in self.baselines)
        sources += int(self.found.found)
        blame = "one of the two is wrong" if sources == 2 else "the others contradict it"
        warnings = [
            f"the depth images of camera '{self.views[v].name}' make the scene "
            f"{np.exp(state.log_units - log):.3g} times as large as the others do; {blame}: check "
            "the unit"
            for v, log, is_used in zip(
                self.depth_views, self.graph.scaled.log_units, used, strict=True
            )
            if not is_used
        ]
        return self.depths.select(np.isin(self.depths.view, self.depth_views[used])), warnings


def _start(
    solved: NDArray[np.float64], found: Registration, log_units: float, is_metric: bool
) -> Cameras:
    """The pairs' cameras (M, 4, 4), in metres or graph units, in the frame of the given poses
    where there is one."""
    if found.found:
        origin, scale = found.prior_from_world, found.scale
    else:
        origin, scale = np.eye(4), 1.0 if is_metric else float(np.exp(-log_units))
    rotation = origin[:3, :3] @ solved[:, :3, :3]
    centre = scale * solved[:, :3, 3] @ origin[:3, :3].T + origin[:3, 3]
    return Cameras(rotation, centre, log_units)


def _solved_pairs(cameras: PairCameras, place: NDArray[np.int64], log_units: float) -> Related:
    """Relative poses of the solved world, of the pairs between cameras that it locates; a pair
    deviates at either camera."""
    edges = cameras.edges[(place[cameras.edges] >= 0).all(axis=1)]
    a_from_b = invert(cameras.poses[edges[:, 0]]) @ cameras.poses[edges[:, 1]]
    position, rotation = cameras.sigmas
    distance = cameras.distance[edges].mean(axis=1) * np.exp(-log_units)
    sigma = np.stack([position * distance, np.full(len(edges), rotation)], axis=1)
    return Related(place[edges], a_from_b, np.sqrt(2.0) * sigma, in_units=True)


def _posed(
    views: Sequence[View],
    posed: NDArray[np.int64],
    place: NDArray[np.int64],
    config: AlignmentConfig,
) -> Posed:
    sigma = np.array([prior_sigmas(views[v], config) for v in posed]).reshape(-1, 2)
    is_said = (sigma > 0).all(axis=1, keepdims=True)
    given = [np.asarray(views[v].world_from_cam_prior) for v in posed]
    return Posed(
        place[posed], np.array(given).reshape(-1, 4, 4), np.where(is_said, sigma, HONEST_SIGMA)
    )


def _related(baselines: Sequence[Baseline], place: NDArray[np.int64]) -> Related:
    poses = [base.pose for base in baselines]
    return Related(
        np.array([(place[p.a], place[p.b]) for p in poses], dtype=np.int64).reshape(-1, 2),
        np.array([p.a_from_b for p in poses]).reshape(-1, 4, 4),
        np.array([(p.translation_sigma, p.rotation_sigma) for p in poses]).reshape(-1, 2),
    )
