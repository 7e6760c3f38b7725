"""From solved pairs to the finished world: cameras, joint refinement, gauge, residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.camera_verdicts import Doubts, camera_verdict
from wildseg3d_ros.alignment.cameras.resection import Observed, solve_cameras
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.view_maps import PosedPairs
from wildseg3d_ros.alignment.fusion.view_surfaces import surfaces_of
from wildseg3d_ros.alignment.graph.pair_maps import PairMap
from wildseg3d_ros.alignment.prior_consistency import (
    Comparison,
    Verified,
    compare_with_priors,
    refuse_contradictions,
)
from wildseg3d_ros.alignment.priors.gauge import Registration, register
from wildseg3d_ros.alignment.priors.metric_scale import POSES, scale_warnings
from wildseg3d_ros.alignment.solve.connectivity import Ambiguities, ambiguities
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.observability import degeneracies
from wildseg3d_ros.alignment.solve.outliers import pair_errors
from wildseg3d_ros.alignment.solve.residuals import (
    median_by_view,
    reprojection_errors,
    standing_out,
)
from wildseg3d_ros.alignment.solve.robust import SolvedPairs
from wildseg3d_ros.alignment.surfaces.correspondences import Surface
from wildseg3d_ros.alignment.surfaces.joint_refinement import MotionPrior, refine_jointly
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import (
    Alignment,
    CameraVerdict,
    MaskCache,
    PairPrediction,
    RelativePose,
    View,
)


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be aligned, with the pixels that the joint refinement needs of the maps."""

    predictions: Sequence[PairPrediction]
    views: Sequence[View]
    config: AlignmentConfig
    relative_poses: Sequence[RelativePose]
    surface_samples: Sequence[Sequence[PairMap]]


def assemble(
    problem: Problem,
    masks: MaskCache | None,
    result: SolvedPairs,
    known: Verified,
    warnings: Sequence[str],
) -> Alignment:
    """The alignment of solved pairs.

    Args:
        known: what the solve knew of the cameras; warnings: what is to be said already.

    Raises:
        AlignmentError: the world contradicts what is known of the cameras beyond the limits.
    """
    views, graph, count = problem.views, result.graph, len(problem.predictions)
    seen = result.observed()
    cameras, K, notes = _place_cameras(problem, result, known, seen)
    pixels = reprojection_errors(graph, result.poses, cameras, K)
    view_residual, view_residual_px = _view_residuals(result, pixels)
    surfaces = surfaces_of(
        problem.surface_samples, views, masks, posed_pairs(result, count), cameras, K
    )
    correction = _motions(surfaces, view_residual, known.deviations(len(views)))
    cameras = correction @ cameras
    seen = [_moved(s, rigid) for s, rigid in zip(seen, correction, strict=True)]
    gauge = _Gauge.of(problem, result, known, seen, cameras)
    checks = _check_priors(problem, known, gauge, seen, cameras)
    pairs = posed_pairs(result, count, gauge.unit, gauge.origin)
    factor, rough = _free_scale(problem, result, pairs)
    open_questions, tie, doubts = _ambiguities(problem, result, known, gauge.registration)
    condition = result.solution.condition()
    return Alignment(
        edges=np.array([(pair.a, pair.b) for pair in problem.predictions]),
        world_from_pair=pairs.world_from_pair,
        pair_scale=pairs.scale,
        world_from_cam=gauge.poses(cameras),
        K=K,
        pair_residual=pair_medians(result, count, result.distance) * gauge.unit,
        view_residual=view_residual * gauge.unit,
        pair_used=pairs.used,
        converged=result.converged and not tie,
        iterations=result.iterations,
        metric=gauge.is_metric or gauge.registration.found,
        in_prior_frame=gauge.registration.found,
        prior_residual=gauge.registration.residual,
        warnings=(
            *warnings,
            *notes,
            *gauge.registration.warnings,
            *degeneracies(result.current, condition, views),
            *open_questions,
            *standing_out(view_residual_px, views),
            *gauge.warnings(views, factor, rough),
        ),
        stop_reason=tie or result.stop_reason(problem.config),
        pair_residual_px=pair_medians(result, count, pixels),
        view_residual_px=view_residual_px,
        condition=condition,
        view_correction=gauge.poses(correction) @ invert(gauge.origin),
        scale_factor=factor,
        scale_sources=gauge.sources,
        registration_residual=max((check.residual for check in checks), default=np.nan),
        cameras=_camera_verdicts(problem, gauge, known, seen, cameras, doubts),
    )


def _camera_verdicts(
    problem: Problem,
    gauge: _Gauge,
    known: Verified,
    seen: Sequence[Observed],
    cameras: NDArray[np.float64],
    doubts: Doubts,
) -> tuple[CameraVerdict, ...]:
    """The verdict on each camera.

    Args:
        seen, cameras: what the pairs say about each view, and (N, 4, 4) poses, in graph units.
    """
    placed, found = gauge.poses(cameras), gauge.registration.found
    return tuple(
        camera_verdict(
            view,
            placed[v] if found else None,
            gauge.unit * seen[v].viewing_distance(cameras[v]),
            known.poses.get(v),
            doubts.get(v),
        )
        for v, view in enumerate(problem.views)
    )


def _place_cameras(
    problem: Problem, result: SolvedPairs, known: Verified, seen: Sequence[Observed]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Poses (N, 4, 4) [graph units] and intrinsics (N, 3, 3) by what the pairs see and what is
    known of the cameras, and warnings."""
    constrained = np.isfinite(known.deviations(len(seen))[0])
    measured, trusts = result.current.measured, problem.config.trust_intrinsics
    cameras, K, notes = solve_cameras(problem.views, seen, measured, constrained, trusts)
    if known.priors is not None:
        priors = known.priors.select(result.kept)
        cameras = priors.posterior_cameras(result.solution.poses, cameras)
    return cameras, K, notes


def _view_residuals(
    result: SolvedPairs, pixels: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) medians over each view's points of what pairs differ by [graph units], NaN where no two
    see a point, and of the reprojection errors ``pixels`` (O, n)."""
    current = result.current
    twice = Observations(current).observed_twice()
    return (
        median_by_view(current, np.where(twice, result.solution.residual, np.nan)),
        median_by_view(current, pixels[result.kept[result.graph.edge]]),
    )


def _motions(
    surfaces: Sequence[Surface],
    view_residual: NDArray[np.float64],
    deviations: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """(N, 4, 4) rigid motions of the views that make their surfaces agree.

    Args:
        surfaces: empty where they cannot be compared.
        view_residual: (N,) by which pairs contradict each other [graph units].
        deviations: (N,) of known camera positions [graph units] and orientations [rad].
    """
    if not surfaces:
        return np.tile(np.eye(4), (len(view_residual), 1, 1))
    compared = view_residual[np.isfinite(view_residual)]
    residual = float(np.median(compared)) if len(compared) else 0.0
    depth = np.maximum([s.depth() for s in surfaces], 1e-300)
    return refine_jointly(surfaces, MotionPrior(residual / depth, *deviations))


def _moved(seen: Observed, rigid: NDArray[np.float64], unit: float = 1.0) -> Observed:
    """What the pairs say about a view, its points moved and then in other units of length."""
    return replace(seen, world=apply(rigid, seen.world) * unit)


def _check_priors(
    problem: Problem,
    known: Verified,
    gauge: _Gauge,
    seen: Sequence[Observed],
    cameras: NDArray[np.float64],
) -> list[Comparison]:
    """By how much the world differs from what was given, empty without a metric scale; raises
    AlignmentError beyond the limits.

    Args:
        seen, cameras: what the pairs say about each view, and (N, 4, 4) poses, in graph units.
    """
    registration, checks = gauge.registration, []
    if gauge.sources:
        in_cameras = [
            _moved(s, invert(camera), gauge.unit) for s, camera in zip(seen, cameras, strict=True)
        ]
        checks = compare_with_priors(
            problem.views, in_cameras, registration, known, gauge.metric_pairs
        )
    refuse_contradictions(checks, gauge.sources, known, registration, problem.config)
    return checks


def _free_scale(problem: Problem, result: SolvedPairs, pairs: PosedPairs) -> tuple[float, bool]:
    """World units per unit of the pairs of unknown scale, their geometric mean, 1 without any; and
    whether these units are about metres."""
    free = result.current.ids[~result.current.fixed]
    if not len(free):
        return 1.0, False
    factor = float(np.exp(np.log(pairs.scale[free]).mean()))
    return factor, all(problem.predictions[e].roughly_metric for e in free)


def _ambiguities(
    problem: Problem, result: SolvedPairs, known: Verified, registration: Registration
) -> Ambiguities:
    """Of :func:`ambiguities`, where poses that agree with the world check pairs too, unless these
    are doubtful."""
    agrees = np.isfinite(registration.error) & ~registration.wrong
    pairs, edges = [problem.predictions[e] for e in result.graph.ids], result.graph.edges
    measured, contradicted = np.zeros((2, len(problem.views)), dtype=bool)
    measured[edges[~np.array([p.doubtful for p in pairs]) & result.kept].ravel()] = True
    contradicted[edges[np.array([p.contradicted for p in pairs])].ravel()] = True
    return ambiguities(
        result.graph.edges,
        result.kept,
        result.ambiguous,
        [view.name for view in problem.views],
        known=list(known.relative_error),
        posed=np.flatnonzero(agrees & measured).tolist() if registration.found else [],
        contradicted=np.flatnonzero(contradicted & ~measured).tolist(),
    )


def posed_pairs(
    result: SolvedPairs, count: int, unit: float = 1.0, origin: NDArray[np.float64] | None = None
) -> PosedPairs:
    """Where all pairs lie; scale 1 and the identity where a pair was not solved.

    Args:
        count: of all pairs; unit: world units per graph unit; origin: (4, 4), applied after it,
            None for the identity.
    """
    graph, poses = result.graph, result.poses
    scale, used = np.ones(count), np.zeros(count, dtype=bool)
    scale[graph.ids], used[graph.ids] = poses.scale * unit / graph.unit, result.kept
    rigid = np.tile(np.eye(4), (count, 1, 1))
    rigid[graph.ids, :3, :3], rigid[graph.ids, :3, 3] = poses.rotation, poses.translation * unit
    if origin is not None:
        rigid[graph.ids] = origin @ rigid[graph.ids]
    return PosedPairs(scale, rigid, used)


def pair_medians(
    result: SolvedPairs, count: int, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(count,) of all pairs, medians of values (O, n) over the points of each; NaN of pairs
    without any."""
    out = np.full(count, np.nan)
    out[result.graph.ids] = pair_errors(result.graph, values, both=True)
    return out


@dataclass(frozen=True, eq=False)
class _Gauge:
    """From the graph's world to the finished one.

    Attributes:
        unit: world units per graph unit; is_metric: whether these are metres, before the
            registration to given poses.
        registration: to given poses.
        origin: (4, 4), applied after ``unit``: to the given poses' frame, else camera 0's.
        sources: what makes the world metric; empty when nothing does.
        metric_pairs: those in use whose scale is known.
    """

    unit: float
    is_metric: bool
    registration: Registration
    origin: NDArray[np.float64]
    sources: tuple[str, ...]
    metric_pairs: Sequence[PairPrediction]

    @classmethod
    def of(
        cls,
        problem: Problem,
        result: SolvedPairs,
        known: Verified,
        seen: Sequence[Observed],
        cameras: NDArray[np.float64],
    ) -> _Gauge:
        """By metric pairs, priors in the solve or given poses; else such that the product of the
        pairs' scales is 1.

        Args:
            seen, cameras: what the pairs say about each view, and (N, 4, 4) poses, in graph units.
        """
        current = result.current
        metric_pairs = [problem.predictions[e] for e in current.ids[current.fixed]]
        is_metric = bool(metric_pairs) or (known.priors is not None and bool(known.sources))
        size = _size(result, known)
        sized = scaled(cameras, size)
        distance = size * np.array(
            [s.viewing_distance(camera) for s, camera in zip(seen, cameras, strict=True)]
        )
        registration = register(problem.views, sized, distance, is_metric, known.outliers)
        origin = registration.prior_from_world if registration.found else invert(sized[0])
        sources = known.sources or ((POSES,) if registration.found else ())
        if metric_pairs:
            sources = tuple(sorted({pair.scale_source for pair in metric_pairs}))
        unit = size * registration.scale
        return cls(unit, is_metric, registration, origin, sources, metric_pairs)

    def poses(self, rigid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses (..., 4, 4) in the finished world."""
        return self.origin @ scaled(rigid, self.unit)

    def warnings(self, views: Sequence[View], factor: float, rough: bool) -> list[str]:
        """Of the scale, by :func:`_free_scale`; see :func:`scale_warnings`."""
        return scale_warnings(
            views, self.metric_pairs, self.sources, self.registration, factor, rough
        )


def _size(result: SolvedPairs, known: Verified) -> float:
    """World units per graph unit before the registration to given poses."""
    current, poses = result.current, result.solution.poses
    if known.priors is not None and known.sources:
        return 1.0 / known.priors.select(result.kept).metric_scale_at(poses)
    if current.fixed.any():
        return float(current.unit[current.fixed][0])
    return float(np.exp((np.log(current.unit) - np.log(poses.scale)).mean()))


def scaled(rigid: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Poses (..., 4, 4) in other units of length."""
    out = rigid.copy()
    out[..., :3, 3] *= scale
    return out
