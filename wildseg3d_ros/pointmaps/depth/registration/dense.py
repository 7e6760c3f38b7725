"""Refinement of a relative pose by dense RGB-D registration, as a maximum a posteriori estimate.

Projective data association (Blais and Levine, PAMI 1995), point-to-plane distances in both
directions and a brightness term, all whitened by the depth noise model; Geman-McClure weights
whose width shrinks from stage to stage (graduated non-convexity); Gauss-Newton with the prior's
information added, so that directions which the data do not constrain (a bare plane slides along
itself) stay where the prior is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.least_squares import Fit, Linearised, gauss_newton
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    nearest_rotation,
    rotation_from_vector,
)
from wildseg3d_ros.pointmaps.depth.registration.frame import Frame
from wildseg3d_ros.pointmaps.depth.registration.objective import (
    associate,
    both_directions,
    point_to_plane,
)
from wildseg3d_ros.pointmaps.depth.registration.prior import PosePrior
from wildseg3d_ros.pointmaps.depth.registration.system import normal_equations

MIN_AGREEING = 60
"""Samples of both frames together that must agree before a pair counts as overlapping."""

_BEYOND = 6.0
"""Deviations of a pair of surface points that noise does not make."""


@dataclass(frozen=True)
class Agreement:
    """How well the two depth images fit at a pose.

    Attributes:
        agreeing: samples of both frames that lie on the other's surface to within its noise.
        in_front: samples that the other camera should see but sees through.
        total: samples of both frames.
        cost: mean truncated squared distance [variances] of the samples on or near the surface.
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


def agreement(
    frame_a: Frame, frame_b: Frame, a_from_b: NDArray, gate: float, samples: int = 1500
) -> Agreement:
    """Counts the samples of both frames that fit the other frame at a pose.

    Args:
        gate: metres; points farther than this from the surface say nothing about how well it fits
            (behind it they are hidden, in front of it by six of their own deviations, too, they
            contradict).
    """
    agreeing = in_front = total = 0
    costs = []
    for direction in both_directions(frame_a, frame_b, a_from_b, np.zeros(3)):
        found = associate(direction, samples)
        near = point_to_plane(direction, found, gate)
        agreeing += int((np.abs(near.value) < 3.0).sum())
        # What is far or seen at a grazing angle is measured worse than the typical point.
        sigma = np.hypot(
            direction.target.sigma[found.rows, found.cols],
            direction.source.sample_sigma[found.chosen],
        )
        in_front += int((found.depth_error < -np.maximum(gate, _BEYOND * sigma)).sum())
        total += found.total
        costs.append(np.minimum(near.value**2, 9.0))
    cost = np.concatenate(costs)
    return Agreement(agreeing, in_front, total, float(cost.mean()) if len(cost) else np.inf)


@dataclass(frozen=True)
class _Stage:
    """A stage of :func:`refine`.

    Attributes:
        gate: metres, see :func:`point_to_plane`.
        kernel: width of the robust kernel of the distances [standard deviations].
        samples: per direction.
        level: of the texture pyramid.
        passes: upper bound of steps.
        tolerance: metres, size of a step below which the stage has converged.
    """

    gate: float
    kernel: float
    samples: int
    level: int
    passes: int
    tolerance: float


def refine(frame_a: Frame, frame_b: Frame, prior: PosePrior) -> Refinement | None:
    """Estimates ``a_from_b`` from both frames and the prior, starting at the prior's mean; None
    when the frames overlap too little there or on the way."""
    pivot = _overlap_centre(frame_a, frame_b, prior.a_from_b)
    if pivot is None:
        return None
    # Of a pair of surface points.
    noise = float(np.hypot(np.median(frame_a.sample_sigma), np.median(frame_b.sample_sigma)))
    fine = _BEYOND * noise
    before = agreement(frame_a, frame_b, prior.a_from_b, fine)
    pose, fit = prior.a_from_b, None
    for stage in _stages(frame_a, frame_b, prior.sigma_at(pivot), noise):
        fit = _minimise(frame_a, frame_b, prior, pivot, pose, stage)
        if fit is None:
            return None
        pose = fit.state
    assert fit is not None and fit.hessian is not None
    return Refinement(
        pose,
        before,
        agreement(frame_a, frame_b, pose, fine),
        prior.distance(pose, pivot),
        fit.converged,
        np.sqrt(np.diag(np.linalg.inv(fit.hessian))),
    )


def _stages(frame_a: Frame, frame_b: Frame, prior_sigma: float, noise: float) -> Iterator[_Stage]:
    """From coarse to fine; the first gate holds three deviations of the prior, the last six of a
    point."""
    fine = _BEYOND * noise
    coarse = max(3.0 * prior_sigma, fine)
    size = max(len(frame_a.sample_points), len(frame_b.sample_points))
    # Gate, samples, texture level, passes, and the step, in a point's noise, that ends the stage.
    for gate, samples, level, passes, tolerance in (
        (coarse, size // 4, 1, 8, 0.2),
        (float(np.sqrt(coarse * fine)), size // 2, 1, 8, 0.2),
        (fine, size, 0, 10, 0.05),
    ):
        # The kernel is as wide as half the gate: three deviations in the last stage. Steps well
        # below the noise of a single point change nothing that matters.
        yield _Stage(gate, gate / (2.0 * noise), samples, level, passes, tolerance * noise)


def _minimise(
    frame_a: Frame,
    frame_b: Frame,
    prior: PosePrior,
    pivot: NDArray[np.float64],
    start: NDArray[np.float64],
    stage: _Stage,
) -> Fit[NDArray[np.float64]] | None:
    """The pose after a stage; None where the frames overlap too little on the way."""
    information = prior.information(pivot)
    lever = np.linalg.norm(pivot)
    noise, overlaps = None, True

    def linearise(pose: NDArray[np.float64]) -> Linearised | None:
        nonlocal noise, overlaps
        directions = both_directions(frame_a, frame_b, pose, pivot)
        system = normal_equations(
            directions, stage.samples, stage.gate, stage.kernel, stage.level, noise
        )
        overlaps = system.distances >= MIN_AGREEING // 2
        if not overlaps:
            return None
        noise = system.noise
        hessian, gradient = system.observable(information)
        return hessian + information, gradient + information @ prior.deviation(pose, pivot)

    def perturb(pose: NDArray[np.float64], xi: NDArray[np.float64]) -> NDArray[np.float64]:
        step = rotation_from_vector(xi[:3])
        rotation = nearest_rotation(step @ pose[:3, :3])
        return make_transform(rotation, step @ (pose[:3, 3] - pivot) + pivot + xi[3:])

    def size(xi: NDArray[np.float64]) -> float:
        return float(np.hypot(np.linalg.norm(xi[3:]), np.linalg.norm(xi[:3]) * lever))

    fit = gauss_newton(start, linearise, perturb, stage.passes, stage.tolerance, size)
    return fit if overlaps else None


def _overlap_centre(
    frame_a: Frame, frame_b: Frame, a_from_b: NDArray
) -> NDArray[np.float64] | None:
    """(3,) median point, in a, of b's samples that land on a's points and the other way round."""
    into_a, into_b = (
        associate(direction, 1000)
        for direction in both_directions(frame_a, frame_b, a_from_b, np.zeros(3))
    )
    both = np.vstack([into_a.points, frame_a.sample_points[into_b.chosen]])
    return np.median(both, axis=0) if len(both) >= MIN_AGREEING else None
