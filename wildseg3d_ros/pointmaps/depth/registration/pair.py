"""The relative pose of two views by the best means that they allow, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.pointmaps.depth.registration.dense import MIN_AGREEING, Agreement, refine
from wildseg3d_ros.pointmaps.depth.registration.features import Keypoints, pose_from_features
from wildseg3d_ros.pointmaps.depth.registration.frame import Frame
from wildseg3d_ros.pointmaps.depth.registration.prior import PosePrior

PLAUSIBLE = 5.5
"""Largest Mahalanobis distance from the prior that is accepted: with six degrees of freedom, a
true prior leaves a pair beyond it once in 30,000."""

DOUBTFUL = 0.94
"""Consistency below which a registration from a given pose may have ended in a wrong place. In ten
simulated scenes of other sensors each and four constructed ones 99 of 100 that ended within 3 % of
the distance had 0.96 or more, and of those that ended 5 % off or more 99 of 100 less than 0.92."""

REFUTED = 0.6
"""Consistency below which most of what both cameras should see contradicts the pose."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Outcome of registering two views.

    Attributes:
        a_from_b: (4, 4) metres; None when nothing is known of the pose.
        origin: what the pose comes from; "features" also where other pairs say it.
        overlap: share of the samples that agree at the pose, 0..1.
        consistency: agreeing among agreeing and contradicting samples there, 0..1.
        support: agreeing samples less contradicting ones; compared: both together.
        note: why the pair is not refined or has no pose; empty when all is well.
    """

    a_from_b: NDArray[np.float64] | None
    origin: Literal["refined", "prior", "features", "none"]
    overlap: float
    note: str = ""
    consistency: float = 1.0
    support: int = 0
    compared: int = 0

    @classmethod
    def at(
        cls,
        a_from_b: NDArray[np.float64],
        origin: Literal["refined", "prior", "features"],
        fit: Agreement,
        note: str = "",
    ) -> Registration:
        """A pose at which the depth images fit so well."""
        support, compared = fit.agreeing - fit.in_front, fit.agreeing + fit.in_front
        return cls(a_from_b, origin, fit.overlap, note, fit.consistency, support, compared)

    @property
    def contradicting(self) -> int:
        """How many samples contradict the pose."""
        return (self.compared - self.support) // 2

    @property
    def is_doubtful(self) -> bool:
        """Whether nothing that both views see bears the pose out."""
        return self.origin == "prior" or self.consistency < DOUBTFUL

    @property
    def is_contradicted(self) -> bool:
        """Whether too much of what both views should see contradicts the pose."""
        return self.compared >= MIN_AGREEING and self.consistency < DOUBTFUL

    @property
    def is_refuted(self) -> bool:
        """Whether most of it does."""
        return self.compared >= MIN_AGREEING and self.consistency < REFUTED


_unknown = partial(Registration, None, "none", 0.0)


def register_from_prior(frame_a: Frame, frame_b: Frame, prior: PosePrior) -> Registration:
    """Refines a given relative pose; keeps it when the refinement cannot be trusted.

    The overlap is 0 when the depth images have too little in common at the prior.
    """
    nothing = Registration(prior.a_from_b, "prior", 0.0, "too few common points", 0.0)
    given = partial(Registration.at, prior.a_from_b, "prior")
    refined = refine(frame_a, frame_b, prior)
    if refined is None:
        return nothing
    before, after = refined.before, refined.after
    if max(before.agreeing, after.agreeing) < MIN_AGREEING:
        return nothing
    if refined.prior_distance > PLAUSIBLE:
        return given(
            before,
            f"registration ended {refined.prior_distance:.1f} standard deviations from the given "
            "pose, which was kept",
        )
    # Up to 5 % fewer count as equal.
    if after.agreeing < 0.95 * before.agreeing and after.cost >= before.cost:
        return given(
            before,
            f"registration would lower the overlap from {before.overlap:.0%} to "
            f"{after.overlap:.0%}; the given pose was kept",
        )
    return Registration.at(refined.a_from_b, "refined", after)


def register_from_features(
    frame_a: Frame, frame_b: Frame, keypoints_a: Keypoints, keypoints_b: Keypoints
) -> Registration:
    """Finds the relative pose by features and depth, then refines and verifies it."""
    found = pose_from_features(keypoints_a, keypoints_b, frame_a.K, max(frame_a.gray.shape))
    if found is None:
        return _unknown("too few matching features with depth")
    start, inliers = found
    return register_from_estimate(frame_a, frame_b, start, f"{inliers} matching features")


def register_from_estimate(
    frame_a: Frame, frame_b: Frame, start: NDArray[np.float64], source: str
) -> Registration:
    """Refines and verifies an estimate of the relative pose; ``source``: what it is from."""
    depth = float(np.median(frame_a.sample_points[:, 2]))
    # It is taken to be good to 2 % of the distance and 0.02 rad, about one degree.
    prior = PosePrior(start, 0.02 * depth, 0.02, cameras=1)
    refined = refine(frame_a, frame_b, prior)
    if refined is None or refined.after.agreeing < MIN_AGREEING:
        return _unknown(f"{source} agree on a pose but the depths do not")
    pose, fit = refined.a_from_b, refined.after
    if refined.prior_distance > PLAUSIBLE or fit.agreeing < 0.95 * refined.before.agreeing:
        pose, fit = start, refined.before
    if fit.consistency < REFUTED:
        return _unknown(
            f"only {fit.consistency:.0%} of the visible points agree at the pose of {source}"
        )
    return Registration.at(pose, "features", fit)
