"""How what is known beforehand agrees with the images: before the solve, and of the finished
world.

- :func:`verify` compares every prior with the world that the pairs make alone. What contradicts it
  is rejected and named, the rest enters the solve (:mod:`.factors`).
- :func:`compare_with_priors` says by how much the finished world differs from what was given, and
  :func:`refuse_contradictions` when that is too much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.given import Given, PoseFinding
from wildseg3d_ros.alignment.priors.factors import Priors, pose_rows
from wildseg3d_ros.alignment.priors.gauge import Registration
from wildseg3d_ros.alignment.priors.metric_scale import (
    DEPTH,
    POSES,
    RELATIVE,
    unconfirmed,
)
from wildseg3d_ros.alignment.solve.robust import SolvedPairs
from wildseg3d_ros.core.errors import AlignmentError, InputError
from wildseg3d_ros.core.types import PairPrediction, RelativePose, View

CONTRADICTS = 0.1
"""Share of the viewing distance that given poses may differ by: it grows with the scene, and a
wrong scale shrinks metres, but not this share. In constructed scenes of 2 m, with a network's
errors, the share was up to 0.05 with exact poses and with poses good to 1 cm and 0.3 degrees, and
0.12 or more with poses good to 12 cm and 5 degrees."""


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
    given = Given.of(predictions, views, result, relative, config)
    warnings = list(given.warnings)
    had_depth = bool(given.misshapen) or bool(len(given.depths.edge))
    if given.start is None:
        lost = "; ".join(warnings) if had_depth else ""
        return Verified(None, (), tuple(warnings), lost, misshapen=given.misshapen)
    judged = given.graph.judge(given.start)
    poses, doubtful = given.accepted_poses(judged)
    _, worse = given.worse_than_said(judged)
    warnings += worse or doubtful
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
