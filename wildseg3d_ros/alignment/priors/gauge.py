"""Registration of solved cameras to the poses that are given for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.geometry.transforms import make_transform, nearest_rotation, rotation_angle
from wildseg3d_ros.core.types import View

_TOLERATED = 0.01
"""Pose error in shares of the viewing distance below which a prior is never called wrong."""

_UNJUDGED = 0.1
"""The same of a prior that took no part in a solve that others have bent: what pairs leave of its
camera's error is then much more than what they leave of the others'."""

_SAME_PLACE = 1e-6
"""Metres between cameras that say nothing about scale."""

_OUTLIER = 4.0
"""A prior is called wrong beyond this many typical errors."""


_NO_SCALE = (
    "the given camera poses do not fix the scale of the scene (fewer than two that lie apart); "
    "the world is the first camera's frame, in the network's scale"
)


@dataclass(frozen=True, eq=False)
class Registration:
    """How the solved world lies in the frame of the given poses.

    Attributes:
        scale: prior units per solved unit.
        prior_from_world: (4, 4), applied after the scale.
        found: whether the priors fix a frame (and, where it was free, the scale).
        residual: (N,) metres between solved and given camera positions, NaN without a prior.
        error: (N,) the same and, at the viewing distance, what the orientations differ by.
        share: (N,) of the viewing distance that this is: unlike metres, it does not shrink with a
            scale that is wrong.
        contradiction: why no scale brings poses that lie apart together; empty where one does.
        wrong: (N,) bool, priors that contradict the others.
        warnings: cameras whose priors contradict the others, by name.
    """

    scale: float
    prior_from_world: NDArray[np.float64]
    found: bool
    residual: NDArray[np.float64]
    error: NDArray[np.float64]
    share: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    warnings: tuple[str, ...]
    contradiction: str = ""


def register(
    views: Sequence[View],
    world_from_cam: NDArray[np.float64],
    viewing_distance: NDArray[np.float64],
    known_scale: bool,
    config: AlignmentConfig = AlignmentConfig(),
    outvoted: Mapping[int, bool] = MappingProxyType({}),
) -> Registration:
    """The transform that moves what the cameras see least from where their priors put it.

    An orientation error counts by what it does at the viewing distance, so positions and
    orientations add up without a tuning constant; orientations fix the rotation even where all
    cameras stand on a line. Wrong priors are outvoted: the start is the prior that most others
    support, the refinement is reweighted by Geman-McClure.

    Args:
        views: with priors on some or all.
        world_from_cam: (N, 4, 4) solved poses; viewing_distance: (N,) typical distance of a view's
            points from its camera, solved units.
        known_scale: whether solved units are metres.
        config: deviations of poses whose views do not say their own.
        outvoted: verdicts on some priors that stand: those outvoted take no part and are named,
            the others are not called wrong.
    """
    residual, total, share = np.full((3, len(views)), np.nan)
    wrong = np.zeros(len(views), dtype=bool)
    given = [view.world_from_cam_prior for view in views]
    known = [v for v, prior in enumerate(given) if prior is not None]
    nothing = Registration(1.0, np.eye(4), False, residual, total, share, wrong, ())
    if not known:
        return nothing
    every = np.stack([prior for prior in given if prior is not None])
    trusted = np.array([not outvoted.get(v, False) for v in known])
    if np.count_nonzero(trusted) < 2:
        trusted[:] = True
    voters = np.array(known)[trusted]
    priors, solved, reach = every[trusted], world_from_cam[voters], viewing_distance[voters]
    turn, start_error = _elect_rotation(priors, solved)
    scale = 1.0 if known_scale else _scale(priors, solved, turn, start_error)
    if scale is None:
        text = _contradiction([views[v].name for v in voters], priors, start_error)
        return replace(nothing, warnings=(text or _NO_SCALE,), contradiction=text)
    scale, pose = _elect(priors, solved, reach, scale)
    for _ in range(20):
        position, angle = camera_errors(priors, solved, scale, pose)
        error = position + angle * reach * scale
        width = max(float(np.median(error)), 0.2 * _TOLERATED * float(np.median(reach)) * scale)
        weight = (1.0 + (error / (2.0 * width)) ** 2) ** -2
        scale, pose = fit_rig(priors, solved, reach, weight, scale, known_scale)
    position, angle = camera_errors(every, world_from_cam[known], scale, pose)
    far = viewing_distance[known] * scale
    residual[known], total[known] = position, position + angle * far
    share[known] = total[known] / np.maximum(far, 1e-12)
    expected = np.array(
        [
            expected_error(
                views[v].prior_translation_sigma or config.prior_translation_sigma,
                views[v].prior_rotation_sigma or config.prior_rotation_sigma,
                at,
            )
            for v, at in zip(known, far, strict=True)
        ]
    )
    if outvoted:
        loose = np.array([v not in outvoted for v in known])
        expected = np.where(loose, np.maximum(expected, _UNJUDGED * far), expected)
    wrong[known] = _find_wrong(total[known], far, expected)
    wrong[list(outvoted)] = list(outvoted.values())
    warnings = _name_wrong(views, known, wrong[known], position, angle)
    if known_scale:
        warnings += _check_units(priors, solved, turn, start_error, reach)
    return Registration(scale, pose, True, residual, total, share, wrong, tuple(warnings))


def camera_errors(
    priors: NDArray, solved: NDArray, scale: float, pose: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position errors [m] and orientation errors [rad] of all priors under a transform."""
    centres = scale * solved[:, :3, 3] @ pose[:3, :3].T + pose[:3, 3]
    position = np.linalg.norm(centres - priors[:, :3, 3], axis=1)
    angle = np.array(
        [
            rotation_angle(pose[:3, :3] @ s[:3, :3] @ p[:3, :3].T)
            for p, s in zip(priors, solved, strict=True)
        ]
    )
    return position, angle


def _elect_rotation(
    priors: NDArray, solved: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rotation that most priors support, and each prior's angle to it."""
    votes = priors[:, :3, :3] @ np.swapaxes(solved[:, :3, :3], 1, 2)
    angles = np.array([[rotation_angle(a @ b.T) for b in votes] for a in votes])
    winner = int(np.argmin(np.median(angles, axis=1)))
    near = angles[winner] <= np.median(angles[winner]) + 1e-9
    turn = nearest_rotation(votes[near].sum(0))
    return turn, np.array([rotation_angle(turn @ vote.T) for vote in votes])


def _scale(priors: NDArray, solved: NDArray, turn: NDArray, angle: NDArray) -> float | None:
    """Median ratio of baselines between priors, along the direction that both agree on."""
    ratios, lengths = [], []
    turned = solved[:, :3, 3] @ turn.T
    for i in range(len(priors)):
        for j in range(i):
            ours, theirs = turned[i] - turned[j], priors[i, :3, 3] - priors[j, :3, 3]
            length = float(ours @ ours)
            if length > 0 and max(angle[i], angle[j]) < 0.5:
                ratios.append(float(ours @ theirs) / length)
                lengths.append(np.sqrt(length))
    if not ratios or max(lengths) <= _SAME_PLACE:
        return None
    order = np.argsort(ratios)
    mass = np.cumsum(np.array(lengths)[order])
    scale = ratios[order[np.searchsorted(mass, mass[-1] / 2.0)]]
    return scale if scale > 1e-9 else None


def _contradiction(names: list[str], priors: NDArray, angle: NDArray) -> str:
    """Why poses that lie apart fix no scale; empty where they lie at one place."""
    spread = np.linalg.norm(priors[:, :3, 3] - priors[0, :3, 3], axis=1).max()
    if spread <= _SAME_PLACE:
        return ""
    named = ", ".join(
        f"'{name}' {degrees:.0f}" for name, degrees in zip(names, np.degrees(angle), strict=True)
    )
    return (
        f"no scale brings the given camera poses, up to {spread:.3g} m apart, onto those that the "
        f"images say: orientations differ by (degrees) {named}, or positions run the other way"
    )


def _elect(
    priors: NDArray, solved: NDArray, reach: NDArray, scale: float
) -> tuple[float, NDArray[np.float64]]:
    """The transform by one prior that the median of all priors agrees with best."""
    best, chosen = np.inf, np.eye(4)
    for prior, own in zip(priors, solved, strict=True):
        rotation = prior[:3, :3] @ own[:3, :3].T
        pose = make_transform(rotation, prior[:3, 3] - scale * rotation @ own[:3, 3])
        position, angle = camera_errors(priors, solved, scale, pose)
        support = float(np.median(position + angle * reach * scale))
        if support < best:
            best, chosen = support, pose
    return scale, chosen


def fit_rig(
    priors: NDArray,
    solved: NDArray,
    reach: NDArray,
    weight: NDArray,
    scale: float,
    known_scale: bool,
) -> tuple[float, NDArray[np.float64]]:
    """Least squares over positions, and orientations at the viewing distance: one Procrustes."""
    weight = weight / weight.sum()
    mean_prior, mean_solved = weight @ priors[:, :3, 3], weight @ solved[:, :3, 3]
    ours, theirs = solved[:, :3, 3] - mean_solved, priors[:, :3, 3] - mean_prior
    arms = weight * (scale * reach) ** 2
    covariance = np.einsum(
        "k,kij->ij", arms, priors[:, :3, :3] @ np.swapaxes(solved, 1, 2)[:, :3, :3]
    )
    covariance += scale * np.einsum("k,ki,kj->ij", weight, theirs, ours)
    rotation = nearest_rotation(covariance)
    if not known_scale:
        spread = float(weight @ (ours**2).sum(1))
        along = float(np.einsum("k,ki,ki->", weight, theirs, ours @ rotation.T))
        scale = along / spread if spread > 0 and along > 0 else scale
    return scale, make_transform(rotation, mean_prior - scale * rotation @ mean_solved)


def expected_error(metres: float, radians: float, reach: float) -> float:
    """Error [m] at the viewing distance that deviations of a pose explain; 0 = not said."""
    return _OUTLIER * (metres + radians * reach) if metres > 0 and radians > 0 else 0.0


def _find_wrong(error: NDArray, reach: NDArray, expected: NDArray) -> NDArray[np.bool_]:
    """Which priors contradict the others: beyond the typical error, and beyond their deviation
    where it is said, else beyond 5 % of the viewing distance."""
    least = np.where(expected > 0, np.maximum(expected, _TOLERATED * reach), 0.05 * reach)
    wrong = error > np.maximum(_OUTLIER * np.median(error), least)
    if len(error) == 2 and not wrong.any() and (error > least).all():
        wrong[:] = True
    return wrong


def _name_wrong(
    views: Sequence[View],
    known: list[int],
    wrong: NDArray[np.bool_],
    position: NDArray,
    angle: NDArray,
) -> list[str]:
    out = []
    for k in np.flatnonzero(wrong):
        blame = "one of the two is wrong" if len(known) == 2 else "the other cameras outvote it"
        out.append(
            f"the given pose of camera '{views[known[k]].name}' is {position[k] * 1e3:.0f} mm and "
            f"{np.degrees(angle[k]):.1f} degrees from where its images put it; {blame}: check its "
            "TF or calibration"
        )
    return out


def _check_units(
    priors: NDArray, solved: NDArray, turn: NDArray, angle: NDArray, reach: NDArray
) -> list[str]:
    """A warning when the cameras' baselines and the depth disagree about what a metre is."""
    apart = np.linalg.norm(solved[:, :3, 3] - np.median(solved[:, :3, 3], axis=0), axis=1)
    ratio = _scale(priors, solved, turn, angle)
    # Short baselines say little about scale.
    if len(priors) < 3 or ratio is None or np.median(apart) < 0.1 * np.median(reach):
        return []
    if 0.5 < ratio < 2.0:
        return []
    text = (
        f"the given camera positions are {ratio:.3g} times as far apart as the depth images say; "
        "check the unit of the depth images and of the poses"
    )
    return [text]
