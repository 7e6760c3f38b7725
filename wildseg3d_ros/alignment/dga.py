"""The steps of a dynamic global alignment, from pairs to cameras in one world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras import observe, solve_cameras
from wildseg3d_ros.alignment.graph import (
    Graph,
    build_graph,
    check_connected,
    check_pairs,
    choose_device,
    usable,
)
from wildseg3d_ros.alignment.placement import Poses, place
from wildseg3d_ros.alignment.rejection import find_wrong_pairs, pair_errors
from wildseg3d_ros.alignment.similarity import fit_similarities
from wildseg3d_ros.alignment.solver import Solution, observed_twice, solve
from wildseg3d_ros.alignment.world import register
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.errors import AlignmentError
from wildseg3d_ros.geometry.transforms import invert
from wildseg3d_ros.types import Alignment, MaskCache, PairPrediction, View

_REJECTIONS = 3
"""Rounds of leaving out wrong pairs: what is left may show up others."""


def align(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    config: AlignmentConfig,
    masks: MaskCache | None = None,
    start: Alignment | None = None,
) -> Alignment:
    """See :func:`wildseg3d_ros.alignment.align`."""
    check_pairs(predictions, views)
    device = choose_device(config.device)
    if not predictions:
        raise AlignmentError(
            f"there is no pair to align {len(views)} view(s) with; do the views overlap, and do "
            "they have points (depth in range, confidence above 0)?"
        )
    complete = build_graph(predictions, views, config, masks)
    enough = usable(complete)
    empty = [_pair_name(predictions[e], views) for e in np.flatnonzero(~enough)]
    check_connected(complete.edges[enough], views, empty)
    warnings = [f"pair {name} has too few points and is left out" for name in empty]

    graph = complete.select(enough)
    poses = _start(graph, start)
    graph = graph.to(device)
    losses = ("l1", "geman_mcclure") if start is None else ("geman_mcclure",)
    kept = np.ones(len(graph.edges), dtype=bool)
    solution = solve(graph, poses.to(device), losses, config.max_iterations, config.tolerance)
    iterations = solution.iterations
    current = graph
    for _ in range(_REJECTIONS):
        wrong, doubtful = find_wrong_pairs(current, solution)
        if not wrong.any():
            break
        kept[np.flatnonzero(kept)[wrong]] = False
        current = current.select(~wrong)
        solution = solve(
            current,
            solution.poses.select(~wrong),
            ("geman_mcclure",),
            config.max_iterations,
            config.tolerance,
        )
        iterations += solution.iterations
    for e in current.ids[doubtful]:
        warnings.append(
            f"pair {_pair_name(predictions[e], views)} contradicts the others but nothing else "
            "holds its views together; do not rely on how they lie to each other"
        )
    for e in graph.ids[~kept]:
        warnings.append(
            f"pair {_pair_name(predictions[e], views)} contradicts the others and is left out"
        )
    if not solution.converged:
        warnings.append(
            f"the alignment stopped after {iterations} passes with a last step of "
            f"{solution.step:.2g} (tolerance {config.tolerance:.2g}); raise max_iterations"
        )
    return _finish(views, complete, graph, current, kept, solution, iterations, warnings, empty)


def _start(graph: Graph, start: Alignment | None) -> Poses:
    """Poses to start from: a placement of its own, or an earlier answer completed by one."""
    if start is None:
        return place(graph)
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (a, b) in enumerate(start.edges):
        rows.setdefault((int(a), int(b)), []).append(row)
    source = np.full(len(graph.edges), -1)
    for e, (a, b) in enumerate(graph.edges):
        same = rows.get((int(a), int(b)))
        if same:
            source[e] = same.pop(0)
    finite = np.isfinite(start.world_from_pair).all((1, 2)) & (start.pair_scale > 0)
    is_known = (source >= 0) & finite[source]
    if not is_known.any():
        return place(graph)
    # Unknown pairs borrow row 0; place() replaces them.
    borrowed = np.where(is_known, source, 0)
    scale = start.pair_scale[borrowed] * graph.unit
    size = float(np.exp(np.log(scale[is_known]).mean()))
    if graph.fixed.any():
        size = (
            float(np.median(scale[is_known & graph.fixed]))
            if (is_known & graph.fixed).any()
            else size
        )
    poses = start.world_from_pair[borrowed]
    # Near the origin, translations keep their digits whatever frame the earlier world was in.
    origin = poses[is_known][:, :3, 3].mean(0)
    known = Poses(
        torch.from_numpy(np.where(graph.fixed, 1.0, scale / size)),
        torch.from_numpy(poses[:, :3, :3].copy()),
        torch.from_numpy((poses[:, :3, 3] - origin) / size),
    )
    return known if is_known.all() else place(graph, known, is_known)


def _finish(
    views: Sequence[View],
    complete: Graph,
    graph: Graph,
    current: Graph,
    kept: NDArray[np.bool_],
    solution: Solution,
    iterations: int,
    warnings: list[str],
    empty: list[str],
) -> Alignment:
    """Cameras, world frame and residuals of the solved pairs."""
    world, sure = solution.world.cpu().numpy(), solution.sure.cpu().numpy()
    seen = observe(current, solution.poses, world, sure)
    world_from_cam, K, camera_warnings = solve_cameras(views, seen, current.measured)
    warnings += camera_warnings

    poses = _fit_left_out(graph, kept, solution)
    metric = bool(current.fixed.any())
    size = _world_size(current, solution.poses)
    world_from_cam[:, :3, 3] *= size
    reach = np.array(
        [
            _median_distance(s.world[s.sure > 0] * size, pose[:3, 3])
            for s, pose in zip(seen, world_from_cam, strict=True)
        ]
    )
    registration = register(views, world_from_cam, reach, known_scale=metric)
    warnings += registration.warnings
    grow, move = registration.scale, registration.prior_from_world
    if not registration.found:
        move = invert(world_from_cam[0])
    world_from_cam[:, :3, 3] *= grow
    world_from_cam = move @ world_from_cam

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

    distance = _distances(graph, poses, solution) * size * grow
    pair_residual[graph.ids] = pair_errors(graph, distance, both=True)
    view_residual = _view_residual(current, solution) * size * grow
    return Alignment(
        edges=complete.edges,
        world_from_pair=world_from_pair,
        pair_scale=pair_scale,
        world_from_cam=world_from_cam,
        K=K,
        pair_residual=pair_residual,
        view_residual=view_residual,
        pair_used=used,
        converged=solution.converged,
        iterations=iterations,
        metric=metric or registration.found,
        in_prior_frame=registration.found,
        prior_residual=registration.residual,
        warnings=tuple(warnings),
    )


def _fit_left_out(graph: Graph, kept: NDArray[np.bool_], solution: Solution) -> Poses:
    """Poses of all pairs: solved ones, and the best fit of those that were left out."""
    device = graph.x.device
    if kept.all():
        return solution.poses
    left = np.flatnonzero(~kept)
    observation, edges = graph.observation[left], graph.edges[left]
    x = torch.cat([graph.x[observation[:, s]] for s in (0, 1)], 1)
    y = torch.cat([solution.world[edges[:, s]] for s in (0, 1)], 1)
    weight = torch.cat(
        [(graph.weight[observation[:, s]] * solution.sure[edges[:, s]]).sqrt() for s in (0, 1)], 1
    )
    fixed = torch.as_tensor(graph.fixed[left], device=device)
    parts = fit_similarities(x, y, weight, fixed)
    count = len(graph.edges)
    poses = Poses(
        solution.world.new_ones(count),
        solution.world.new_zeros((count, 3, 3)),
        solution.world.new_zeros((count, 3)),
    )
    solved = torch.as_tensor(np.flatnonzero(kept), device=device)
    rest = torch.as_tensor(left, device=device)
    for target, found, fitted in zip(
        (poses.scale, poses.rotation, poses.translation),
        (solution.poses.scale, solution.poses.rotation, solution.poses.translation),
        parts,
        strict=True,
    ):
        target[solved], target[rest] = found, fitted
    return poses


def _distances(graph: Graph, poses: Poses, solution: Solution) -> NDArray[np.float64]:
    """(O, n) distance of all observations to the world points; NaN where there is none."""
    view = torch.as_tensor(graph.view, device=graph.x.device)
    distance = (poses.observed(graph) - solution.world[view]).norm(dim=-1)
    known = (graph.weight > 0) & (solution.sure[view] > 0)
    return torch.where(known, distance, torch.nan).cpu().numpy()


def _view_residual(graph: Graph, solution: Solution) -> NDArray[np.float64]:
    """(N,) median residual by view; 0 where a single pair sees the view and nothing can differ."""
    residual = torch.where(observed_twice(graph), solution.residual, torch.nan).cpu().numpy()
    out = np.zeros(graph.view_count)
    for v, part in enumerate(graph.of_view):
        values = residual[part]
        values = values[np.isfinite(values)]
        out[v] = np.median(values) if values.size else 0.0
    return out


def _world_size(graph: Graph, poses: Poses) -> float:
    """World units per graph unit: metres, or such that the product of the scales is 1."""
    if graph.fixed.any():
        return float(graph.unit[graph.fixed][0])
    return float(np.exp((np.log(graph.unit) - poses.scale.log().cpu().numpy()).mean()))


def _median_distance(points: NDArray, centre: NDArray) -> float:
    return float(np.median(np.linalg.norm(points - centre, axis=1))) if len(points) else 1.0


def _pair_name(pair: PairPrediction, views: Sequence[View]) -> str:
    return f"('{views[pair.a].name}', '{views[pair.b].name}')"
