"""One view onto a world that stands.

A view that is added or replaced is solved against the world pointmaps of the others. These enter
the graph as pairs of known scale that take no step, so that only the view's own pairs, its camera
and its surface are found: what it costs grows with the pairs of one view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.assembly import pair_medians, posed_pairs, scaled
from wildseg3d_ros.alignment.camera_verdicts import camera_verdict
from wildseg3d_ros.alignment.cameras.resection import Observed, interpolate_pose, solve_cameras
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.fusion.view_maps import PosedPairs
from wildseg3d_ros.alignment.fusion.view_surfaces import surface_of
from wildseg3d_ros.alignment.given import HONEST_SIGMA, PoseFinding
from wildseg3d_ros.alignment.graph.graph import check_pairs, pair_name, usable_pairs
from wildseg3d_ros.alignment.graph.initialization import Poses, initialize
from wildseg3d_ros.alignment.graph.medians import lower_median
from wildseg3d_ros.alignment.graph.pair_maps import maps_of
from wildseg3d_ros.alignment.graph.sampling import build_graph
from wildseg3d_ros.alignment.priors.factors import DATA_SIGMA
from wildseg3d_ros.alignment.priors.gauge import prior_sigmas
from wildseg3d_ros.alignment.solve.residuals import (
    median_by_view,
    refuse_beyond,
    reprojection_errors,
)
from wildseg3d_ros.alignment.solve.robust import SolvedPairs, solve_pairs
from wildseg3d_ros.alignment.surfaces.correspondences import Surface, grid_of
from wildseg3d_ros.alignment.surfaces.joint_refinement import MotionPrior, refine_jointly
from wildseg3d_ros.core.devices import blas_on_one_thread
from wildseg3d_ros.core.errors import AlignmentError, InputError
from wildseg3d_ros.core.geometry.factor_graph import outlier_limit
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import Alignment, MaskCache, PairPrediction, View, WorldPointmaps


@blas_on_one_thread()
def align_view(
    pairs: Sequence[PairPrediction],
    views: Sequence[View],
    changed: int,
    start: Alignment,
    world: WorldPointmaps,
    config: AlignmentConfig,
    masks: MaskCache | None = None,
) -> Alignment:
    """Brings one view that was added or replaced into a world that stands.

    Its pairs, camera and surface are solved against the other views' world pointmaps, which stay
    where they are: what is known of objects elsewhere keeps its place to the last digit. A fresh
    :func:`align` of everything would move the others by a part of their own error.

    Args:
        pairs: one or more, all with the changed view. Nothing is asked of the other pairs.
        views: all of them; an added view is the last.
        changed: index of the view.
        start: of the other views (and of the changed one before); world: :func:`fuse` of it.
        masks: as for :func:`align`; those of the changed view may be the new ones.

    Returns:
        ``start`` with the view's rows replaced, and its pairs after those of the others.

    Raises:
        AlignmentError: no pair connects the view. InputError: pairs without the view. Others: as
            of :func:`align`.
    """
    near = _Neighbourhood.of_pairs(pairs, views, changed, world, masks)
    result, warnings = _solve(near, start, config)
    here, count = near.here, len(near.new) + len(near.standing)
    unit = float(result.graph.unit[result.graph.fixed][0])
    seen, distance = result.observed()[here], unit * result.distance
    cameras, K, notes = _place_camera(near, start, result, seen, config)
    pixels = reprojection_errors(result.graph, result.poses, cameras, K)
    viewing_distance = unit * seen.viewing_distance(cameras[here])
    cameras = scaled(cameras, unit)

    residual = near.median(result, distance)
    posed = posed_pairs(result, count, unit)
    witnesses = near.witnesses(posed.used[: len(pairs)])
    is_checked = bool(witnesses)
    prior = _Prior.of(views[changed], start, config, residual, viewing_distance, is_checked)
    correction = _refine(near, posed, cameras, K, prior)
    pose = correction @ cameras[here]
    of_pairs = {
        "world_from_pair": posed.world_from_pair,
        "pair_scale": posed.scale,
        "pair_used": posed.used,
        "pair_residual": pair_medians(result, count, distance),
        "pair_residual_px": pair_medians(result, count, pixels),
    }
    of_view = {
        "world_from_cam": pose,
        "K": K[here],
        "view_residual": residual,
        "view_residual_px": near.median(result, pixels),
        "prior_residual": prior.compare(pose)[0],
        "view_correction": correction,
    }
    doubt, unchecked = near.unchecked(witnesses)
    warnings += [*unchecked, *notes]
    warnings += prior.warnings(views[changed], pose, config)
    verdict = camera_verdict(
        views[changed],
        pose if start.in_prior_frame else None,
        viewing_distance,
        prior.finding(pose),
        ("unchecked", doubt) if doubt else None,
    )
    stop_reason = result.stop_reason(config)
    alignment = replace(
        _merged(near, start, of_pairs, of_view, warnings),
        # Where no verdicts were passed on the others there is none on this one.
        cameras=start.cameras
        and (*start.cameras[:changed], verdict, *start.cameras[changed + 1 :]),
        converged=result.converged,
        iterations=result.iterations,
        condition=result.solution.condition(),
        stop_reason=f"view '{views[changed].name}' was solved onto the others: {stop_reason}",
    )
    refuse_beyond(alignment, views, config)
    return alignment


@dataclass(frozen=True, eq=False)
class _Neighbourhood:
    """The changed view and those it shares pairs with, as a problem of its own.

    Attributes:
        scene: all views; changed: index of the one; world: pointmaps of the others.
        of: index of each neighbour among all; here: place of the changed view in it.
        views, masks: of the neighbours.
        new: pairs of the changed view; standing: pairs of the others' world pointmaps.
    """

    scene: Sequence[View]
    changed: int
    world: WorldPointmaps
    of: list[int]
    here: int
    views: list[View]
    masks: MaskCache | None
    new: list[PairPrediction]
    standing: list[PairPrediction]

    @classmethod
    def of_pairs(
        cls,
        pairs: Sequence[PairPrediction],
        views: Sequence[View],
        changed: int,
        world: WorldPointmaps,
        masks: MaskCache | None,
    ) -> _Neighbourhood:
        """What the changed view's pairs (all that are given) touch.

        Raises:
            InputError: no such view, or pairs without it. AlignmentError: no pair.
        """
        _check(pairs, views, changed)
        of = sorted({v for pair in pairs for v in (pair.a, pair.b)})
        place_of = {v: k for k, v in enumerate(of)}
        others = [k for k, v in enumerate(of) if v != changed]
        if len(others) == 1:
            # It takes two views to make a pair: the one stands beside itself.
            of.append(of[others[0]])
            others.append(len(of) - 1)
        second = others[1::2] + others[: len(others) % 2]  # of an odd number, last with first
        points = {k: world.points[of[k]] for k in others}
        confidence = {k: world.confidence[of[k]] for k in others}
        standing = [
            PairPrediction(k, m, points[k], points[m], confidence[k], confidence[m], metric=True)
            for k, m in zip(others[::2], second, strict=True)
        ]
        local = None
        if masks is not None:
            labels = tuple(masks.labels[v] for v in of)
            local = MaskCache(labels, tuple(masks.scores[v] for v in of), ())
        new = [replace(p, a=place_of[p.a], b=place_of[p.b]) for p in pairs]
        near = [views[v] for v in of]
        return cls(views, changed, world, of, place_of[changed], near, local, new, standing)

    def median(self, result: SolvedPairs, values: NDArray[np.float64]) -> float:
        """Median of values (O, n) over the used pairs' points of the changed view; NaN where
        nothing can differ."""
        used = np.where(result.kept[result.graph.edge][:, None], values, np.nan)
        return float(median_by_view(result.graph, used)[self.here])

    def witnesses(self, used: NDArray[np.bool_]) -> list[int]:
        """Neighbours that measure where the changed view lies. A doubtful pair repeats what is
        given."""
        pairs = zip(self.new, used, strict=False)
        kept = [pair for pair, is_used in pairs if is_used and not pair.doubtful]
        return sorted({v for pair in kept for v in (pair.a, pair.b)} - {self.here})

    def unchecked(self, witnesses: Sequence[int]) -> tuple[str, list[str]]:
        """Why the changed view is unchecked, and a warning; empty where two witnesses agree."""
        if len(witnesses) > 1:
            return "", []
        name = self.views[self.here].name
        if not witnesses:
            why = "nothing measured checks its given pose"
            return why, [f"nothing measured checks where view '{name}' lies"]
        only = self.views[witnesses[0]].name
        return "a single other view constrains it", [
            f"only '{only}' constrains view '{name}'; nothing checks where it lies"
        ]


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


def _solve(
    near: _Neighbourhood, start: Alignment, config: AlignmentConfig
) -> tuple[SolvedPairs, list[str]]:
    """The solved pairs, the changed view's first, and warnings."""
    predictions, count = [*near.new, *near.standing], len(near.new)
    names = [pair_name(pair, near.views) for pair in predictions]
    graph = build_graph(predictions, near.views, config, near.masks)
    graph, warnings = usable_pairs(graph, names, near.views, first_fixed=count)
    fixed = graph.ids >= count
    # A point of the world stands for all the pairs that it is the mean of.
    behind = [np.count_nonzero(start.edges[start.pair_used] == v) for v in near.of]
    stands_for = np.where(fixed[graph.edge], np.maximum(behind, 1)[graph.view], 1)
    graph = replace(graph, weight=graph.weight * stands_for[:, None])
    poses = initialize(graph, Poses.identities(len(fixed)), fixed)
    result = solve_pairs(graph, poses, config, fixed_pairs=fixed)
    return result, warnings + result.warnings(names, config)


def _place_camera(
    near: _Neighbourhood,
    start: Alignment,
    result: SolvedPairs,
    seen: Observed,
    config: AlignmentConfig,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Poses (n, 4, 4) [graph units] and intrinsics (n, 3, 3) of the neighbours, the changed view's
    by what its pairs see, and warnings."""
    view, measured = near.views[near.here], result.current.measured[[near.here]]
    (pose,), (K,), notes = solve_cameras(
        [view], [seen], measured, np.zeros(1, dtype=bool), config.trust_intrinsics
    )
    # An added view has no row yet: it borrows the last one, and its own is written over it.
    known = [min(v, len(start.K) - 1) for v in near.of]
    unit = np.ones((4, 4))
    unit[:3, 3] = result.graph.unit[result.graph.fixed][0]
    is_changed = (np.arange(len(known)) == near.here)[:, None, None]
    cameras = np.where(is_changed, pose, start.world_from_cam[known] / unit)
    return cameras, np.where(is_changed, K, start.K[known]), notes


def _refine(
    near: _Neighbourhood,
    pairs: PosedPairs,
    cameras: NDArray[np.float64],
    K: NDArray[np.float64],
    prior: _Prior,
) -> NDArray[np.float64]:
    """(4, 4) rigid motion of the changed view, onto its prior and then onto what the others
    see, with the cameras (n, 4, 4) and intrinsics (n, 3, 3) of the neighbours."""
    pose = cameras[near.here]
    pulled = prior.pull(pose) @ invert(pose)
    seen = pairs.observations(maps_of(near.new, near.here))
    if not seen:
        return pulled
    scores = None if near.masks is None else near.masks.scores[near.here]
    size = near.views[near.here].size
    surface = surface_of(seen, size, scores, K[near.here], pose).moved(pulled)
    surfaces = [
        surface if k == near.here else _standing_surface(near.world, v, K[k], cameras[k])
        for k, v in enumerate(near.of)
    ]
    sigmas = (prior.residual / surface.depth(), prior.position, prior.rotation)
    motion = MotionPrior(*(np.full(len(surfaces), sigma) for sigma in sigmas))
    return refine_jointly(surfaces, motion, only=near.here)[near.here] @ pulled


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
        pose: (4, 4), None where nothing can be compared.
        position, rotation: its deviations [m, rad], inf where they are not said.
        expected: (2,) by which it is expected to differ, per axis [m, rad].
        residual: by which the view's pairs contradict each other; distance: viewing distance [m].
        is_checked: whether anything measured could contradict it.
    """

    pose: NDArray[np.float64] | None
    position: float
    rotation: float
    expected: NDArray[np.float64]
    residual: float
    distance: float
    is_checked: bool

    @classmethod
    def of(
        cls,
        view: View,
        start: Alignment,
        config: AlignmentConfig,
        residual: float,
        distance: float,
        is_checked: bool,
    ) -> _Prior:
        """Of the changed view; none where the world's frame is not that of given poses."""
        residual = float(np.nan_to_num(residual))
        said = np.array(prior_sigmas(view, config))
        off = max(residual, DATA_SIGMA * distance) * np.array([1.0, 1.0 / distance])
        expected = np.hypot(said if said.all() else HONEST_SIGMA, off)
        if view.world_from_cam_prior is None or not start.in_prior_frame:
            return cls(None, np.inf, np.inf, expected, residual, distance, is_checked)
        position, rotation = np.where(said > 0, said, np.inf).tolist()
        given = view.world_from_cam_prior
        return cls(given, position, rotation, expected, residual, distance, is_checked)

    def warnings(
        self, view: View, pose: NDArray[np.float64], config: AlignmentConfig
    ) -> list[str]:
        """Where the found pose contradicts the given one, or differs by more than is allowed."""
        finding = self.finding(pose)
        if finding is None:
            return []
        error, angle = self.compare(pose)
        is_beyond = 0 < config.max_prior_residual < error + angle * self.distance
        if finding.used and not is_beyond:
            return []
        text = (
            f"the given pose of '{view.name}' differs from what the cameras see by {error:.3g} m "
            f"and {np.degrees(angle):.3g} deg; the images are believed"
        )
        return [text]

    def pull(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean of the found and the given pose, weights by their variances; the found one
        where the given one contradicts it."""
        finding = self.finding(found)
        if self.pose is None or finding is None or not finding.used:
            return found
        if np.isinf(self.position + self.rotation):
            return found
        angle = self.residual / self.distance
        shares = (
            self.residual**2 / max(self.residual**2 + self.position**2, 1e-300),
            angle**2 / max(angle**2 + self.rotation**2, 1e-300),
        )
        return interpolate_pose(found, self.pose, *shares)

    def compare(self, pose: NDArray[np.float64]) -> tuple[float, float]:
        """Metres and rad between a pose and the given one, NaN without one."""
        if self.pose is None:
            return np.nan, np.nan
        translation = float(np.linalg.norm(pose[:3, 3] - self.pose[:3, 3]))
        return translation, rotation_angle(self.pose[:3, :3].T @ pose[:3, :3])

    def finding(self, pose: NDArray[np.float64]) -> PoseFinding | None:
        """What a found pose says about the given one; None without one."""
        if self.pose is None:
            return None
        position, rotation = self.expected.tolist()
        if not self.is_checked:
            return PoseFinding(True, np.nan, (position, rotation), False)
        deviations = float(np.linalg.norm(np.array(self.compare(pose)) / self.expected))
        return PoseFinding(deviations <= outlier_limit(6), deviations, (position, rotation), True)


def _merged(
    near: _Neighbourhood,
    start: Alignment,
    of_pairs: dict[str, NDArray],
    of_view: dict[str, NDArray | float],
    warnings: Sequence[str],
) -> Alignment:
    """``start`` with the rows of the changed view replaced, its pairs after those of the others,
    and these warnings after those that do not name it.

    Args:
        of_pairs, of_view: values of the solved pairs, its own first, and of the view, by attribute
            of ``start``. Attributes that are empty there stay so.
    """
    kept = (start.edges != near.changed).all(1)
    which = np.minimum(np.arange(len(near.scene)), len(start.K) - 1)
    edges = np.array([(near.of[pair.a], near.of[pair.b]) for pair in near.new])
    rows: dict[str, NDArray] = {"edges": np.concatenate([start.edges[kept], edges])}
    for key, new in of_pairs.items():
        if len(before := getattr(start, key)):
            rows[key] = np.concatenate([before[kept], new[: len(edges)]])
    for key, value in of_view.items():
        if len(before := getattr(start, key)):
            rows[key] = before[which].copy()
            rows[key][near.changed] = value
    name = f"'{near.scene[near.changed].name}'"
    others = [text for text in start.warnings if name not in text]
    return replace(start, warnings=(*others, *warnings), **rows)
