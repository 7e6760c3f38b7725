"""What is known of a relative pose before the images are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import vector_from_rotation


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A Gaussian prior of a relative pose.

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

    def widened(self, factor: float) -> PosePrior:
        """The same with larger deviations."""
        translation, rotation = factor * self.translation_sigma, factor * self.rotation_sigma
        return replace(self, translation_sigma=translation, rotation_sigma=rotation)

    def sigma_at(self, pivot: NDArray) -> float:
        """Standard deviation [m] of the scene's position at the pivot."""
        one = np.hypot(self.translation_sigma, self.rotation_sigma * np.linalg.norm(pivot))
        return float(np.sqrt(self.cameras) * one)

    def information(self, pivot: NDArray) -> NDArray[np.float64]:
        """(6, 6) inverse covariance of ``xi = (w, v)``, left perturbation about a pivot in a.

        An error of a camera's pose rotates the scene about that camera: with its lever arm to the
        pivot a rotation error is a translation error too.
        """
        own = np.diag([self.rotation_sigma**2] * 3 + [self.translation_sigma**2] * 3)
        covariance = np.zeros((6, 6))
        for centre in (self.a_from_b[:3, 3], np.zeros(3))[: self.cameras]:
            x, y, z = np.asarray(pivot) - centre
            to_pivot = np.eye(6)
            to_pivot[3:, :3] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            covariance += to_pivot @ own @ to_pivot.T
        return np.asarray(np.linalg.inv(covariance), dtype=np.float64)

    def deviation(self, a_from_b: NDArray, pivot: NDArray) -> NDArray[np.float64]:
        """(6,) ``xi`` that takes the mean to ``a_from_b``."""
        rotation = a_from_b[:3, :3] @ self.a_from_b[:3, :3].T
        translation = a_from_b[:3, 3] - pivot - rotation @ (self.a_from_b[:3, 3] - pivot)
        return np.concatenate([vector_from_rotation(rotation), translation])

    def distance(self, a_from_b: NDArray, pivot: NDArray) -> float:
        """Mahalanobis distance of a pose from the mean, in standard deviations."""
        xi = self.deviation(a_from_b, pivot)
        return float(np.sqrt(xi @ self.information(pivot) @ xi))
