"""From solved pairs to the finished world: cameras, joint refinement, gauge, residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed, observe, solve_cameras
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.view_maps import PosedPairs
from wildseg3d_ros.alignment.fusion.view_surfaces import refine_views
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.pair_maps import PairMap
from wildseg3d_ros.alignment.priors.consistency import (
    Comparison,
    Verified,
    compare_with_priors,
    largest_residual,
    refuse_contradictions,
)
from wildseg3d_ros.alignment.priors.gauge import Registration, register
from wildseg3d_ros.alignment.priors.metric_scale import (
    no_scale_warning,
    scale_factor,
    scale_sources,
    scale_warnings,
    unconfirmed_warning,
)
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


@dataclass(frozen=True, eq=False)
class Solved:
    """All pairs, those that were solved, and what else was known of the cameras."""

    complete: Graph
    pairs: SolvedPairs
    known: Verified

    def rigid(self) -> NDArray[np.float64]:
        """(E, 4, 4) rotations and translations of all pairs in the graph's world; the identity
        where a pair was not solved."""
        graph, poses = self.pairs.graph, self.pairs.poses
        out = np.tile(np.eye(4), (len(self.complete.edges), 1, 1))
        out[graph.ids, :3, :3], out[graph.ids, :3, 3] = poses.rotation, poses.translation
        return out

    def pairs_in(self, gauge: _Gauge) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(E,) scales and (E, 4, 4) poses of all pairs in the finished world; 1 and the identity
        where a pair was not solved."""
        graph = self.pairs.graph
        scale, world_from_pair = np.ones(len(self.complete.edges)), self.rigid()
        free = self.pairs.poses.scale * gauge.unit / graph.unit
        scale[graph.ids] = np.where(graph.fixed, 1.0, free)
        world_from_pair[graph.ids] = gauge.poses(world_from_pair[graph.ids])
        return scale, world_from_pair

    def of_all(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(E,) of all pairs by those of the solved ones; NaN for the others."""
        out = np.full(len(self.complete.edges), np.nan)
        out[self.pairs.graph.ids] = values
        return out


def assemble(
    problem: Problem, masks: MaskCache | None, solved: Solved, warnings: Sequence[str]
) -> Alignment:
    """The alignment of solved pairs.

    Args:
        warnings: what is to be said already.

    Raises:
        AlignmentError: the world contradicts what is known of the cameras beyond the limits.
    """
    world = _World.of(problem, masks, solved)
    refuse_contradictions(
        world.scale.checks,
        world.scale.sources,
        solved.known,
        world.gauge.registration,
        problem.config,
    )
    return world.alignment(warnings)


def observe_solution(result: SolvedPairs) -> list[Observed]:
    """What the solved pairs say about each view, graph units."""
    solution = result.solution
    return observe(result.current, solution.poses, solution.world, solution.confidence)


@dataclass(frozen=True, eq=False)
class _Cameras:
    """Poses (N, 4, 4), graph units, and intrinsics (N, 3, 3); what they see; warnings."""

    world_from_cam: NDArray[np.float64]
    K: NDArray[np.float64]
    seen: list[Observed]
    warnings: list[str]

    @classmethod
    def of(cls, problem: Problem, solved: Solved) -> _Cameras:
        """Those that fit the solved pairs, drawn to known poses."""
        views, result, known = problem.views, solved.pairs, solved.known
        seen = observe_solution(result)
        poses, K, warnings = solve_cameras(
            views,
            seen,
            result.current.measured,
            known.constrained(len(views)),
            problem.config.trust_intrinsics,
        )
        if known.priors is not None:
            priors = known.priors.select(result.kept)
            poses = priors.posterior_cameras(result.solution.poses, poses)
        return cls(poses, K, seen, warnings)

    def moved(self, correction: NDArray[np.float64]) -> _Cameras:
        """The cameras and what they see after rigid motions (N, 4, 4) of the views."""
        seen = [
            replace(s, world=apply(rigid, s.world))
            for s, rigid in zip(self.seen, correction, strict=True)
        ]
        return replace(self, world_from_cam=correction @ self.world_from_cam, seen=seen)

    def viewing_distances(self) -> NDArray[np.float64]:
        """(N,) median distance of each view's points from its camera."""
        both = zip(self.seen, self.world_from_cam, strict=True)
        return np.array([seen.viewing_distance(pose) for seen, pose in both])


@dataclass(frozen=True, eq=False)
class _Residuals:
    """Medians by pair of the graph and by view: graph units, and pixels; NaN where unknown."""

    of_pair: NDArray[np.float64]
    of_view: NDArray[np.float64]
    of_pair_px: NDArray[np.float64]
    of_view_px: NDArray[np.float64]

    @classmethod
    def of(cls, result: SolvedPairs, cameras: _Cameras) -> _Residuals:
        """Of the solved pairs in these cameras."""
        graph, current = result.graph, result.current
        twice = Observations(current).observed_twice()
        pixels = reprojection_errors(graph, result.poses, cameras.world_from_cam, cameras.K)
        return cls(
            pair_errors(graph, result.distance, both=True),
            median_by_view(current, np.where(twice, result.solution.residual, np.nan)),
            pair_errors(graph, pixels, both=True),
            median_by_view(current, pixels[result.kept[graph.edge]]),
        )

    @property
    def typical(self) -> float:
        """Median over the views, graph units; 0 where nothing is known."""
        known = self.of_view[np.isfinite(self.of_view)]
        return float(np.median(known)) if len(known) else 0.0


@dataclass(frozen=True, eq=False)
class _Gauge:
    """From the graph's world to the finished one.

    Attributes:
        size: metres per graph unit, or such that the product of the scales is 1; is_metric: which
            of the two, before the registration to given poses.
        registration: of the world in these units to given poses.
        origin: (4, 4), applied after ``unit``: to the given poses' frame, else camera 0's.
    """

    size: float
    is_metric: bool
    registration: Registration
    origin: NDArray[np.float64]

    @classmethod
    def of(cls, problem: Problem, solved: Solved, cameras: _Cameras) -> _Gauge:
        """By metric pairs, priors in the solve or given poses; else by the pairs' scales."""
        current, poses, known = solved.pairs.current, solved.pairs.solution.poses, solved.known
        is_metric = bool(current.fixed.any())
        if known.priors is not None and known.sources:
            priors = known.priors.select(solved.pairs.kept)
            is_metric = True
            size = 1.0 / priors.metric_scale_at(poses)
        elif is_metric:
            size = float(current.unit[current.fixed][0])
        else:
            size = float(np.exp((np.log(current.unit) - np.log(poses.scale)).mean()))
        in_size = _scaled(cameras.world_from_cam, size)
        registration = register(
            problem.views,
            in_size,
            size * cameras.viewing_distances(),
            is_metric,
            problem.config,
            known.rejected,
        )
        origin = registration.prior_from_world if registration.found else invert(in_size[0])
        return cls(size, is_metric, registration, origin)

    @property
    def unit(self) -> float:
        """World units per graph unit."""
        return self.size * self.registration.scale

    def poses(self, rigid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses (..., 4, 4) in the finished world."""
        return self.origin @ _scaled(rigid, self.unit)

    def motions(self, rigid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rigid motions (..., 4, 4) of the finished world."""
        return self.poses(rigid) @ invert(self.origin)


@dataclass(frozen=True, eq=False)
class _Scale:
    """What makes the world metric, how far what was given is from it, world units per unit of the
    pairs of unknown scale, and warnings."""

    sources: tuple[str, ...]
    checks: list[Comparison]
    factor: float
    warnings: list[str]

    @classmethod
    def of(cls, problem: Problem, solved: Solved, cameras: _Cameras, gauge: _Gauge) -> _Scale:
        """Of the world in its gauge."""
        views, current = problem.views, solved.pairs.current
        metric_pairs = [problem.predictions[e] for e in current.ids[current.fixed]]
        sources = scale_sources(metric_pairs, solved.known.sources, gauge.registration)
        checks = compare_with_priors(
            views,
            cameras.seen,
            _scaled(cameras.world_from_cam, gauge.size),
            gauge.size,
            gauge.registration,
            solved.known,
            sources,
            metric_pairs,
        )
        free = current.ids[~current.fixed]
        factor = scale_factor(solved.pairs_in(gauge)[0][free])
        rough = len(free) > 0 and all(problem.predictions[e].roughly_metric for e in free)
        warnings = [
            *no_scale_warning(views, sources),
            *unconfirmed_warning(views, metric_pairs),
            *scale_warnings(views, sources, gauge.registration, factor, rough),
        ]
        return cls(sources, checks, factor, warnings)


@dataclass(frozen=True, eq=False)
class _World:
    """The finished world, step by step."""

    problem: Problem
    solved: Solved
    cameras: _Cameras
    residuals: _Residuals
    correction: NDArray[np.float64]
    gauge: _Gauge
    scale: _Scale

    @classmethod
    def of(cls, problem: Problem, masks: MaskCache | None, solved: Solved) -> _World:
        """Cameras, their joint refinement, the gauge and the scale in it."""
        located = _Cameras.of(problem, solved)
        residuals = _Residuals.of(solved.pairs, located)
        correction = _refine(problem, masks, solved, located, residuals)
        cameras = located.moved(correction)
        gauge = _Gauge.of(problem, solved, cameras)
        scale = _Scale.of(problem, solved, cameras, gauge)
        return cls(problem, solved, cameras, residuals, correction, gauge, scale)

    def alignment(self, warnings: Sequence[str]) -> Alignment:
        """All of it, with these warnings first."""
        solved, gauge, residuals = self.solved, self.gauge, self.residuals
        result, registration = solved.pairs, gauge.registration
        ambiguous = self._ambiguities()
        used = np.zeros(len(solved.complete.edges), dtype=bool)
        used[result.current.ids] = True
        pair_scale, world_from_pair = solved.pairs_in(gauge)
        condition = result.solution.condition()
        return Alignment(
            edges=solved.complete.edges,
            world_from_pair=world_from_pair,
            pair_scale=pair_scale,
            world_from_cam=gauge.poses(self.cameras.world_from_cam),
            K=self.cameras.K,
            pair_residual=solved.of_all(residuals.of_pair * gauge.unit),
            view_residual=residuals.of_view * gauge.unit,
            pair_used=used,
            converged=result.converged and not ambiguous.tie,
            iterations=result.iterations,
            metric=gauge.is_metric or registration.found,
            in_prior_frame=registration.found,
            prior_residual=registration.residual,
            warnings=(*warnings, *self._warnings(condition, ambiguous)),
            stop_reason=ambiguous.tie or result.stop_reason(self.problem.config),
            pair_residual_px=solved.of_all(residuals.of_pair_px),
            view_residual_px=residuals.of_view_px,
            condition=condition,
            view_correction=gauge.motions(self.correction),
            scale_factor=self.scale.factor,
            scale_sources=self.scale.sources,
            registration_residual=largest_residual(self.scale.checks),
        )

    def _ambiguities(self) -> Ambiguities:
        """What the pairs leave open that given poses do not answer."""
        result, registration = self.solved.pairs, self.gauge.registration
        posed = np.flatnonzero(np.isfinite(registration.error) & ~registration.wrong)
        return ambiguities(
            result.graph.edges,
            result.kept,
            result.ambiguous,
            [view.name for view in self.problem.views],
            known=list(self.solved.known.relative_error),
            posed=posed.tolist() if registration.found else [],
        )

    def _warnings(self, condition: float, ambiguous: Ambiguities) -> list[str]:
        views = self.problem.views
        return [
            *self.cameras.warnings,
            *self.gauge.registration.warnings,
            *degeneracies(self.solved.pairs.current, condition, views),
            *ambiguous.warnings,
            *standing_out(self.residuals.of_view_px, views),
            *self.scale.warnings,
        ]


def _refine(
    problem: Problem,
    masks: MaskCache | None,
    solved: Solved,
    cameras: _Cameras,
    residuals: _Residuals,
) -> NDArray[np.float64]:
    """(N, 4, 4) rigid motions of the views, graph units, that make their surfaces agree."""
    result, views = solved.pairs, problem.views
    graph, poses, count = result.graph, result.poses, len(solved.complete.edges)
    scale, used = np.ones(count), np.zeros(count, dtype=bool)
    scale[graph.ids], used[graph.ids] = poses.scale / graph.unit, result.kept
    return refine_views(
        problem.surface_samples,
        views,
        masks,
        PosedPairs(scale, solved.rigid(), used),
        cameras.world_from_cam,
        cameras.K,
        residuals.typical,
        solved.known.deviations(len(views)),
    )


def _scaled(rigid: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Poses (..., 4, 4) in other units of length."""
    out = rigid.copy()
    out[..., :3, 3] *= scale
    return out
