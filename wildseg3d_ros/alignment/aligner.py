"""The steps of a dynamic global alignment, from pairs to cameras in one world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed, observe, solve_cameras
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.samples import ViewSamples
from wildseg3d_ros.alignment.fusion.view_maps import PosedPairs
from wildseg3d_ros.alignment.fusion.view_surfaces import refine_views
from wildseg3d_ros.alignment.graph.graph import (
    Graph,
    build_graph,
    check_connected,
    check_pairs,
    components,
    pair_name,
    usable,
)
from wildseg3d_ros.alignment.graph.initialization import Poses, place
from wildseg3d_ros.alignment.graph.reads import Reads
from wildseg3d_ros.alignment.graph.warm_start import starting_poses
from wildseg3d_ros.alignment.priors.consistency import Verified, outvoted_pairs, verify
from wildseg3d_ros.alignment.priors.gauge import register
from wildseg3d_ros.alignment.priors.metric_scale import (
    compare_with_priors,
    largest_residual,
    no_scale_warning,
    refuse_contradictions,
    scale_factor,
    scale_sources,
    scale_warnings,
    unconfirmed_warning,
)
from wildseg3d_ros.alignment.priors.relative_poses import check_relative_poses
from wildseg3d_ros.alignment.solve.connectivity import doubts
from wildseg3d_ros.alignment.solve.gauss_newton import solve
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.observability import degeneracies
from wildseg3d_ros.alignment.solve.outliers import pair_errors
from wildseg3d_ros.alignment.solve.residuals import (
    median_by_view,
    refuse_beyond,
    reprojection_errors,
    standing_out,
)
from wildseg3d_ros.alignment.solve.robust import SolvedPairs, distances, fit_left_out, solve_pairs
from wildseg3d_ros.core.devices import one_thread, torch_device
from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import Alignment, MaskCache, PairPrediction, RelativePose, View


@one_thread()
def align(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    config: AlignmentConfig,
    masks: MaskCache | None = None,
    start: Alignment | None = None,
    relative_poses: Sequence[RelativePose] = (),
) -> Alignment:
    """See :func:`wildseg3d_ros.alignment.align`."""
    check_pairs(predictions, views)
    check_relative_poses(relative_poses, views)
    device = torch_device(config.device, "alignment.device")
    if not predictions:
        raise AlignmentError(
            f"there is no pair to align {len(views)} view(s) with; do the views overlap, and do "
            "they have points (depth in range, confidence above 0)?"
        )
    reads = Reads(start.reads if start is not None else None)
    complete = build_graph(predictions, views, config, masks, reads)
    enough = usable(complete)
    empty = [pair_name(predictions[int(e)], views) for e in np.flatnonzero(~enough)]
    check_connected(complete.edges[enough], views, empty)
    warnings = [f"pair {name} has too few points and is left out" for name in empty]

    graph = complete.select(enough)
    unchanged = np.array([reads.knows(predictions[e]) for e in graph.ids], dtype=bool)
    poses, kept = starting_poses(graph, start, unchanged)
    result = solve_pairs(graph.to(device), poses.to(device), kept, start is None, config)
    decided = _against_priors(views, result, config)
    if decided.any():
        warnings += [
            f"pair {pair_name(predictions[e], views)} contradicts another pair and the given "
            "pose, and is left out"
            for e in graph.ids[decided]
        ]
        graph = graph.select(~decided)
        everything = np.ones(len(graph.edges), dtype=bool)
        result = solve_pairs(graph.to(device), place(graph).to(device), everything, True, config)
    result, known = _with_priors(views, result, relative_poses, config)
    warnings += known.warnings
    warnings += [
        f"pair {pair_name(predictions[e], views)} contradicts the others but nothing else holds "
        "its views together; do not rely on how they lie to each other"
        for e in graph.ids[result.doubtful]
    ]
    warnings += [
        f"pair {pair_name(predictions[e], views)} contradicts the others and is left out"
        for e in graph.ids[~result.kept]
    ]
    if result.contradiction:
        warnings.append(result.contradiction)
    elif not result.solution.converged:
        warnings.append(f"{result.stop_reason(config)}; raise alignment.max_iterations")
    alignment = _finish(
        predictions,
        views,
        masks,
        complete,
        result,
        known,
        warnings,
        config,
        reads,
    )
    refuse_beyond(alignment, views, config)
    return alignment


def _against_priors(
    views: Sequence[View], result: SolvedPairs, config: AlignmentConfig
) -> NDArray[np.bool_]:
    """(E,) bool, pairs that priors decide against and that the views hold together without."""
    if not result.graph.fixed.all() or all(v.world_from_cam_prior is None for v in views):
        return np.zeros(len(result.graph.edges), dtype=bool)
    world, sure = result.solution.world.cpu().numpy(), result.solution.sure.cpu().numpy()
    seen = observe(result.current, result.solution.poses, world, sure)
    decided = outvoted_pairs(views, result.graph, seen, config)
    rest = result.graph.edges[~decided]
    return decided if len(components(len(views), rest)) == 1 else np.zeros_like(decided)


def _with_priors(
    views: Sequence[View],
    result: SolvedPairs,
    relative_poses: Sequence[RelativePose],
    config: AlignmentConfig,
) -> tuple[SolvedPairs, Verified]:
    """Solves once more with those priors that the pairs alone bear out."""
    is_told = relative_poses or any(
        view.world_from_cam_prior is not None or view.depth is not None for view in views
    )
    if not is_told:
        return result, Verified(None, (), ())
    solution = result.solution
    world, sure = solution.world.cpu().numpy(), solution.sure.cpu().numpy()
    seen = observe(result.current, solution.poses, world, sure)
    known = verify(views, result.graph, result.poses, result.kept, seen, relative_poses, config)
    if known.priors is None:
        return result, known
    solution = solve(
        result.current,
        solution.poses,
        config.loss,
        config.max_iterations,
        config.tolerance,
        known.priors.select(result.kept),
        is_near=True,
    )
    poses = fit_left_out(result.graph, result.kept, solution)
    distance = distances(result.graph, result.kept, poses, solution)
    iterations = result.iterations + solution.iterations
    done = replace(
        result, solution=solution, poses=poses, distance=distance, iterations=iterations
    )
    return done, known


def _finish(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    masks: MaskCache | None,
    complete: Graph,
    result: SolvedPairs,
    known: Verified,
    warnings: list[str],
    config: AlignmentConfig,
    reads: Reads,
) -> Alignment:
    """Cameras, world frame and residuals of the solved pairs."""
    graph, current, solution = result.graph, result.current, result.solution
    poses = result.poses
    world, sure = solution.world.cpu().numpy(), solution.sure.cpu().numpy()
    seen = observe(current, solution.poses, world, sure)
    world_from_cam, K, camera_warnings = solve_cameras(
        views, seen, current.measured, known.held(len(views)), config.trust_intrinsics
    )
    warnings += camera_warnings

    metric = bool(current.fixed.any())
    size = _world_size(current, solution.poses)
    if known.priors is not None:
        held = known.priors.select(result.kept)
        world_from_cam = held.hold(solution.poses, world_from_cam)
        if known.sources:
            metric, size = True, 1.0 / held.metre_at(solution.poses)
    pixels = reprojection_errors(graph, poses, world_from_cam, K)
    seen_twice = Observations(current).observed_twice()
    residual = torch.where(seen_twice, solution.residual, torch.nan).cpu().numpy()
    view_residual = median_by_view(current, residual)
    compared = view_residual[np.isfinite(view_residual)]
    correction = refine_views(
        ViewSamples.of(predictions, views),  # MERGE: the Aligner holds these.
        views,
        masks,
        _placed(complete, result),
        world_from_cam,
        K,
        float(np.median(compared)) if len(compared) else 0.0,
        known.deviations(len(views)),
    )
    world_from_cam = correction @ world_from_cam
    seen = [
        replace(s, world=apply(rigid, s.world)) for s, rigid in zip(seen, correction, strict=True)
    ]
    reach = size * _distances_of_views(seen, world_from_cam)
    world_from_cam[:, :3, 3] *= size
    registration = register(views, world_from_cam, reach, metric, config, known.outvoted)
    warnings += registration.warnings
    condition = solution.condition()
    warnings += degeneracies(current, condition, views)
    posed = [v for v, error in enumerate(registration.error) if np.isfinite(error)]
    left_open = doubts(
        graph.edges,
        result.kept,
        result.doubtful,
        [view.name for view in views],
        known=list(known.relative_error),
        posed=[v for v in posed if registration.found and not registration.wrong[v]],
    )
    warnings += left_open.warnings
    pixels_of_view = median_by_view(current, pixels[result.kept[graph.edge]])
    warnings += standing_out(pixels_of_view, views)
    grow, move = registration.scale, registration.prior_from_world
    metric_pairs = [predictions[e] for e in current.ids[current.fixed]]
    sources = scale_sources(metric_pairs, known, registration)
    warnings += no_scale_warning(views, sources) + unconfirmed_warning(views, metric_pairs)
    checks = compare_with_priors(
        views, seen, world_from_cam, size, registration, known, sources, metric_pairs
    )
    refuse_contradictions(checks, sources, known, registration, config)
    if not registration.found:
        move = invert(world_from_cam[0])
    world_from_cam[:, :3, 3] *= grow
    world_from_cam = move @ world_from_cam
    correction[:, :3, 3] *= size * grow
    correction = move @ correction @ invert(move)

    count = len(complete.edges)
    pair_scale, pair_residual = np.ones(count), np.full(count, np.nan)
    world_from_pair = np.tile(np.eye(4), (count, 1, 1))
    used = np.zeros(count, dtype=bool)
    used[current.ids] = True
    scale = poses.scale.cpu().numpy() * size * grow / graph.unit
    pair_scale[graph.ids] = np.where(graph.fixed, 1.0, scale)
    world_from_pair[graph.ids, :3, :3] = poses.rotation.cpu().numpy()
    world_from_pair[graph.ids, :3, 3] = poses.translation.cpu().numpy() * size * grow
    world_from_pair[graph.ids] = move @ world_from_pair[graph.ids]

    distance = result.distance * size * grow
    pair_residual[graph.ids] = pair_errors(graph, distance, both=True)
    pair_residual_px = np.full(count, np.nan)
    pair_residual_px[graph.ids] = pair_errors(graph, pixels, both=True)
    free = current.ids[~current.fixed]
    factor = scale_factor(pair_scale[free])
    rough = len(free) > 0 and all(predictions[e].roughly_metric for e in free)
    warnings += scale_warnings(views, sources, registration, factor, rough)
    return Alignment(
        edges=complete.edges,
        world_from_pair=world_from_pair,
        pair_scale=pair_scale,
        world_from_cam=world_from_cam,
        K=K,
        pair_residual=pair_residual,
        view_residual=view_residual * size * grow,
        pair_used=used,
        converged=result.converged and not left_open.tie,
        iterations=result.iterations,
        metric=metric or registration.found,
        in_prior_frame=registration.found,
        prior_residual=registration.residual,
        warnings=tuple(warnings),
        stop_reason=left_open.tie or result.stop_reason(config),
        pair_residual_px=pair_residual_px,
        view_residual_px=pixels_of_view,
        condition=condition,
        view_correction=correction,
        scale_factor=factor,
        scale_sources=sources,
        registration_residual=largest_residual(checks),
        reads=reads,
    )


def _world_size(graph: Graph, poses: Poses) -> float:
    """World units per graph unit: metres, or such that the product of the scales is 1."""
    if graph.fixed.any():
        return float(graph.unit[graph.fixed][0])
    return float(np.exp((np.log(graph.unit) - poses.scale.log().cpu().numpy()).mean()))


def _placed(complete: Graph, result: SolvedPairs) -> PosedPairs:
    """All pairs in the solved world, graph units."""
    graph, poses, count = result.graph, result.poses, len(complete.edges)
    scale, used = np.ones(count), np.zeros(count, dtype=bool)
    world_from_pair = np.tile(np.eye(4), (count, 1, 1))
    scale[graph.ids] = poses.scale.cpu().numpy() / graph.unit
    world_from_pair[graph.ids, :3, :3] = poses.rotation.cpu().numpy()
    world_from_pair[graph.ids, :3, 3] = poses.translation.cpu().numpy()
    used[graph.ids] = result.kept
    return PosedPairs(scale, world_from_pair, used)


def _distances_of_views(
    seen: Sequence[Observed], world_from_cam: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) median distance of each view's points from its camera."""
    return np.array(
        [
            np.median(np.linalg.norm(s.world[s.sure > 0] - pose[:3, 3], axis=1))
            if (s.sure > 0).any()
            else 1.0
            for s, pose in zip(seen, world_from_cam, strict=True)
        ]
    )
