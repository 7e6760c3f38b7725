"""Gauss-Newton against SciPy's least squares."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from wildseg3d_ros.core.geometry.least_squares import gauss_newton, minimum_norm_step, reweighted


def curve(parameters, x):
    return parameters[0] * np.exp(parameters[1] * x)


def slope(parameters, x):
    return np.stack(
        [np.exp(parameters[1] * x), parameters[0] * x * curve([1, parameters[1]], x)], 1
    )


def problem(seed):
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, 30)
    return x, curve([2.0, -1.3], x) + 0.01 * rng.standard_normal(len(x))


def test_gauss_newton_finds_the_minimum_of_scipy():
    x, y = problem(0)

    def linearise(state):
        jacobian, residual = slope(state, x), curve(state, x) - y
        return jacobian.T @ jacobian, jacobian.T @ residual

    fit = gauss_newton(np.array([1.0, 0.0]), linearise, np.add, 30, 1e-10)
    expected = least_squares(lambda p: curve(p, x) - y, [1.0, 0.0], xtol=1e-14, ftol=1e-14)
    assert fit.converged
    np.testing.assert_allclose(fit.state, expected.x, atol=1e-7)


def test_gauss_newton_batched_is_each_alone():
    data = [problem(seed) for seed in range(3)]

    def one(state, index):
        x, y = data[index]
        jacobian, residual = slope(state, x), curve(state, x) - y
        return jacobian.T @ jacobian, jacobian.T @ residual

    def all_of_them(states):
        return tuple(
            np.stack(p) for p in zip(*(one(s, i) for i, s in enumerate(states)), strict=True)
        )

    start = np.tile([1.0, 0.0], (3, 1))
    together = gauss_newton(start, all_of_them, np.add, 30, 1e-10)
    for index in range(3):
        alone = gauss_newton(start[index], lambda s, i=index: one(s, i), np.add, 30, 1e-10)
        np.testing.assert_allclose(together.state[index], alone.state, atol=1e-9)


def test_gauss_newton_stops():
    line = lambda state: (np.eye(1), state - 3.0)  # noqa: E731
    assert not gauss_newton(np.zeros(1), line, np.add, 1, 1e-9).converged
    ended = gauss_newton(np.zeros(1), lambda state: None, np.add, 5, 1e-9)
    assert ended.hessian is None and not ended.converged
    coarse = gauss_newton(np.zeros(1), line, np.add, 5, 1.0, size=lambda step: 0.0)
    assert coarse.converged and coarse.state[0] == 3.0


def test_gauss_newton_leaves_undetermined_directions():
    flat = np.array([[1.0, 0.0], [0.0, 0.0]])
    fit = gauss_newton(
        np.zeros(2),
        lambda state: (flat, flat @ (state - 3.0)),
        np.add,
        5,
        1e-9,
        solve=minimum_norm_step,
    )
    np.testing.assert_allclose(fit.state, [3.0, 0.0])


def test_reweighted_finds_the_median():
    """The sum of distances is least at the median, whatever a far outlier is."""
    values = np.array([0.0, 1.0, 2.0, 4.0, 1000.0])

    def fit(weights):
        mean = weights @ values / weights.sum()
        return mean, np.abs(values - mean)

    mean, weights = reweighted(fit, lambda r: 1.0 / np.maximum(r, 1e-6), np.ones(5), 200)
    assert abs(mean - 2.0) < 1e-3
    assert np.argmax(weights) == 2
