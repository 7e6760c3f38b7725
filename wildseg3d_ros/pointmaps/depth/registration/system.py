"""The linear system of a registration step, and which of its directions the data determine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from wildseg3d_ros.pointmaps.depth.registration.objective import (
    Direction,
    associate,
    brightness,
    point_to_plane,
)


@dataclass(frozen=True, eq=False)
class System:
    """Normal equations of the data: ``hessian xi = -gradient``.

    Attributes:
        hessian: (6, 6). gradient: (6,).
        noise: (6, 6) part of the hessian that only noise in the derivatives makes.
        distances: number of point-to-plane distances.
    """

    hessian: NDArray[np.float64]
    gradient: NDArray[np.float64]
    noise: NDArray[np.float64]
    distances: int

    def observable(self, prior: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Hessian and gradient without the directions in which the data say nothing.

        Noisy normals of a bare wall and noisy pixels of a blank one have derivatives along the
        wall all the same, thousands of them, and would outweigh any prior with pure chance.
        Directions are judged by their information relative to what noise alone would give
        (generalised eigenvalues): fourfold counts, twofold does not, in the spirit of the solution
        remapping of Zhang, Kaess and Singh, "On degeneracy of optimization-based state
        estimation", ICRA 2016.

        Args:
            prior: (6, 6) information of the prior; keeps the comparison well posed.
        """
        # vectors.T @ reference @ vectors is the identity, and in these axes the hessian is
        # diagonal. A twentieth of the prior keeps this well posed in directions without noise.
        reference = self.noise + 0.05 * prior
        values, vectors = eigh(self.hessian, reference)
        keep = np.clip(values / 2.0 - 1.0, 0.0, 1.0)
        back = reference @ vectors
        return (back * (keep * values)) @ back.T, back @ (keep * (vectors.T @ self.gradient))


def normal_equations(
    directions: tuple[Direction, Direction],
    count: int,
    gate: float,
    width: float,
    level: int,
    noise: NDArray[np.float64] | None = None,
) -> System:
    """Gauss-Newton system of the data at a pose.

    Args:
        count: samples per direction.
        gate: metres, see :func:`point_to_plane`.
        width: of the robust kernel of the distances [standard deviations].
        level: of the texture pyramid.
        noise: that of an earlier system nearby, to save computing it again.
    """
    hessian, gradient, distances = np.zeros((6, 6)), np.zeros(6), 0
    wanted = noise is None
    fresh = np.zeros((6, 6))
    for direction in directions:
        found = associate(direction, count)
        planes = point_to_plane(direction, found, gate, wanted)
        distances += len(planes.value)
        colours = brightness(direction, found, gate, level, wanted)
        for residuals, kernel in ((planes, width), (colours, 3.0)):
            # Geman-McClure. Depth errors are smooth over many pixels: against the prior, 20
            # residuals weigh as one.
            weight = (kernel**2 / (kernel**2 + residuals.value**2)) ** 2 / 20.0
            weighted = residuals.jacobian * weight[:, None]
            hessian += weighted.T @ residuals.jacobian
            gradient += weighted.T @ residuals.value
            for rows in residuals.noise:
                fresh += (rows * weight[:, None]).T @ rows
    return System(hessian, gradient, fresh if noise is None else noise, distances)
