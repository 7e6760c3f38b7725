"""Gauss-Newton with the residuals left to the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

State = TypeVar("State")

Linearised = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Gauss-Newton matrix (..., n, n) and gradient (..., n) of the cost."""


@dataclass(frozen=True, eq=False)
class Fit(Generic[State]):
    """The result of :func:`gauss_newton`.

    Attributes:
        state: the last one.
        hessian: (..., n, n) of the last pass; None without a pass.
        converged: whether the last step was below the tolerance.
    """

    state: State
    hessian: NDArray[np.float64] | None
    converged: bool


def newton_step(hessian: NDArray, gradient: NDArray) -> NDArray[np.float64]:
    """(..., n) to the minimum of the quadratic model.

    Raises:
        numpy.linalg.LinAlgError: the matrix is singular.
    """
    return -np.linalg.solve(hessian, gradient[..., None])[..., 0]


def minimum_norm_step(hessian: NDArray, gradient: NDArray) -> NDArray[np.float64]:
    """(..., n) to the nearest minimum, where some directions may be undetermined."""
    return -(np.linalg.pinv(hessian, hermitian=True) @ gradient[..., None])[..., 0]


def largest(step: NDArray) -> float:
    """Largest absolute entry of a step."""
    return float(np.abs(step).max(initial=0.0))


def gauss_newton(
    start: State,
    linearise: Callable[[State], Linearised | None],
    retract: Callable[[State, NDArray[np.float64]], State],
    passes: int,
    tolerance: float,
    size: Callable[[NDArray[np.float64]], float] = largest,
    solve: Callable[[NDArray, NDArray], NDArray[np.float64]] = newton_step,
) -> Fit[State]:
    """Minimises a cost whose quadratic model the caller gives at each state.

    Robust losses are the caller's reweighting, priors and damping terms of its matrix. Several
    independent problems are solved at once along leading axes.

    Args:
        start: where to begin; any type that ``retract`` takes.
        linearise: matrix and gradient at a state; None ends the iteration there.
        retract: the state after a step (..., n).
        passes: upper bound.
        tolerance: size of a step below which the iteration has converged.
        size: of a step; by default its largest absolute entry.
        solve: the step by matrix and gradient, and what is raised where there is none.
    """
    state, hessian = start, None
    for _ in range(passes):
        found = linearise(state)
        if found is None:
            break
        hessian, gradient = found
        step = solve(hessian, gradient)
        state = retract(state, step)
        if size(step) < tolerance:
            return Fit(state, hessian, True)
    return Fit(state, hessian, False)


def reweighted(
    fit: Callable[[NDArray[np.float64]], tuple[State, NDArray[np.float64]]],
    reweigh: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    weights: NDArray[np.float64],
    passes: int,
) -> tuple[State, NDArray[np.float64]]:
    """Iteratively reweighted least squares: the last fit, and the weights by its residuals.

    Args:
        fit: state and residuals by weights.
        reweigh: weights by residuals: rho'(r) / r of a robust loss rho.
        weights: of the first fit.
        passes: number of fits, 1 or more.
    """
    state, residual = fit(weights)
    for _ in range(passes - 1):
        state, residual = fit(reweigh(residual))
    return state, reweigh(residual)
