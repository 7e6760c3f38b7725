"""Which priors the images bear out: the others are outvoted and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras import Observed, mean_pose
from wildseg3d_ros.alignment.graph import Graph
from wildseg3d_ros.alignment.placement import Poses
from wildseg3d_ros.alignment.priors import Priors, ScaleRows, pose_rows, scale_rows
from wildseg3d_ros.alignment.world import expected_error, register
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.errors import InputError
from wildseg3d_ros.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.types import RelativePose, View

_TOLERATED = 0.02
"""Error of a relative pose, in viewing distances per pair between its cameras, below which it is
never called wrong: a chain of pairs drifts."""

_AGREES = 0.05
"""Error at the scene, in viewing distances, below which a pair puts a view where its prior is."""

_SCALES_APART = 0.1
"""Log scales of two sources further apart contradict each other."""


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
    """

    priors: Priors | None
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    contradiction: str = ""

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


def check_relative_poses(relative: Sequence[RelativePose], views: Sequence[View]) -> None:
    """Raises InputError unless every relative pose names two of the views."""
    for pose in relative:
        if not (0 <= pose.a < len(views) and 0 <= pose.b < len(views)) or pose.a == pose.b:
            raise InputError(
                f"a relative pose names the views ({pose.a}, {pose.b}); expected two different "
                f"indices of the {len(views)} views"
            )


def verify(
    views: Sequence[View],
    graph: Graph,
    poses: Poses,
    seen: Sequence[Observed],
    relative: Sequence[RelativePose],
    config: AlignmentConfig,
) -> Verified:
    """Compares all priors with the world that the pairs alone make.

    Args:
        graph, poses: the solved pairs; seen: what they say about each view, in graph units.
        relative: known relative poses.
    """
    cameras = [mean_pose(s) for s in seen]
    reach = np.array([view_distance(s, c) for s, c in zip(seen, cameras, strict=True)])
    is_metric = bool(graph.fixed.any())
    metre = float(1.0 / graph.unit[graph.fixed][0]) if is_metric else None
    known, from_poses, is_bent = _given_poses(views, cameras, reach, metre, config)
    depths = scale_rows(graph, [view.depth for view in views])
    warnings: list[str] = []
    gives_scale = False
    if metre is None:
        metre, depths, gives_scale, warnings = _metre(
            views, cameras, poses, depths, relative, from_poses
        )
    if metre is None:
        return Verified(None, (), tuple(warnings))
    sources = ["camera poses"] if is_bent else []
    rig = 1 if known else 0
    for pose in relative:
        error, limit = relative_error(pose, cameras, reach, metre)
        limit *= _hops(graph, pose.a, pose.b)
        if error > limit:
            warnings.append(
                f"the given relative pose of the cameras '{views[pose.a].name}' and "
                f"'{views[pose.b].name}' is {error * 1e3:.0f} mm (at the scene) from what the "
                "images say; the pairs outvote it: check their calibration"
            )
        elif np.isfinite(error):
            sigmas = pose.translation_sigma, pose.rotation_sigma
            known += [(rig, pose.a, np.eye(4), *sigmas), (rig, pose.b, pose.a_from_b, *sigmas)]
            rig, is_bent = rig + 1, True
            sources += ["relative poses"]
    if len(depths.edge):
        sources, is_bent = [*sources, "depth"], True
    priors = Priors(pose_rows(graph, known), depths, metre, is_metric) if is_bent else None
    named = tuple(dict.fromkeys(sources)) if gives_scale and not is_metric else ()
    # Sources of a scale that all contradict each other are none.
    is_lost = gives_scale and not is_metric and not sources and from_poses is None
    return Verified(priors, named, tuple(warnings), "; ".join(warnings) if is_lost else "")


def view_distance(seen: Observed, camera: NDArray[np.float64] | None) -> float:
    """Median distance of a view's points from its camera."""
    points = seen.world[seen.sure > 0]
    if camera is None or not len(points):
        return 1.0
    return float(np.median(np.linalg.norm(points - camera[:3, 3], axis=1)))


def _given_poses(
    views: Sequence[View],
    cameras: Sequence[NDArray | None],
    reach: NDArray,
    metre: float | None,
    config: AlignmentConfig,
) -> tuple[list[tuple[int, int, NDArray, float, float]], float | None, bool]:
    """Poses that stand the comparison, graph units per metre, and whether to use them."""
    there = [v for v, c in enumerate(cameras) if c is not None]
    if not there:
        return [], metre, False
    solved = np.stack([np.asarray(cameras[v]) for v in there])
    solved[:, :3, 3] /= metre or 1.0
    found = register(
        [views[v] for v in there],
        solved,
        reach[there] / (metre or 1.0),
        known_scale=metre is not None,
        config=config,
    )
    if not found.found:
        return [], metre, False
    known = []
    for v, is_wrong in zip(there, found.wrong, strict=True):
        pose = views[v].world_from_cam_prior
        sigmas = prior_sigmas(views[v], config)
        if pose is not None and sigmas is not None and not is_wrong:
            known.append((0, v, pose, *sigmas))
    return known, metre or 1.0 / found.scale, len(known) > 1


def prior_sigmas(view: View, config: AlignmentConfig) -> tuple[float, float] | None:
    """Deviations [m, rad] of a view's given pose; None where it may not bend the world."""
    metres = view.prior_translation_sigma or config.prior_translation_sigma
    radians = view.prior_rotation_sigma or config.prior_rotation_sigma
    return (metres, radians) if metres > 0 and radians > 0 else None


def _metre(
    views: Sequence[View],
    cameras: Sequence[NDArray | None],
    poses: Poses,
    depths: ScaleRows,
    relative: Sequence[RelativePose],
    from_poses: float | None,
) -> tuple[float | None, ScaleRows, bool, list[str]]:
    """Graph units per metre by the median of all sources, and depths that agree with it."""
    scale = poses.scale.cpu().numpy()[depths.edge]
    by_row = np.log(scale) + depths.log_units
    sources: list[tuple[float, int | None]] = [
        (float(np.median(by_row[depths.view == v])), int(v)) for v in np.unique(depths.view)
    ]
    for pose in relative:
        ours, theirs = _baseline(cameras, pose), float(np.linalg.norm(pose.a_from_b[:3, 3]))
        if ours and theirs > 3.0 * pose.translation_sigma:
            sources.append((float(np.log(ours / theirs)), None))
    gives_scale = bool(sources)
    if from_poses is not None:
        sources.append((float(np.log(from_poses)), None))
    if not sources:
        return None, depths, False, []
    middle = float(np.median([value for value, _ in sources]))
    wrong = [
        v for value, v in sources if v is not None and abs(value - middle) > _SCALES_APART / 2
    ]
    blame = "one of the two is wrong" if len(sources) == 2 else "the others outvote it"
    warnings = [
        f"the depth images of camera '{views[v].name}' make the scene "
        f"{np.exp(middle - value):.3g} times as large as the others do; {blame}: check the unit"
        for value, v in sources
        if v in wrong
    ]
    keep = ~np.isin(depths.view, wrong)
    kept = ScaleRows(*(getattr(depths, n)[keep] for n in depths.__dataclass_fields__))
    return float(np.exp(middle)), kept, gives_scale, warnings


def _baseline(cameras: Sequence[NDArray | None], pose: RelativePose) -> float:
    a, b = cameras[pose.a], cameras[pose.b]
    return 0.0 if a is None or b is None else float(np.linalg.norm(a[:3, 3] - b[:3, 3]))


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


def _hops(graph: Graph, a: int, b: int) -> int:
    """Pairs on the shortest way between two views."""
    reached, steps = {a}, 0
    while b not in reached and steps < graph.view_count:
        touching = np.isin(graph.edges, list(reached)).any(1)
        reached |= set(graph.edges[touching].ravel().tolist())
        steps += 1
    return max(steps, 1)


def relative_error(
    pose: RelativePose, cameras: Sequence[NDArray | None], reach: NDArray, metre: float
) -> tuple[float, float]:
    """Error [m] at the viewing distance, and its limit; NaN where a camera has no frame.

    Args:
        cameras: solved poses; reach: (N,) viewing distances, in the cameras' units.
        metre: of these units in a metre.
    """
    a, b = cameras[pose.a], cameras[pose.b]
    if a is None or b is None:
        return np.nan, np.inf
    solved = invert(a) @ b
    away = float(np.linalg.norm(solved[:3, 3] / metre - pose.a_from_b[:3, 3]))
    far = float(max(reach[pose.a], reach[pose.b]) / metre)
    angle = rotation_angle(solved[:3, :3] @ pose.a_from_b[:3, :3].T)
    expected = expected_error(pose.translation_sigma, pose.rotation_sigma, far)
    return away + angle * far, max(expected, _TOLERATED * far)
