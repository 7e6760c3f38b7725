"""One view onto a world that stands.

A view that is added or replaced is solved against the world pointmaps of the others. These enter
the graph as pairs of known scale that take no step, so that only the view's own pairs, its camera
and its surface are found: what it costs grows with the pairs of one view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed, observe, solve_cameras, towards
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.view_maps import PosedPairs, observations_of
from wildseg3d_ros.alignment.fusion.view_surfaces import surface_of
from wildseg3d_ros.alignment.graph.graph import (
    build_graph,
    check_connected,
    check_pairs,
    pair_name,
    usable,
)
from wildseg3d_ros.alignment.graph.initialization import Poses, place
from wildseg3d_ros.alignment.solve.outliers import pair_errors
from wildseg3d_ros.alignment.solve.residuals import (
    median_by_view,
    refuse_beyond,
    reprojection_errors,
)
from wildseg3d_ros.alignment.solve.robust import SolvedPairs, solve_pairs
from wildseg3d_ros.alignment.surfaces.correspondences import Surface, grid_of, lower_median
from wildseg3d_ros.alignment.surfaces.joint_refinement import MotionPrior, refine_jointly
from wildseg3d_ros.core.devices import one_thread, torch_device
from wildseg3d_ros.core.errors import AlignmentError, InputError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import Alignment, MaskCache, PairPrediction, View, WorldPointmaps

_CONTRADICTS = 4.0
"""A given pose is not believed beyond this many times of what it and the pairs may be off."""


@one_thread()
def align_view(
    pairs: Sequence[PairPrediction],
    views: Sequence[View],
    changed: int,
    start: Alignment,
    world: WorldPointmaps,
    config: AlignmentConfig,
    masks: MaskCache | None = None,
) -> Alignment:
    """See :func:`wildseg3d_ros.alignment.align_view`."""
    _check(pairs, views, changed)
    near = _Neighbourhood.of_pairs(pairs, views, changed, world, masks)
    device = torch_device(config.device, "alignment.device")

    result, ids, warnings = _solve(near, start, device, config)
    graph, seen = result.graph, _observe(result)[near.here]
    # World units per unit of the graph; the world's own pairs are of known scale.
    unit = float(graph.unit[graph.fixed][0])
    placed = _place(result, ids, unit, len(near.predictions))
    here, held = [near.here], np.zeros(1, dtype=bool)
    camera, K, notes = solve_cameras(
        [views[changed]], [seen], result.current.measured[here], held, config.trust_intrinsics
    )
    camera[0, :3, 3] *= unit
    cameras, intrinsics = near.cameras(start, camera[0], K[0])
    pixels = _pixels(result, cameras, intrinsics, unit)
    distance = result.distance * unit
    residual = _of_view(result, near.here, distance)
    typical = float(np.nan_to_num(residual))
    far = np.linalg.norm(unit * seen.world[seen.sure > 0] - camera[0, :3, 3], axis=1)
    prior = _Prior.of(views[changed], start, typical, float(np.median(far)), config)
    pulled = prior.pull(camera[0]) @ invert(camera[0])
    correction = _settle(near, placed, cameras, intrinsics, world, typical, prior, pulled)
    pose = correction @ camera[0]
    error, told = prior.compare(pose)
    warnings += near.unchecked(placed.used)

    count = len(pairs)
    found = {
        "world_from_pair": placed.world_from_pair[:count],
        "pair_scale": placed.scale[:count],
        "pair_used": placed.used[:count],
        "pair_residual": _by_pair(result, ids, distance, len(near.predictions))[:count],
        "pair_residual_px": _by_pair(result, ids, pixels, len(near.predictions))[:count],
    }
    of_view = {
        "world_from_cam": pose,
        "K": K[0],
        "view_residual": residual,
        "view_residual_px": _of_view(result, near.here, pixels),
        "prior_residual": error,
        "view_correction": correction,
    }
    kept = (start.edges != changed).all(1)
    name = f"'{views[changed].name}'"
    alignment = replace(
        start,
        edges=_rows_with(start.edges, kept, np.array([(p.a, p.b) for p in pairs])),
        converged=result.converged,
        iterations=result.iterations,
        condition=result.solution.condition(),
        stop_reason=f"view {name} was solved onto the others: {result.stop_reason(config)}",
        warnings=(*(w for w in start.warnings if name not in w), *warnings, *notes, *told),
        reads=None,
        **{key: _rows_with(getattr(start, key), kept, part) for key, part in found.items()},
        **{
            key: _view_with(getattr(start, key), changed, len(views), part)
            for key, part in of_view.items()
        },
    )
    refuse_beyond(alignment, views, config)
    return alignment


def _check(pairs: Sequence[PairPrediction], views: Sequence[View], changed: int) -> None:
    if not 0 <= changed < len(views):
        raise InputError(
            f"the changed view is number {changed}; expected an index of the {len(views)} views"
        )
    check_pairs(pairs, views)
    name = views[changed].name
    if not pairs:
        raise AlignmentError(
            f"there is no pair that sees the changed view '{name}'; does it overlap with the "
            "others, and does it have points?"
        )
    for pair in pairs:
        if changed not in (pair.a, pair.b):
            raise InputError(
                f"pair {pair_name(pair, views)} does not see the changed view '{name}'; give the "
                "pairs that do, or align all anew"
            )


@dataclass(frozen=True, eq=False)
class _Neighbourhood:
    """The changed view and those it shares pairs with, as a problem of its own.

    Attributes:
        of: index of each view among all; here: place of the changed one in it.
        views, masks: of these views.
        new: pairs of the changed view; world: pairs of the other views' world pointmaps.
    """

    of: list[int]
    here: int
    views: list[View]
    masks: MaskCache | None
    new: list[PairPrediction]
    world: list[PairPrediction]

    @classmethod
    def of_pairs(
        cls,
        pairs: Sequence[PairPrediction],
        views: Sequence[View],
        changed: int,
        world: WorldPointmaps,
        masks: MaskCache | None,
    ) -> _Neighbourhood:
        """What the changed view's pairs (all that are given) touch."""
        of = sorted({v for pair in pairs for v in (pair.a, pair.b)})
        place_of = {v: k for k, v in enumerate(of)}
        others = [k for k, v in enumerate(of) if v != changed]
        if len(others) == 1:
            # It takes two views to make a pair: the one stands beside itself.
            of.append(of[others[0]])
            others.append(len(of) - 1)
        second = others[1::2]
        standing = [
            PairPrediction(
                k,
                m,
                world.points[of[k]],
                world.points[of[m]],
                world.confidence[of[k]],
                world.confidence[of[m]],
                metric=True,
            )
            for k, m in zip(others[::2], second + others[: len(others) % 2], strict=True)
        ]
        local = None
        if masks is not None:
            local = MaskCache(
                tuple(masks.labels[v] for v in of), tuple(masks.scores[v] for v in of), ()
            )
        return cls(
            of,
            place_of[changed],
            [views[v] for v in of],
            local,
            [replace(p, a=place_of[p.a], b=place_of[p.b]) for p in pairs],
            standing,
        )

    @property
    def predictions(self) -> list[PairPrediction]:
        """All pairs, the new ones first."""
        return [*self.new, *self.world]

    def is_standing(self) -> NDArray[np.bool_]:
        """(E,) bool: pairs that are the world."""
        return np.arange(len(self.predictions)) >= len(self.new)

    def unchecked(self, used: NDArray[np.bool_]) -> list[str]:
        """A warning where only one view holds the changed one."""
        others = {
            p.b if p.a == self.here else p.a for p, u in zip(self.new, used, strict=False) if u
        }
        if len(others) > 1:
            return []
        names = [self.views[k].name for k in (*others, self.here)]
        return [f"view '{names[-1]}' is held by '{names[0]}' alone; nothing checks where it lies"]

    def cameras(
        self, start: Alignment, camera: NDArray[np.float64], K: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Poses and intrinsics of these views, the changed one's as given."""
        known = [min(v, len(start.K) - 1) for v in self.of]
        cameras, intrinsics = start.world_from_cam[known].copy(), start.K[known].copy()
        cameras[self.here], intrinsics[self.here] = camera, K
        return cameras, intrinsics


def _solve(
    near: _Neighbourhood, start: Alignment, device: torch.device, config: AlignmentConfig
) -> tuple[SolvedPairs, NDArray[np.int64], list[str]]:
    """The solved pairs, their index among the neighbourhood's, and warnings."""
    graph = build_graph(near.predictions, near.views, config, near.masks)
    held = near.is_standing()
    enough = usable(graph) | held
    names = [pair_name(pair, near.views) for pair in near.predictions]
    empty = [names[e] for e in np.flatnonzero(~enough)]
    check_connected(graph.edges[enough], near.views, empty)
    graph, held = graph.select(enough), held[enough]
    # A point of the world stands for all the pairs that it is the mean of.
    behind = [np.count_nonzero(start.edges[start.pair_used] == v) for v in near.of]
    stands_for = np.where(held[graph.edge], np.maximum(behind, 1)[graph.view], 1)
    graph.weight.mul_(torch.from_numpy(stands_for)[:, None])
    poses = place(graph, _identities(len(held)), held).to(device)
    result = solve_pairs(
        graph.to(device), poses, np.ones(len(held), dtype=bool), True, config, held
    )
    warnings = [f"pair {name} has too few points and is left out" for name in empty]
    warnings += [
        f"pair {names[e]} contradicts the others and is left out" for e in graph.ids[~result.kept]
    ]
    warnings += [
        f"pair {names[e]} contradicts the others but nothing else holds its views together; do "
        "not rely on how they lie to each other"
        for e in graph.ids[result.doubtful]
    ]
    if not result.converged:
        warnings.append(result.stop_reason(config))
    return result, graph.ids, warnings


def _identities(count: int) -> Poses:
    eye = torch.eye(3, dtype=torch.float64).expand(count, 3, 3).clone()
    return Poses(torch.ones(count, dtype=torch.float64), eye, torch.zeros(count, 3).double())


def _observe(result: SolvedPairs) -> list[Observed]:
    solution = result.solution
    world, sure = solution.world.cpu().numpy(), solution.sure.cpu().numpy()
    return observe(result.current, solution.poses, world, sure)


def _place(result: SolvedPairs, ids: NDArray[np.int64], unit: float, count: int) -> PosedPairs:
    """The neighbourhood's pairs in the world."""
    graph, poses = result.graph, result.poses
    scale, used = np.ones(count), np.zeros(count, dtype=bool)
    world_from_pair = np.tile(np.eye(4), (count, 1, 1))
    free = poses.scale.cpu().numpy() * unit / graph.unit
    scale[ids] = np.where(graph.fixed, 1.0, free)
    world_from_pair[ids, :3, :3] = poses.rotation.cpu().numpy()
    world_from_pair[ids, :3, 3] = poses.translation.cpu().numpy() * unit
    used[ids] = result.kept
    return PosedPairs(scale, world_from_pair, used)


def _pixels(
    result: SolvedPairs,
    cameras: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    unit: float,
) -> NDArray[np.float64]:
    """(O, n) reprojection errors."""
    in_units = cameras.copy()
    in_units[:, :3, 3] /= unit
    return reprojection_errors(result.graph, result.poses, in_units, intrinsics)


def _by_pair(
    result: SolvedPairs, ids: NDArray[np.int64], values: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    out = np.full(count, np.nan)
    out[ids] = pair_errors(result.graph, values, both=True)
    return out


def _of_view(result: SolvedPairs, view: int, values: NDArray[np.float64]) -> float:
    """Median over the used pairs' points of a view; NaN where nothing can differ."""
    used = np.where(result.kept[result.graph.edge][:, None], values, np.nan)
    return float(median_by_view(result.graph, used)[view])


def _settle(
    near: _Neighbourhood,
    pairs: PosedPairs,
    cameras: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    world: WorldPointmaps,
    residual: float,
    prior: _Prior,
    pulled: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(4, 4) rigid motion of the changed view onto what the others see, after ``pulled``."""
    surfaces = []
    for k, v in enumerate(near.of):
        scores = None if near.masks is None else near.masks.scores[k]
        if k != near.here:
            surfaces.append(_standing_surface(world, v, intrinsics[k], cameras[k]))
            continue
        seen = observations_of(near.new, _first(pairs, len(near.new)), k)
        if not seen:
            return pulled
        size = near.views[k].size
        surface = surface_of(seen, size, scores, intrinsics[k], cameras[k])
        surfaces.append(surface.moved(pulled))
    mine = surfaces[near.here]
    deviations = (residual / mine.depth(), prior.position, prior.rotation)
    motion = MotionPrior(*(np.full(len(surfaces), value) for value in deviations))
    return refine_jointly(surfaces, motion, only=near.here)[near.here] @ pulled


def _first(pairs: PosedPairs, count: int) -> PosedPairs:
    return PosedPairs(pairs.scale[:count], pairs.world_from_pair[:count], pairs.used[:count])


def _standing_surface(
    world: WorldPointmaps,
    view: int,
    K: NDArray[np.float64],
    world_from_cam: NDArray[np.float64],
) -> Surface:
    rows, cols = grid_of(world.confidence[view].shape)
    grid = np.ix_(rows, cols)
    points, weight = world.points[view][grid], world.confidence[view][grid]
    weight = weight / np.float32(lower_median(weight[weight > 0], 1.0))
    return Surface(points, weight, rows, cols, K, world_from_cam)


@dataclass(frozen=True, eq=False)
class _Prior:
    """What is known of the changed view's camera beforehand, in the world's frame.

    Attributes:
        name: of the view; pose: (4, 4), None where nothing can be compared.
        position, rotation: its deviations [m, rad], inf where they are not said.
        residual: by which the view's pairs contradict each other; reach: viewing distance [m].
        limit: error at the viewing distance beyond which a warning is due, 0 for never [m].
    """

    name: str
    pose: NDArray[np.float64] | None
    position: float
    rotation: float
    residual: float
    reach: float
    limit: float

    @classmethod
    def of(
        cls, view: View, start: Alignment, residual: float, reach: float, config: AlignmentConfig
    ) -> _Prior:
        """That of a view, if the world is in the frame of given poses."""
        pose = view.world_from_cam_prior if start.in_prior_frame else None
        position = view.prior_translation_sigma or config.prior_translation_sigma or np.inf
        rotation = view.prior_rotation_sigma or config.prior_rotation_sigma or np.inf
        if pose is None:
            position = rotation = np.inf
        limit = config.max_prior_residual
        return cls(view.name, pose, position, rotation, residual, reach, limit)

    def pull(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean of the found and the given pose, weights by their variances; the found one
        where the given one contradicts it."""
        if self.pose is None or not np.isfinite([self.position, self.rotation]).all():
            return found
        error, angle = self._off(found)
        expected = self.residual + self.position + self.rotation * self.reach
        if error + angle * self.reach > _CONTRADICTS * expected:
            return found
        turned = self.residual / self.reach
        shares = (
            self.residual**2 / max(self.residual**2 + self.position**2, 1e-300),
            turned**2 / max(turned**2 + self.rotation**2, 1e-300),
        )
        return towards(found, self.pose, *shares)

    def compare(self, pose: NDArray[np.float64]) -> tuple[float, list[str]]:
        """Metres between found and given position, and a warning where the poses contradict."""
        if self.pose is None:
            return np.nan, []
        error, angle = self._off(pose)
        off = error + angle * self.reach
        expected = self.residual + self.position + self.rotation * self.reach
        if off <= _CONTRADICTS * expected and (self.limit <= 0 or off <= self.limit):
            return error, []
        text = (
            f"the given pose of '{self.name}' differs from what the cameras see by {error:.3g} m "
            f"and {np.degrees(angle):.3g} deg; the images are believed"
        )
        return error, [text]

    def _off(self, pose: NDArray[np.float64]) -> tuple[float, float]:
        assert self.pose is not None
        turn = rotation_angle(self.pose[:3, :3].T @ pose[:3, :3])
        return float(np.linalg.norm(pose[:3, 3] - self.pose[:3, 3])), turn


def _rows_with(before: NDArray, kept: NDArray[np.bool_], new: NDArray) -> NDArray:
    """Values of all pairs: those that are kept, then the new ones."""
    return np.concatenate([before[kept], new]) if len(before) else before


def _view_with(
    before: NDArray, changed: int, count: int, value: NDArray[np.float64] | float
) -> NDArray:
    """Values of all views, with that of the changed (or added) one."""
    if not len(before):
        return before
    out = before[np.minimum(np.arange(count), len(before) - 1)].copy()
    out[changed] = value
    return out
