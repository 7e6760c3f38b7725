"""The error that all views of one moving camera have in common: its place on the arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.factor_graph import outlier_limit
from wildseg3d_ros.core.geometry.transforms import (
    invert,
    make_transform,
    rotation_from_vector,
    vector_from_rotation,
)

AT_LEAST = 5
"""Views, of which each has six numbers, and the common part and the frame have twelve."""

_HONEST = 0.002, np.radians(0.2)
"""Standard deviations per axis [m, rad] of a hand-eye calibration that is as good as they get,
with what errors of the depth have in common in all views."""

_LENGTH = 0.5
"""Metres at which an error of rotation counts as one of place: what an arm's camera looks at."""


@dataclass(frozen=True, eq=False)
class HandEye:
    """By how much a camera's given place on what carries it is wrong.

    Attributes:
        given_from_true: (4, 4) from the camera's true axes to those that its given poses have.
        translation, rotation: sizes of it [m, rad].
        translation_sigma, rotation_sigma: their standard deviations.
        distance: squared, of it from none, in standard deviations (Mahalanobis): of what was found
            and of a good calibration together.
    """

    given_from_true: NDArray[np.float64]
    translation: float
    rotation: float
    translation_sigma: float
    rotation_sigma: float
    distance: float

    @property
    def is_clear(self) -> bool:
        """Whether no good calibration has so much of it: one in a thousand."""
        return self.distance > outlier_limit(6) ** 2

    @property
    def text(self) -> str:
        """Its size, for people."""
        return (
            f"{self.translation * 1e3:.1f} +- {self.translation_sigma * 1e3:.1f} mm and "
            f"{np.degrees(self.rotation):.2f} +- {np.degrees(self.rotation_sigma):.2f} degrees"
        )


def hand_eye_correction(
    given: Sequence[NDArray[np.float64]], solved: Sequence[NDArray[np.float64]]
) -> HandEye | None:
    """What makes the given poses of a moving camera the solved ones, but for one rigid motion of
    the world; None for fewer than :data:`AT_LEAST` views, or where their turning does not fix it.

    ``solved = world * given * correction`` for all views, in the least squares, with the spread of
    what remains as noise.

    Args:
        given, solved: (4, 4) ``world_from_cam`` by view.
    """
    # SciPy's optimizers take a while to load.
    from scipy.optimize import least_squares

    if len(given) < AT_LEAST:
        return None

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        world, correction = _motion(x[:6]), _motion(x[6:])
        off = [invert(s) @ world @ g @ correction for g, s in zip(given, solved, strict=True)]
        return np.concatenate([
            np.concatenate([_LENGTH * vector_from_rotation(t[:3, :3]), t[:3, 3]]) for t in off
        ])  # fmt: skip

    found = least_squares(residuals, np.zeros(12), method="lm")
    freedom = len(found.fun) - 12
    normal = found.jac.T @ found.jac
    if np.linalg.cond(normal) > 1e8:
        return None
    covariance = 2.0 * found.cost / freedom * np.linalg.inv(normal)[6:, 6:]
    honest = np.diag(np.repeat([_LENGTH * _HONEST[1], _HONEST[0]], 3) ** 2)
    correction, x = _motion(found.x[6:]), found.x[6:]
    return HandEye(
        correction,
        float(np.linalg.norm(correction[:3, 3])),
        float(np.linalg.norm(x[:3]) / _LENGTH),
        float(np.sqrt(np.trace(covariance[3:, 3:]))),
        float(np.sqrt(np.trace(covariance[:3, :3])) / _LENGTH),
        float(x @ np.linalg.solve(covariance + honest, x)),
    )


def _motion(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of rotation vector times :data:`_LENGTH`, and translation."""
    return make_transform(rotation_from_vector(x[:3] / _LENGTH), x[3:])
