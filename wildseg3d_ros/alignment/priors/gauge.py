"""The gauge: registration of solved cameras to the poses that are given for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.geometry.transforms import make_transform, nearest_rotation, rotation_angle
from wildseg3d_ros.core.types import View

_TOLERATED = 0.01
"""Pose error in shares of the viewing distance below which a prior is never called wrong."""
_SAME_PLACE = 1e-6
"""Metres between cameras that say nothing about scale."""

_NO_SCALE = (
    "the given camera poses do not fix the scale of the scene (fewer than two that lie apart); "
    "the world is the first camera's frame, in the network's scale"
)


class Gauge(NamedTuple):
    """``prior = prior_from_world (scale * x)``: prior units per solved unit, and a (4, 4) rigid
    transform after it."""

    scale: float
    prior_from_world: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PosedCameras:
    """Solved cameras beside the poses that are given for them.

    Attributes:
        priors: (K, 4, 4) metres; solved: (K, 4, 4); distance: (K,) typical distance of a view's
            points from its camera, solved units.
    """

    priors: NDArray[np.float64]
    solved: NDArray[np.float64]
    distance: NDArray[np.float64]

    def select(self, keep: NDArray) -> PosedCameras:
        """Some of the cameras."""
        return PosedCameras(self.priors[keep], self.solved[keep], self.distance[keep])

    def errors(self, gauge: Gauge) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K,) position errors [m] and orientation errors [rad] of all priors."""
        rotation, shift = gauge.prior_from_world[:3, :3], gauge.prior_from_world[:3, 3]
        centres = gauge.scale * self.solved[:, :3, 3] @ rotation.T + shift
        position = np.linalg.norm(centres - self.priors[:, :3, 3], axis=1)
        apart = rotation @ self.solved[:, :3, :3] @ np.swapaxes(self.priors[:, :3, :3], 1, 2)
        return position, np.array([rotation_angle(error) for error in apart])

    def fit(self, weight: NDArray, scale: float, known_scale: bool) -> Gauge:
        """Least squares over positions, and orientations at the viewing distance: one Procrustes.

        Args:
            weight: (K,); scale: the answer's where it is known, else a start.
        """
        weight = weight / weight.sum()
        priors, solved = self.priors[:, :3, 3], self.solved[:, :3, 3]
        mean_prior, mean_solved = weight @ priors, weight @ solved
        ours, theirs = solved - mean_solved, priors - mean_prior
        covariance = np.einsum(
            "k,kij->ij", weight * (scale * self.distance) ** 2, self._rotations()
        )
        covariance += scale * np.einsum("k,ki,kj->ij", weight, theirs, ours)
        rotation = nearest_rotation(covariance)
        if not known_scale:
            extent = float(weight @ (ours**2).sum(1))
            along = float(np.einsum("k,ki,ki->", weight, theirs, ours @ rotation.T))
            scale = along / extent if extent > 0 and along > 0 else scale
        return Gauge(scale, make_transform(rotation, mean_prior - scale * rotation @ mean_solved))

    def robust_fit(self, scale: float, known_scale: bool) -> Gauge:
        """From the one prior that the median of all agrees with best, reweighted by
        Geman-McClure."""
        candidates = [
            Gauge(scale, make_transform(rotation, prior[:3, 3] - scale * rotation @ own[:3, 3]))
            for prior, own, rotation in zip(
                self.priors, self.solved, self._rotations(), strict=True
            )
        ]
        gauge = min(candidates, key=lambda candidate: float(np.median(self._at_scene(candidate))))
        # Not reweighted(): each fit and its loss's width need the scale of the fit before.
        for _ in range(20):
            error = self._at_scene(gauge)
            floor = 0.2 * _TOLERATED * float(np.median(self.distance)) * gauge.scale
            width = 2.0 * max(float(np.median(error)), floor)
            gauge = self.fit((1.0 + (error / width) ** 2) ** -2, gauge.scale, known_scale)
        return gauge

    def consensus_rotation(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rotation that most priors support, and (K,) angle of each prior to it."""
        votes = self._rotations()
        angles = np.array([[rotation_angle(a @ b.T) for b in votes] for a in votes])
        winner = int(np.argmin(np.median(angles, axis=1)))
        near = angles[winner] <= np.median(angles[winner]) + 1e-9
        rotation = nearest_rotation(votes[near].sum(0))
        return rotation, np.array([rotation_angle(rotation @ vote.T) for vote in votes])

    def consensus_scale(self, rotation: NDArray, angle: NDArray) -> float | None:
        """Median ratio of baselines between priors, along the direction that both agree on; None
        where the cameras share one place. Arguments are of :meth:`consensus_rotation`."""
        i, j = np.tril_indices(len(self.solved), -1)
        ours = (self.solved[i, :3, 3] - self.solved[j, :3, 3]) @ rotation.T
        theirs = self.priors[i, :3, 3] - self.priors[j, :3, 3]
        lengths = np.linalg.norm(ours, axis=1)
        use = (lengths > 0) & (np.maximum(angle[i], angle[j]) < 0.5)
        if lengths.max(initial=0.0, where=use) <= _SAME_PLACE:
            return None
        ratios = (ours * theirs).sum(1)[use] / lengths[use] ** 2
        order = np.argsort(ratios)
        mass = np.cumsum(lengths[use][order])
        scale = float(ratios[order[np.searchsorted(mass, mass[-1] / 2.0)]])
        return scale if scale > 1e-9 else None

    def _rotations(self) -> NDArray[np.float64]:
        """(K, 3, 3) the rotation of the gauge by each prior alone."""
        return self.priors[:, :3, :3] @ np.swapaxes(self.solved[:, :3, :3], 1, 2)

    def _at_scene(self, gauge: Gauge) -> NDArray[np.float64]:
        """(K,) errors [m] at the viewing distance."""
        position, angle = self.errors(gauge)
        return position + angle * self.distance * gauge.scale


@dataclass(frozen=True, eq=False)
class Registration:
    """How the solved world lies in the frame of the given poses.

    Attributes:
        scale: prior units per solved unit; prior_from_world: (4, 4), applied after the scale.
        found: whether the priors fix a frame (and, where it was free, the scale).
        residual: (N,) metres between solved and given camera positions, NaN without a prior.
        error: (N,) the same and, at the viewing distance, what the orientations differ by.
        share: (N,) of the viewing distance that this is: unlike metres, it does not shrink with a
            scale that is wrong.
        wrong: (N,) bool, priors that contradict the others.
        warnings: cameras whose priors contradict the others, by name.
        contradiction: why no scale brings poses that lie apart together; empty where one does.
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


def prior_sigmas(view: View, config: AlignmentConfig) -> tuple[float, float]:
    """Deviations [m, rad] of a view's given pose; 0 where they are not said. A pose constrains the
    world where both are."""
    return (
        view.prior_translation_sigma or config.prior_translation_sigma,
        view.prior_rotation_sigma or config.prior_rotation_sigma,
    )


def register(
    views: Sequence[View],
    world_from_cam: NDArray[np.float64],
    viewing_distance: NDArray[np.float64],
    known_scale: bool,
    outliers: frozenset[int] = frozenset(),
) -> Registration:
    """The transform that moves what the cameras see least from where their priors put it.

    An orientation error counts by what it does at the viewing distance, so positions and
    orientations add up without a tuning constant; orientations fix the rotation even where all
    cameras stand on a line. Wrong priors are outliers: the start is the prior that most others
    support, the refinement is reweighted by Geman-McClure.

    Args:
        views: with priors on some or all.
        world_from_cam: (N, 4, 4) solved poses; viewing_distance: (N,) typical distance of a view's
            points from its camera, solved units.
        known_scale: whether solved units are metres.
        outliers: views whose prior contradicts the others: it takes no part and is named.
    """
    residual, total, share = np.full((3, len(views)), np.nan)
    wrong = np.zeros(len(views), dtype=bool)
    given = [view.world_from_cam_prior for view in views]
    known = [v for v, prior in enumerate(given) if prior is not None]
    nothing = Registration(1.0, np.eye(4), False, residual, total, share, wrong, ())
    if not known:
        return nothing
    cameras = PosedCameras(
        np.stack([prior for prior in given if prior is not None]),
        world_from_cam[known],
        viewing_distance[known],
    )
    trusted = np.array([v not in outliers for v in known])
    if np.count_nonzero(trusted) < 2:
        trusted[:] = True
    voters = cameras.select(trusted)
    rotation, rotation_error = voters.consensus_rotation()
    scale = 1.0 if known_scale else voters.consensus_scale(rotation, rotation_error)
    if scale is None:
        names = [views[v].name for v in np.array(known)[trusted]]
        text = _contradiction(names, voters.priors, rotation_error)
        return replace(nothing, warnings=(text or _NO_SCALE,), contradiction=text)
    gauge = voters.robust_fit(scale, known_scale)
    position, angle = cameras.errors(gauge)
    distance = cameras.distance * gauge.scale
    residual[known], total[known] = position, position + angle * distance
    share[known] = total[known] / np.maximum(distance, 1e-12)
    wrong[list(outliers)] = True
    warnings = _name_wrong([views[v].name for v in known], wrong[known], position, angle)
    if known_scale:
        warnings += _check_units(voters, rotation, rotation_error)
    return Registration(*gauge, True, residual, total, share, wrong, tuple(warnings))


def _contradiction(names: list[str], priors: NDArray, angle: NDArray) -> str:
    """Why poses that lie apart fix no scale; empty where they lie at one place."""
    extent = np.linalg.norm(priors[:, :3, 3] - priors[0, :3, 3], axis=1).max()
    if extent <= _SAME_PLACE:
        return ""
    named = ", ".join(
        f"'{name}' {degrees:.0f}" for name, degrees in zip(names, np.degrees(angle), strict=True)
    )
    return (
        f"no scale brings the given camera poses, up to {extent:.3g} m apart, onto those that the "
        f"images say: orientations differ by (degrees) {named}, or positions run the other way"
    )


def _name_wrong(
    names: list[str], wrong: NDArray[np.bool_], position: NDArray, angle: NDArray
) -> list[str]:
    blame = "one of the two is wrong" if len(names) == 2 else "the other cameras contradict it"
    return [
        f"the given pose of camera '{names[k]}' is {position[k] * 1e3:.0f} mm and "
        f"{np.degrees(angle[k]):.1f} degrees from where its images put it; {blame}: check its "
        "TF or calibration"
        for k in np.flatnonzero(wrong)
    ]


def _check_units(cameras: PosedCameras, rotation: NDArray, angle: NDArray) -> list[str]:
    """A warning when the cameras' baselines and the depth disagree about the metric scale."""
    centres = cameras.solved[:, :3, 3]
    apart = np.linalg.norm(centres - np.median(centres, axis=0), axis=1)
    ratio = cameras.consensus_scale(rotation, angle)
    # Short baselines say little about scale.
    is_short = np.median(apart) < 0.1 * np.median(cameras.distance)
    if len(centres) < 3 or ratio is None or is_short or 0.5 < ratio < 2.0:
        return []
    text = (
        f"the given camera positions are {ratio:.3g} times as far apart as the depth images say; "
        "check the unit of the depth images and of the poses"
    )
    return [text]
