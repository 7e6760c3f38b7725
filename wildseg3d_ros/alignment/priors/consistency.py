"""Which priors the images bear out: the others are outvoted and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed, mean_pose
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.priors.camera_poses import Spread, judge_poses, spread_of
from wildseg3d_ros.alignment.priors.factors import Priors, ScaleRows, pose_rows, scale_rows
from wildseg3d_ros.alignment.priors.gauge import register
from wildseg3d_ros.alignment.priors.relative_poses import (
    Baseline,
    baselines_of,
    outvoted_text,
    relative_difference,
    stands_out,
)
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import RelativePose, View

_AGREES = 0.05
"""Error at the scene, in viewing distances, below which a pair puts a view where its prior is."""

_SCALES_APART = 0.1
"""Log scales of two sources further apart contradict each other."""

_DOUBTED = 1.3
"""Typical deviation of given poses, in those that are known of, beyond which a warning says so."""

_MISSHAPEN = 0.15
"""Typical log ratio, beside a common scale, of depth to a pointmap beyond which the two show
different things; in constructed scenes with a network's errors it is up to 0.03."""


@dataclass(frozen=True, eq=False)
class Verified:
    """What may enter the solve.

    Attributes:
        priors: None when nothing is known that could bend the world.
        sources: what makes the solve metric, in the words of ``Alignment.scale_sources``; empty
            when that is left to the registration to given poses.
        warnings: what was outvoted, by camera.
        contradiction: why nothing that was given for the scale can be relied on; empty where
            something can.
        pose_error, pose_share: (N,) by which given poses differ from the world that the pairs make
            alone, in metres at the scene and in viewing distances, NaN where unknown; None where
            nothing bends it.
        relative_error: the same [m] of the relative poses that entered, by their two views.
        outvoted: whether a given pose is left out, by view, where it might have entered.
        misshapen: views whose depth shows something else than their pointmaps.
    """

    priors: Priors | None
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    contradiction: str = ""
    pose_error: NDArray[np.float64] | None = None
    pose_share: NDArray[np.float64] | None = None
    relative_error: Mapping[tuple[int, int], float] = field(default_factory=dict)
    outvoted: Mapping[int, bool] = field(default_factory=dict)
    misshapen: tuple[int, ...] = ()

    def held(self, count: int) -> NDArray[np.bool_]:
        """(N,) bool, views whose pose a prior holds."""
        out = np.zeros(count, dtype=bool)
        if self.priors is not None:
            out[self.priors.poses.view] = True
        return out

    def deviations(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) of the known camera positions [graph units] and orientations [rad]; inf where
        nothing is known."""
        position, rotation = np.full(count, np.inf), np.full(count, np.inf)
        if self.priors is not None:
            rows = self.priors.poses
            np.minimum.at(position, rows.view, self.priors.metre * rows.translation_sigma)
            np.minimum.at(rotation, rows.view, rows.rotation_sigma)
        return position, rotation


def verify(
    views: Sequence[View],
    graph: Graph,
    poses: Poses,
    kept: NDArray[np.bool_],
    seen: Sequence[Observed],
    relative: Sequence[RelativePose],
    config: AlignmentConfig,
) -> Verified:
    """Compares all priors with the world that the pairs alone make.

    Args:
        graph, poses: all pairs, solved; kept: (E,) bool, those of the solution; seen: what these
            say about each view, in graph units.
        relative: known relative poses.
    """
    cameras = [mean_pose(s) for s in seen]
    reach = np.array([view_distance(s, c) for s, c in zip(seen, cameras, strict=True)])
    spread = spread_of(graph.edges[kept], seen, cameras, reach)
    is_metric = bool(graph.fixed.any())
    metre = float(1.0 / graph.unit[graph.fixed][0]) if is_metric else None
    given = _given_poses(views, cameras, reach, metre, spread, config)
    depths, misshapen, warnings = _same_shape(scale_rows(graph, [v.depth for v in views]), views)
    bases = baselines_of(views, cameras, reach, relative, spread)
    warnings += [base.wrong for base in bases if base.wrong]
    bases = [base for base in bases if not base.wrong]
    had_depth, gives_scale = bool(misshapen) or bool(len(depths.edge)), False
    if metre is None:
        metre, depths, gives_scale, more = _metre(views, poses, depths, bases, given.metre)
        warnings += more
    if metre is None:
        lost = "; ".join(warnings) if had_depth else ""
        return Verified(None, (), tuple(warnings), lost, misshapen=misshapen)
    known, relative_errors = list(given.known), {}
    is_bent = len(known) > 1
    warnings += given.warnings if is_bent else ()
    sources = ["camera poses"] if is_bent else []
    rig = 1 if known else 0
    for base in bases:
        pose = base.pose
        away, angle, far = relative_difference(pose, cameras, reach, metre)
        if stands_out(away, angle, base.length, far, pose, spread):
            warnings.append(outvoted_text(pose, views, away + angle * far))
            continue
        relative_errors[pose.a, pose.b] = away + angle * far
        sigmas = pose.translation_sigma, pose.rotation_sigma
        known += [(rig, pose.a, np.eye(4), *sigmas), (rig, pose.b, pose.a_from_b, *sigmas)]
        rig, is_bent = rig + 1, True
        sources += ["relative poses"]
    if len(depths.edge):
        sources, is_bent = [*sources, "depth"], True
    priors = Priors(pose_rows(graph, known), depths, metre, is_metric) if is_bent else None
    named = tuple(dict.fromkeys(sources)) if gives_scale and not is_metric else ()
    # Depth images that all contradict each other are no source of a scale.
    is_lost = had_depth and not is_metric and not sources and given.metre is None
    return Verified(
        priors,
        named,
        tuple(warnings),
        "; ".join(warnings) if is_lost else "",
        given.error if is_bent else None,
        given.share if is_bent else None,
        relative_errors,
        given.outvoted if len(given.known) > 1 else {},
        misshapen,
    )


def view_distance(seen: Observed, camera: NDArray[np.float64] | None) -> float:
    """Median distance of a view's points from its camera."""
    points = seen.world[seen.sure > 0]
    if camera is None or not len(points):
        return 1.0
    return float(np.median(np.linalg.norm(points - camera[:3, 3], axis=1)))


@dataclass(frozen=True, eq=False)
class _Given:
    """Given poses beside the world that the pairs make alone.

    Attributes:
        known: those that stand the comparison, as rows of :func:`pose_rows`.
        metre: graph units per metre.
        error, share, outvoted: as in :class:`Verified`.
        warnings: that many poses are doubted.
    """

    known: list[tuple[int, int, NDArray, float, float]]
    metre: float | None
    error: NDArray[np.float64]
    share: NDArray[np.float64]
    outvoted: Mapping[int, bool]
    warnings: tuple[str, ...] = ()


def _given_poses(
    views: Sequence[View],
    cameras: Sequence[NDArray | None],
    reach: NDArray,
    metre: float | None,
    spread: Spread,
    config: AlignmentConfig,
) -> _Given:
    """Registers the world to the given poses, and judges those that may bend it."""
    error, share = np.full((2, len(views)), np.nan)
    nothing = _Given([], metre, error, share, {})
    there = [v for v, c in enumerate(cameras) if c is not None]
    if not there:
        return nothing
    solved = np.stack([np.asarray(cameras[v]) for v in there])
    solved[:, :3, 3] /= metre or 1.0
    far = reach[there] / (metre or 1.0)
    found = register(
        [views[v] for v in there], solved, far, known_scale=metre is not None, config=config
    )
    if not found.found:
        return nothing
    error[there], share[there] = found.error, found.share
    given, sigmas = [], []
    for k, v in enumerate(there):
        deviations = prior_sigmas(views[v], config)
        if views[v].world_from_cam_prior is not None and deviations is not None:
            given.append(k)
            sigmas.append(deviations)
    metre_here = metre or 1.0 / found.scale
    if not given:
        return replace(nothing, metre=metre_here)
    ids = np.array(there)[given]
    judged = judge_poses(
        np.stack([np.asarray(views[v].world_from_cam_prior) for v in ids]),
        solved[given],
        far[given],
        np.array(sigmas),
        replace(spread, hops=spread.hops[np.ix_(ids, ids)]),
        (found.scale, found.prior_from_world),
        metre is not None,
    )
    known = []
    for k, v in enumerate(ids.tolist()):
        if not judged.wrong[k]:
            metres, radians = np.hypot(sigmas[k], judged.doubt[k]).tolist()
            known.append((0, v, np.asarray(views[v].world_from_cam_prior), metres, radians))
    outvoted = dict(zip(ids.tolist(), judged.wrong.tolist(), strict=True))
    doubted = ids[~judged.wrong & judged.doubt.any(1)]
    warnings = ()
    if len(known) > 3 and judged.typical > _DOUBTED:
        names = ", ".join(f"'{views[v].name}'" for v in doubted)
        text = (
            f"the given poses of {names} differ from what the images say by more than their "
            "deviations, and are trusted less: check TF and calibration, or give larger ones"
        )
        warnings = (text,)
    return _Given(known, metre_here, error, share, outvoted, warnings)


def prior_sigmas(view: View, config: AlignmentConfig) -> tuple[float, float] | None:
    """Deviations [m, rad] of a view's given pose; None where it may not bend the world."""
    metres = view.prior_translation_sigma or config.prior_translation_sigma
    radians = view.prior_rotation_sigma or config.prior_rotation_sigma
    return (metres, radians) if metres > 0 and radians > 0 else None


def _same_shape(
    depths: ScaleRows, views: Sequence[View]
) -> tuple[ScaleRows, tuple[int, ...], list[str]]:
    """Without depth images that no scale brings onto their pointmaps; these views; warnings."""
    misshapen = {
        int(v): float(np.median(depths.sigma[depths.view == v])) for v in np.unique(depths.view)
    }
    misshapen = {v: spread for v, spread in misshapen.items() if spread > _MISSHAPEN}
    warnings = [
        f"the depth image of camera '{views[v].name}' has another shape than its image "
        f"({spread:.0%} beside a common scale) and is left out: check that it is registered to "
        "the image, of the same moment, and neither rotated nor mirrored"
        for v, spread in misshapen.items()
    ]
    return _chosen(depths, ~np.isin(depths.view, list(misshapen))), tuple(misshapen), warnings


def _chosen(depths: ScaleRows, keep: NDArray[np.bool_]) -> ScaleRows:
    return ScaleRows(*(getattr(depths, n)[keep] for n in depths.__dataclass_fields__))


def _metre(
    views: Sequence[View],
    poses: Poses,
    depths: ScaleRows,
    baselines: Sequence[Baseline],
    from_poses: float | None,
) -> tuple[float | None, ScaleRows, bool, list[str]]:
    """Graph units per metre by the median of all sources, and depths that agree with it."""
    scale = poses.scale.cpu().numpy()[depths.edge]
    by_row = np.log(scale) + depths.log_units
    sources: list[tuple[float, float, int | None]] = [
        (float(np.median(by_row[depths.view == v])), 1.0, int(v)) for v in np.unique(depths.view)
    ]
    # Drift of the pairs matters less to a longer baseline.
    longest = max((base.length for base in baselines), default=1.0)
    sources += [
        (base.log_metre, base.length / longest, None)
        for base in baselines
        if np.isfinite(base.log_metre)
    ]
    gives_scale = bool(sources)
    if from_poses is not None:
        sources.append((float(np.log(from_poses)), 1.0, None))
    if not sources:
        return None, depths, False, []
    middle = _weighted_median(*np.array([source[:2] for source in sources]).T)
    wrong = [
        v for value, _, v in sources if v is not None and abs(value - middle) > _SCALES_APART / 2
    ]
    blame = "one of the two is wrong" if len(sources) == 2 else "the others outvote it"
    warnings = [
        f"the depth images of camera '{views[v].name}' make the scene "
        f"{np.exp(middle - value):.3g} times as large as the others do; {blame}: check the unit"
        for value, _, v in sources
        if v in wrong
    ]
    kept = _chosen(depths, ~np.isin(depths.view, wrong))
    return float(np.exp(middle)), kept, gives_scale, warnings


def _weighted_median(values: NDArray, weights: NDArray) -> float:
    """The middle between the lower and the upper weighted median."""
    order = np.argsort(values)
    mass = np.cumsum(weights[order])
    low = np.searchsorted(mass, mass[-1] / 2.0 - 1e-9)
    high = np.searchsorted(mass, mass[-1] / 2.0 + 1e-9)
    return float(values[order[[low, high]]].mean())


def outvoted_pairs(
    views: Sequence[View],
    graph: Graph,
    seen: Sequence[Observed],
    config: AlignmentConfig,
) -> NDArray[np.bool_]:
    """(E,) bool, measured pairs that given poses decide against.

    Where a view's solved pose contradicts its prior, its pairs are asked one by one where they put
    it. When at least half of them put it where the prior says, the others are wrong: pairs that
    contradict each other are a tie, and the prior decides it.

    Args:
        graph: all pairs, metric; seen: what the used pairs say about each view, graph units.
    """
    out = np.zeros(len(graph.edges), dtype=bool)
    cameras = [mean_pose(s) for s in seen]
    if any(c is None for c in cameras):
        return out
    metre = float(1.0 / graph.unit[0])
    solved = np.stack([np.asarray(c) for c in cameras])
    solved[:, :3, 3] /= metre
    reach = np.array([view_distance(s, c) for s, c in zip(seen, cameras, strict=True)]) / metre
    found = register(views, solved, reach, known_scale=True, config=config)
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
            away = np.linalg.norm(put[:3, 3] - given[:3, 3])
            angle = rotation_angle(put[:3, :3] @ given[:3, :3].T)
            mine.append(e)
            agrees.append(away + angle * reach[v] < _AGREES * reach[v])
        if mine and 2 * sum(agrees) >= len(mine):
            out[[e for e, agree in zip(mine, agrees, strict=True) if not agree]] = True
    return out
