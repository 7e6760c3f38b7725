"""Refinement of a relative pose by dense RGB-D registration, as a maximum a posteriori estimate.

Projective data association (Blais and Levine, PAMI 1995), point-to-plane distances in both directions
and a brightness term, all whitened by the depth noise model; Geman-McClure weights whose width shrinks
from stage to stage (graduated non-convexity); Gauss-Newton with the prior's information added, so that
directions which the data do not constrain (a bare plane slides along itself) stay where the prior is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.geometry.transforms import (
    invert,
    make_transform,
    nearest_rotation,
    rotation_from_vector,
)
from wildseg3d_ros.registration.frame import Frame
from wildseg3d_ros.registration.objective import (
    Residuals,
    associate,
    brightness,
    point_to_plane,
)

CORRELATED = 20.0
"""Samples that share their error: depth errors are smooth over many pixels, so M residuals weigh as
M / CORRELATED independent ones against the prior."""

MIN_AGREEING = 60
"""Samples of both frames together that must agree before a pair counts as overlapping."""


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A Gaussian belief about a relative pose.

    Attributes:
        a_from_b: (4, 4) its mean.
        translation_sigma: metres, of each camera's position.
        rotation_sigma: rad, of each camera's orientation.
        cameras: how many of the two poses are uncertain: 2 for two camera poses from kinematics, 1
            for an estimate of the relative pose itself.
    """

    a_from_b: NDArray[np.float64]
    translation_sigma: float
    rotation_sigma: float
    cameras: int = 2

    def information(self, pivot: NDArray) -> NDArray[np.float64]:
        """(6, 6) inverse covariance of ``xi = (w, v)``, left perturbation about ``pivot`` in a's frame.

        An error of a camera's pose turns the scene about that camera: with its lever arm to the pivot
        a rotation error is a translation error too.
        """
        own = np.diag([self.rotation_sigma**2] * 3 + [self.translation_sigma**2] * 3)
        covariance = np.zeros((6, 6))
        for centre in (self.a_from_b[:3, 3], np.zeros(3))[: self.cameras]:
            x, y, z = np.asarray(pivot) - centre
            to_pivot = np.eye(6)
            to_pivot[3:, :3] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            covariance += to_pivot @ own @ to_pivot.T
        return np.linalg.inv(covariance)

    def deviation(self, a_from_b: NDArray, pivot: NDArray) -> NDArray[np.float64]:
        """(6,) ``xi`` that takes the mean to ``a_from_b``."""
        turn = a_from_b[:3, :3] @ self.a_from_b[:3, :3].T
        shift = a_from_b[:3, 3] - pivot - turn @ (self.a_from_b[:3, 3] - pivot)
        return np.concatenate([rotation_vector(turn), shift])

    def distance(self, a_from_b: NDArray, pivot: NDArray) -> float:
        """Mahalanobis distance of a pose from the mean, in standard deviations."""
        xi = self.deviation(a_from_b, pivot)
        return float(np.sqrt(xi @ self.information(pivot) @ xi))


@dataclass(frozen=True)
class Agreement:
    """How well the two depth images fit at a pose.

    Attributes:
        agreeing: samples of both frames that lie on the other's surface to within its noise.
        in_front: samples that the other camera should see but sees through.
        total: samples of both frames.
        cost: mean truncated squared distance to the surface over the samples on or near it, in
            variances.
    """

    agreeing: int
    in_front: int
    total: int
    cost: float

    @property
    def overlap(self) -> float:
        """Share of the samples that agree, 0..1."""
        return self.agreeing / max(self.total, 1)

    @property
    def consistency(self) -> float:
        """Agreeing among agreeing and contradicting samples, 0..1."""
        return self.agreeing / max(self.agreeing + self.in_front, 1)


@dataclass(frozen=True, eq=False)
class Refinement:
    """Result of :func:`refine`.

    Attributes:
        a_from_b: (4, 4) the estimate.
        before, after: agreement at the start and at the estimate.
        prior_distance: Mahalanobis distance from the prior, standard deviations.
        converged: whether the last stage's steps became small.
        sigma: (6,) posterior standard deviations of ``xi`` about the overlap's centre (rad, m).
    """

    a_from_b: NDArray[np.float64]
    before: Agreement
    after: Agreement
    prior_distance: float
    converged: bool
    sigma: NDArray[np.float64]


def rotation_vector(rotation: NDArray) -> NDArray[np.float64]:
    """(3,) angle [rad] times axis of a rotation by less than pi."""
    sine = 0.5 * np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    length = np.linalg.norm(sine)
    angle = np.arctan2(length, (np.trace(rotation) - 1.0) / 2.0)
    return sine * (angle / length if length > 1e-12 else 1.0)


def agreement(
    frame_a: Frame, frame_b: Frame, a_from_b: NDArray, gate: float, samples: int = 1500
) -> Agreement:
    """Counts the samples of both frames that fit the other frame at a pose.

    Args:
        gate: metres; points farther than this from the surface say nothing about how well it fits
            (behind it they are hidden, in front of it they contradict).
    """
    agreeing = in_front = total = 0
    costs = []
    for source, target, pose in (
        (frame_b, frame_a, a_from_b),
        (frame_a, frame_b, invert(a_from_b)),
    ):
        found = associate(source, target, pose, samples)
        near = point_to_plane(source, target, pose, found, gate, np.zeros(3), False)
        agreeing += int((np.abs(near.value) < 3.0).sum())
        in_front += int((found.depth_error < -gate).sum())
        total += found.total
        costs.append(np.minimum(near.value**2, 9.0))
    cost = np.concatenate(costs)
    return Agreement(agreeing, in_front, total, float(cost.mean()) if len(cost) else np.inf)


def refine(
    frame_a: Frame, frame_b: Frame, prior: PosePrior, with_colour: bool = True
) -> Refinement | None:
    """Estimates ``a_from_b`` from both frames and the prior, starting at the prior's mean.

    Args:
        frame_a, frame_b: prepared views.
        prior: belief about the pose.
        with_colour: use the brightness term.

    Returns:
        The estimate, or None when the frames do not overlap at the prior.
    """
    pivot = _overlap_centre(frame_a, frame_b, prior.a_from_b)
    if pivot is None:
        return None
    spread = np.sqrt(prior.cameras) * np.hypot(
        prior.translation_sigma, prior.rotation_sigma * np.linalg.norm(pivot)
    )
    noise = _typical_sigma(frame_a, frame_b)
    fine = 6.0 * noise
    coarse = max(3.0 * spread, fine)
    information = prior.information(pivot)
    before = agreement(frame_a, frame_b, prior.a_from_b, fine)

    pose = prior.a_from_b
    hessian, converged = information, False
    size = max(len(frame_a.sample_points), len(frame_b.sample_points))
    for gate, count, level, passes in (
        (coarse, size // 4, 1, 8),
        (np.sqrt(coarse * fine), size // 2, 1, 8),
        (fine, size, 0, 10),
    ):
        converged = False
        for _ in range(passes):
            hessian, gradient, used = _normal_equations(
                frame_a, frame_b, pose, pivot, gate, noise, count, level if with_colour else None
            )
            if used < MIN_AGREEING // 2:
                return None
            hessian = hessian + information
            gradient = gradient + information @ prior.deviation(pose, pivot)
            xi = -np.linalg.solve(hessian, gradient)
            pose = _perturb(pose, xi, pivot)
            # A step that moves the overlap by a fiftieth of its noise changes nothing that matters.
            step = np.hypot(np.linalg.norm(xi[3:]), np.linalg.norm(xi[:3]) * np.linalg.norm(pivot))
            if step < 0.02 * noise:
                converged = True
                break
    return Refinement(
        pose,
        before,
        agreement(frame_a, frame_b, pose, fine),
        prior.distance(pose, pivot),
        converged,
        np.sqrt(np.diag(np.linalg.inv(hessian))),
    )


def _overlap_centre(
    frame_a: Frame, frame_b: Frame, a_from_b: NDArray
) -> NDArray[np.float64] | None:
    """(3,) median point, in a, of b's samples that land on a's points and the other way round."""
    into_a = associate(frame_b, frame_a, a_from_b, 1000)
    into_b = associate(frame_a, frame_b, invert(a_from_b), 1000)
    both = np.vstack([into_a.points, frame_a.sample_points[into_b.chosen]])
    if len(both) < MIN_AGREEING:
        return None
    return np.median(both, axis=0)


def _typical_sigma(frame_a: Frame, frame_b: Frame) -> float:
    """Metres: combined noise of a pair of surface points."""
    return float(np.hypot(np.median(frame_a.sample_sigma), np.median(frame_b.sample_sigma)))


def _normal_equations(
    frame_a: Frame,
    frame_b: Frame,
    pose: NDArray,
    pivot: NDArray,
    gate: float,
    noise: float,
    count: int,
    level: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Gauss-Newton system of the data at a pose: (6, 6), (6,), and the number of distances."""
    hessian, gradient, used = np.zeros((6, 6)), np.zeros(6), 0
    back = invert(pose)
    for source, target, t_from_s, from_target in (
        (frame_b, frame_a, pose, False),
        (frame_a, frame_b, back, True),
    ):
        found = associate(source, target, t_from_s, count)
        planes = point_to_plane(source, target, t_from_s, found, gate, pivot, from_target)
        used += len(planes.value)
        # The kernel is as wide as the gate's half in the coarse stages, three sigma in the last.
        terms = [(planes, max(3.0, gate / (2.0 * noise)))]
        if level is not None:
            terms.append(
                (brightness(source, target, t_from_s, found, gate, pivot, from_target, level), 3.0)
            )
        for residuals, width in terms:
            h, g = _weighted(residuals, width)
            hessian += h
            gradient += g
    return hessian / CORRELATED, gradient / CORRELATED, used


def _weighted(residuals: Residuals, width: float) -> tuple[NDArray, NDArray]:
    """Normal equations under the Geman-McClure kernel of the given width [standard deviations]."""
    weight = (width**2 / (width**2 + residuals.value**2)) ** 2
    weighted = residuals.jacobian * weight[:, None]
    return weighted.T @ residuals.jacobian, weighted.T @ residuals.value


def _perturb(pose: NDArray, xi: NDArray, pivot: NDArray) -> NDArray[np.float64]:
    turn = rotation_from_vector(xi[:3])
    rotation = nearest_rotation(turn @ pose[:3, :3])
    return make_transform(rotation, turn @ (pose[:3, 3] - pivot) + pivot + xi[3:])
