"""From solved pairs to the finished world: cameras, joint refinement, gauge, residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import solve_cameras
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.view_maps import PosedPairs
from wildseg3d_ros.alignment.fusion.view_surfaces import refine_views
from wildseg3d_ros.alignment.graph.pair_maps import PairMap
from wildseg3d_ros.alignment.prior_consistency import (
    Verified,
    compare_with_priors,
    refuse_contradictions,
)
from wildseg3d_ros.alignment.priors.gauge import Registration, register
from wildseg3d_ros.alignment.priors.metric_scale import POSES, scale_warnings
from wildseg3d_ros.alignment.solve.connectivity import ambiguities
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.observability import degeneracies
from wildseg3d_ros.alignment.solve.outliers import pair_errors
from wildseg3d_ros.alignment.solve.residuals import (
    median_by_view,
    reprojection_errors,
    standing_out,
)
from wildseg3d_ros.alignment.solve.robust import SolvedPairs
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import Alignment, MaskCache, PairPrediction, RelativePose, View


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
    views, predictions, config = problem.views, problem.predictions, problem.config
    graph, current, count = result.graph, result.current, len(predictions)

    seen, deviations = result.observed(), known.deviations(len(views))
    constrained = np.isfinite(deviations[0])
    cameras, K, notes = solve_cameras(
        views, seen, current.measured, constrained, config.trust_intrinsics
    )
    if known.priors is not None:
        priors = known.priors.select(result.kept)
        cameras = priors.posterior_cameras(result.solution.poses, cameras)
    pixels = reprojection_errors(graph, result.poses, cameras, K)
    view_residual_px = median_by_view(current, pixels[result.kept[graph.edge]])
    twice = Observations(current).observed_twice()
    view_residual = median_by_view(current, np.where(twice, result.solution.residual, np.nan))
    compared = view_residual[np.isfinite(view_residual)]

    correction = refine_views(
        problem.surface_samples,
        views,
        masks,
        posed_pairs(result, count),
        cameras,
        K,
        float(np.median(compared)) if len(compared) else 0.0,
        deviations,
    )
    cameras = correction @ cameras
    seen = [
        replace(s, world=apply(rigid, s.world)) for s, rigid in zip(seen, correction, strict=True)
    ]

    distance = [s.viewing_distance(camera) for s, camera in zip(seen, cameras, strict=True)]
    gauge = _Gauge.of(problem, result, known, cameras, np.array(distance))
    registration, unit = gauge.registration, gauge.unit
    metric_pairs = [predictions[e] for e in current.ids[current.fixed]]
    # What makes the world metric; empty when nothing does.
    sources = known.sources or ((POSES,) if registration.found else ())
    if metric_pairs:
        sources = tuple(sorted({pair.scale_source for pair in metric_pairs}))
    checks = compare_with_priors(
        views, seen, cameras, unit, registration, known, sources, metric_pairs
    )
    refuse_contradictions(checks, sources, known, registration, config)

    pairs = posed_pairs(result, count, unit, gauge.origin)
    free = current.ids[~current.fixed]
    factor = float(np.exp(np.log(pairs.scale[free]).mean())) if len(free) else 1.0
    rough = len(free) > 0 and all(predictions[e].roughly_metric for e in free)
    posed = np.flatnonzero(np.isfinite(registration.error) & ~registration.wrong)
    open_questions, tie = ambiguities(
        graph.edges,
        result.kept,
        result.ambiguous,
        [view.name for view in views],
        known=list(known.relative_error),
        posed=posed.tolist() if registration.found else [],
    )
    condition = result.solution.condition()
    return Alignment(
        edges=np.array([(pair.a, pair.b) for pair in predictions]),
        world_from_pair=pairs.world_from_pair,
        pair_scale=pairs.scale,
        world_from_cam=gauge.poses(cameras),
        K=K,
        pair_residual=of_all(result, count, pair_errors(graph, result.distance, both=True) * unit),
        view_residual=view_residual * unit,
        pair_used=pairs.used,
        converged=result.converged and not tie,
        iterations=result.iterations,
        metric=gauge.is_metric or registration.found,
        in_prior_frame=registration.found,
        prior_residual=registration.residual,
        warnings=(
            *warnings,
            *notes,
            *registration.warnings,
            *degeneracies(current, condition, views),
            *open_questions,
            *standing_out(view_residual_px, views),
            *scale_warnings(views, metric_pairs, sources, registration, factor, rough),
        ),
        stop_reason=tie or result.stop_reason(config),
        pair_residual_px=of_all(result, count, pair_errors(graph, pixels, both=True)),
        view_residual_px=view_residual_px,
        condition=condition,
        view_correction=gauge.poses(correction) @ invert(gauge.origin),
        scale_factor=factor,
        scale_sources=sources,
        registration_residual=max((check.residual for check in checks), default=np.nan),
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


def of_all(result: SolvedPairs, count: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(count,) of all pairs by those of the graph; NaN for the others."""
    out = np.full(count, np.nan)
    out[result.graph.ids] = values
    return out


@dataclass(frozen=True, eq=False)
class _Gauge:
    """From the graph's world to the finished one.

    Attributes:
        unit: world units per graph unit; is_metric: whether these are metres, before the
            registration to given poses.
        registration: to given poses.
        origin: (4, 4), applied after ``unit``: to the given poses' frame, else camera 0's.
    """

    unit: float
    is_metric: bool
    registration: Registration
    origin: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        problem: Problem,
        result: SolvedPairs,
        known: Verified,
        cameras: NDArray[np.float64],
        distance: NDArray[np.float64],
    ) -> _Gauge:
        """By metric pairs, priors in the solve or given poses; else such that the product of the
        pairs' scales is 1.

        Args:
            cameras, distance: (N, 4, 4) poses and (N,) viewing distances, graph units.
        """
        current, poses = result.current, result.solution.poses
        is_metric = bool(current.fixed.any())
        if known.priors is not None and known.sources:
            is_metric = True
            size = 1.0 / known.priors.select(result.kept).metric_scale_at(poses)
        elif is_metric:
            size = float(current.unit[current.fixed][0])
        else:
            size = float(np.exp((np.log(current.unit) - np.log(poses.scale)).mean()))
        sized = _scaled(cameras, size)
        registration = register(
            problem.views, sized, size * distance, is_metric, problem.config, known.rejected
        )
        origin = registration.prior_from_world if registration.found else invert(sized[0])
        return cls(size * registration.scale, is_metric, registration, origin)

    def poses(self, rigid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses (..., 4, 4) in the finished world."""
        return self.origin @ _scaled(rigid, self.unit)


def _scaled(rigid: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Poses (..., 4, 4) in other units of length."""
    out = rigid.copy()
    out[..., :3, 3] *= scale
    return out
