"""How what is known beforehand agrees with the images: before the solve, and of the finished
world.

- :func:`verify` compares every prior with the world that the pairs make alone. What contradicts it
  is rejected and named, the rest enters the solve (:mod:`.factors`).
- :func:`compare_with_priors` says by how much the finished world differs from what was given, and
  :func:`refuse_contradictions` when that is too much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.priors.factors import Priors, ScaleRows, pose_rows, scale_rows
from wildseg3d_ros.alignment.priors.gauge import Registration, prior_sigmas, register
from wildseg3d_ros.alignment.priors.metric_scale import (
    DEPTH,
    POSES,
    RELATIVE,
    unconfirmed,
    well_shaped,
)
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
from wildseg3d_ros.core.errors import AlignmentError, InputError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import PairPrediction, RelativePose, View

CONTRADICTS = 0.1
"""Share of the viewing distance that given poses may differ by: it grows with the scene, and a
wrong scale shrinks metres, but not this share. In constructed scenes of 2 m, with a network's
errors, the share was up to 0.05 with exact poses and with poses good to 1 cm and 0.3 degrees, and
0.12 or more with poses good to 12 cm and 5 degrees."""

HONEST_SIGMA = (0.0036, 0.0062)
"""Deviations of a given pose per axis [m, rad] where they are not said: 10 mm and 1 degree are
exceeded once in 20 times, as by a careful hand-eye calibration."""

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
        sigmas: standard deviations of that difference per axis [m, rad].
        is_checked: whether there is anything that could contradict it.
    """

    used: bool
    deviations: float
    sigmas: tuple[float, float]
    is_checked: bool


@dataclass(frozen=True, eq=False)
class Verified:
    """What may enter the solve.

    Attributes:
        priors: None when nothing is known that could constrain the world.
        sources: what makes the solve metric, in the words of ``Alignment.scale_sources``; empty
            when that is left to the registration to given poses.
        warnings: what was rejected, by camera.
        contradiction: why nothing that was given for the scale can be relied on; empty where
            something can.
        pose_error, pose_share: (N,) by which given poses differ from the world that the pairs make
            alone, in metres at the scene and in viewing distances, NaN where unknown or where
            nothing constrains the solve.
        relative_error: the same [m] of the relative poses that entered, by their two views.
        poses: what the others say about the given poses, by view.
        misshapen: views whose depth shows something else than their pointmaps.
        outvoted: (E,) bool, pairs of the solve that given poses and other pairs decide against.
    """

    priors: Priors | None
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    contradiction: str = ""
    pose_error: NDArray[np.float64] | float = np.nan
    pose_share: NDArray[np.float64] | float = np.nan
    relative_error: Mapping[tuple[int, int], float] = field(default_factory=dict)
    poses: Mapping[int, PoseFinding] = field(default_factory=dict)
    misshapen: tuple[int, ...] = ()
    outvoted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def outliers(self) -> frozenset[int]:
        """Views whose given pose contradicts the others."""
        return frozenset(v for v, pose in self.poses.items() if not pose.used)

    def deviations(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) of the known camera positions [graph units] and orientations [rad]; inf where
        nothing is known."""
        position, rotation = np.full(count, np.inf), np.full(count, np.inf)
        if self.priors is not None:
            rows = self.priors.poses
            np.minimum.at(position, rows.view, self.priors.metric_scale * rows.translation_sigma)
            np.minimum.at(rotation, rows.view, rows.rotation_sigma)
        return position, rotation


def check_relative_poses(relative: Sequence[RelativePose], views: Sequence[View]) -> None:
    """Raises InputError unless every relative pose names two of the views."""
    for pose in relative:
        if not (0 <= pose.a < len(views) and 0 <= pose.b < len(views)) or pose.a == pose.b:
            raise InputError(
                f"a relative pose names the views ({pose.a}, {pose.b}); expected two different "
                f"indices of the {len(views)} views"
            )


def verify(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    result: SolvedPairs,
    relative: Sequence[RelativePose],
    config: AlignmentConfig,
) -> Verified:
    """Compares all priors with the world that the solved pairs alone make, and with each other."""
    given = _Given.of(predictions, views, result, relative, config)
    warnings = list(given.warnings)
    had_depth = bool(given.misshapen) or bool(len(given.depths.edge))
    if given.start is None:
        lost = "; ".join(warnings) if had_depth else ""
        return Verified(None, (), tuple(warnings), lost, misshapen=given.misshapen)
    judged = given.graph.judge(given.start)
    poses, notes = given.accepted_poses(judged)
    warnings += notes
    enough = len(poses) > 1
    relations, notes = given.accepted_relations(judged)
    warnings += notes
    depths, notes = given.accepted_depths(judged)
    warnings += notes
    is_metric = given.graph.is_metric
    gives_scale = bool(len(depths.edge)) or any(base.tells_scale for base, _ in relations)
    from_poses = given.found.found and np.count_nonzero(judged.posed.used) > 1
    # Where nothing that stands gives the scale, nothing constrains the solve.
    if not (is_metric or gives_scale or from_poses):
        lost = "; ".join(warnings) if had_depth else ""
        return Verified(
            None,
            (),
            tuple(warnings),
            lost,
            poses=given.findings(judged),
            misshapen=given.misshapen,
        )
    known = poses if enough else []
    for group, (base, _) in enumerate(relations, 1 if known else 0):
        pose, sigmas = base.pose, (base.pose.translation_sigma, base.pose.rotation_sigma)
        known += [(group, pose.a, np.eye(4), *sigmas), (group, pose.b, pose.a_from_b, *sigmas)]
    kinds = ((POSES, enough), (RELATIVE, bool(relations)), (DEPTH, bool(len(depths.edge))))
    sources = tuple(kind for kind, is_there in kinds if is_there)
    # Depth images that all contradict each other are no source of a scale.
    is_lost = had_depth and not is_metric and not sources and not given.found.found
    scale = float(np.exp(judged.judged.state.log_units))
    rows = pose_rows(result.graph, known)
    return Verified(
        Priors(rows, depths, scale, is_metric) if sources else None,
        sources if (gives_scale or enough) and not is_metric else (),
        tuple(warnings),
        "; ".join(warnings) if is_lost else "",
        given.spread(given.found.error) if sources else np.nan,
        given.spread(given.found.share) if sources else np.nan,
        {(base.pose.a, base.pose.b): error for base, error in relations},
        given.findings(judged),
        given.misshapen,
        given.outvoted(judged, result.graph),
    )


@dataclass(frozen=True)
class _Baseline:
    """A relative pose of two cameras that the pairs locate.

    Attributes:
        tells_scale: whether it is longer than it is uncertain.
    """

    pose: RelativePose
    tells_scale: bool


@dataclass(frozen=True, eq=False)
class _Given:
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
    baselines: Sequence[_Baseline]
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
    ) -> _Given:
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
            [views[v] for v in there], solved, cameras.distance[there] / units, is_metric
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
                baselines.append(_Baseline(pose, tells))
                lengths += [float(np.log(ours / length))] if tells else []
        scales = [*log_units, *lengths, *([-np.log(found.scale)] if found.found else [])]
        start = None
        if is_metric or scales:
            # Graph units so far are those of the pairs, or metres.
            log_scale = float(np.log(units)) if is_metric else float(np.median(scales))
            start = _start(solved, found, log_scale, is_metric)
        has_pose = [found.found and views[v].world_from_cam_prior is not None for v in there]
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
        for k, v in enumerate(self.posed.tolist()):
            variance = np.diag(found.covariance[k]).reshape(2, 3).mean(axis=1)
            position, rotation = (judged.graph.posed.sigma[k] * np.sqrt(variance)).tolist()
            out[v] = PoseFinding(
                bool(found.used[k]),
                float(found.deviations[k]),
                (position, rotation),
                bool(found.redundancy[k] > 0),
            )
        return out

    def outvoted(self, judged: Verdicts, graph: Graph) -> NDArray[np.bool_]:
        """(E,) bool, measured pairs that given poses decide against.

        Where the solved world contradicts a given pose, its pairs are judged one by one beside
        the given poses: of two pairs that contradict each other the pose may tell which is wrong.
        """
        own = graph.own_frame[graph.observation].all(axis=1)
        out = np.zeros(len(own), dtype=bool)
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
    ) -> tuple[list[tuple[_Baseline, float]], list[str]]:
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


def _related(baselines: Sequence[_Baseline], place: NDArray[np.int64]) -> Related:
    poses = [base.pose for base in baselines]
    return Related(
        np.array([(place[p.a], place[p.b]) for p in poses], dtype=np.int64).reshape(-1, 2),
        np.array([p.a_from_b for p in poses]).reshape(-1, 4, 4),
        np.array([(p.translation_sigma, p.rotation_sigma) for p in poses]).reshape(-1, 2),
    )


@dataclass(frozen=True, eq=False)
class Comparison:
    """The finished world beside one kind of what was given.

    Attributes:
        kind: POSES, RELATIVE or DEPTH.
        error: metres at the scene, by camera (or two cameras) that it was given for.
        share: median over the cameras of the error in viewing distances; 0 where it is not needed.
    """

    kind: str
    error: Mapping[str, float]
    share: float = 0.0

    @property
    def residual(self) -> float:
        """Median over the cameras [m], so that a few that are wrong do not decide."""
        return float(np.median(list(self.error.values())))


def compare_with_priors(
    views: Sequence[View],
    in_cameras: Sequence[Observed],
    registration: Registration,
    known: Verified,
    metric_pairs: Sequence[PairPrediction],
) -> list[Comparison]:
    """How far what was given is from a world of metric scale, by kind.

    What constrains the world agrees with it afterwards, be it right or wrong. So poses count by
    what they differ from the world of the pairs alone where that is more, and relative poses by
    that only. These and depth count where pairs have no scale of their own: elsewhere many pairs
    stand against the former, and are made of the latter.

    Args:
        in_cameras: what the pairs say about each view, points in its camera's frame [m].
        metric_pairs: those in use whose scale is known.
    """
    errors: dict[str, Mapping[str, float]] = {}
    error_of = np.fmax(registration.error, known.pose_error)
    share_of = np.fmax(registration.share, known.pose_share)
    if not unconfirmed(views, metric_pairs):
        errors[POSES] = {
            view.name: float(error)
            for view, error in zip(views, error_of, strict=True)
            if np.isfinite(error)
        }
    if not metric_pairs:
        errors[RELATIVE] = {
            f"{views[a].name}' - '{views[b].name}": error
            for (a, b), error in known.relative_error.items()
        }
        errors[DEPTH] = _depth_errors(views, in_cameras, known.misshapen)
    shares = share_of[np.isfinite(share_of)]
    share = {POSES: float(np.median(shares)) if len(shares) else 0.0}
    return [
        Comparison(kind, error, share.get(kind, 0.0)) for kind, error in errors.items() if error
    ]


def _depth_errors(
    views: Sequence[View], in_cameras: Sequence[Observed], misshapen: Sequence[int]
) -> dict[str, float]:
    """Median metres between points and depth images along the optical axis, by camera; only of
    those where both have points."""
    errors: dict[str, float] = {}
    for v, (view, seen) in enumerate(zip(views, in_cameras, strict=True)):
        if view.depth is None or v in misshapen:
            continue
        has_point = seen.confidence > 0
        cols, rows = seen.uv[has_point].astype(np.int64).T
        measured = view.depth[rows, cols]
        if (measured > 0).any():
            apart = np.abs(seen.world[has_point, 2] - measured)[measured > 0]
            errors[view.name] = float(np.median(apart))
    return errors


def refuse_contradictions(
    checks: Sequence[Comparison],
    sources: tuple[str, ...],
    known: Verified,
    registration: Registration,
    config: AlignmentConfig,
) -> None:
    """Raises AlignmentError, with cameras and figures, beyond ``max_prior_residual``, where poses
    differ by a good part of the viewing distance, or where what is given fixes nothing because it
    contradicts itself or the images."""
    limit = config.max_prior_residual
    if limit <= 0:
        return
    parts = [text for text in (registration.contradiction, known.contradiction) if text]
    for check in checks:
        # Relative poses are rejected one by one: a drift of the pairs is no error of theirs.
        if check.kind != RELATIVE and (check.residual > limit or check.share > CONTRADICTS):
            worst = sorted(check.error.items(), key=lambda item: -item[1])
            named = ", ".join(f"'{name}' {error:.3g} m" for name, error in worst)
            share = ""
            if check.share:
                percent = f"{check.share:.{0 if check.share >= 0.01 else 2}%}"
                distance = check.residual / check.share
                share = f", {percent} of the viewing distance, then {distance:.3g} m"
            parts.append(
                f"scaled by {' and '.join(sources)}, given {check.kind} differ by "
                f"{check.residual:.3g} m at the scene (median{share}): {named}"
            )
    if not parts:
        return
    notes = [text for text in registration.warnings if text not in parts]
    raise AlignmentError(
        f"the images and what is known of the cameras contradict each other, so neither scale nor "
        f"frame of the scene can be relied on: {'; '.join([*parts, *notes])}. Allowed is "
        f"alignment.max_prior_residual = {limit:g} m, and {CONTRADICTS:.0%} of the viewing "
        "distance. Check TF and calibration (poses are camera-to-world, of optical frames with z "
        "forward, each of its own camera), the unit of poses and depth images (metres), and that "
        "nothing moved between the images; or set the limit to 0 (never refuse)"
    )
