"""The robust solve over factors against SciPy, and its findings against leaving factors out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import chi2

from wildseg3d_ros.core.geometry.factor_graph import Factors, judge, outlier_limit


class Network:
    """Points of a plane, known and measured to each other: a levelling network in two axes.

    ``anchors`` (K,) with known places (K, 2), and ``edges`` (E, 2) with measured offsets (E, 2).
    """

    def __init__(self, count, anchors, places, edges, offsets, sigma_anchor, sigma_edge):
        self.count = count
        self.anchors, self.places = np.array(anchors), np.array(places)
        self.edges, self.offsets = np.array(edges), np.array(offsets)
        self.sigma_anchor, self.sigma_edge = sigma_anchor, sigma_edge

    def linearise(self, x):
        points = x.reshape(-1, 2)
        axes = np.arange(2)
        a, b = self.edges.T
        k, e = len(self.anchors), len(self.edges)
        known = Factors(
            (points[self.anchors] - self.places) / self.sigma_anchor,
            np.tile(np.eye(2) / self.sigma_anchor, (k, 1, 1)),
            2 * self.anchors[:, None] + axes,
        )
        both = np.hstack([-np.eye(2), np.eye(2)]) / self.sigma_edge
        measured = Factors(
            (points[b] - points[a] - self.offsets) / self.sigma_edge,
            np.tile(both, (e, 1, 1)),
            np.hstack([2 * a[:, None] + axes, 2 * b[:, None] + axes]),
        )
        return known, measured

    def judge(self):
        return judge(np.zeros(2 * self.count), self.linearise, np.add, 2 * self.count)


def network(seed, count=6, anchors=None, sigma_anchor=0.1, sigma_edge=0.05):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 2))
    edges = [(a, b) for a in range(count) for b in range(a)]
    anchors = list(range(count)) if anchors is None else anchors
    places = points[anchors] + sigma_anchor * rng.normal(size=(len(anchors), 2))
    offsets = [points[b] - points[a] + sigma_edge * rng.normal(size=2) for a, b in edges]
    return Network(count, anchors, places, edges, offsets, sigma_anchor, sigma_edge)


def test_outlier_limit_is_the_quantile_of_chi_square():
    for d in (1, 3, 6):
        assert outlier_limit(d) == pytest.approx(np.sqrt(chi2.isf(1e-3, d)))


@pytest.mark.parametrize("seed", range(5))
def test_judge_without_outliers_is_least_squares(seed):
    net = network(seed)

    def residuals(x):
        return np.concatenate([f.residual.ravel() for f in net.linearise(x)])

    expected = least_squares(residuals, np.zeros(12), xtol=1e-14).x
    judged = net.judge()
    np.testing.assert_allclose(judged.state, expected, atol=1e-7)
    assert all(f.used.all() for f in judged.findings)
    assert all((f.deviations < f.limit).all() for f in judged.findings)


@pytest.mark.parametrize("seed", range(5))
def test_findings_are_those_of_a_solution_without_the_factor(seed):
    net = network(seed)
    known, _ = net.judge().findings
    for k in range(len(net.anchors)):
        keep = np.arange(len(net.anchors)) != k
        rest = Network(
            net.count,
            net.anchors[keep],
            net.places[keep],
            net.edges,
            net.offsets,
            net.sigma_anchor,
            net.sigma_edge,
        )
        factors = rest.linearise(rest.judge().state)
        jacobian = np.zeros((sum(f.residual.size for f in factors), 2 * net.count))
        row = 0
        for f in factors:
            for j, columns in zip(f.jacobian, f.columns, strict=True):
                jacobian[row : row + len(j), columns] = j
                row += len(j)
        covariance = np.linalg.inv(jacobian.T @ jacobian)
        own = slice(2 * net.anchors[k], 2 * net.anchors[k] + 2)
        residual = (rest.judge().state[own] - net.places[k]) / net.sigma_anchor
        expected = np.eye(2) + covariance[own, own] / net.sigma_anchor**2
        np.testing.assert_allclose(known.residual[k], residual, atol=1e-5)
        np.testing.assert_allclose(known.covariance[k], expected, atol=1e-5)
        distance = np.sqrt(residual @ np.linalg.inv(expected) @ residual)
        assert known.deviations[k] == pytest.approx(distance, abs=1e-5)
        assert known.redundancy[k] == pytest.approx(np.trace(np.linalg.inv(expected)) / 2)


@pytest.mark.parametrize("seed", range(8))
def test_judge_leaves_out_what_is_wrong_and_nothing_else(seed):
    net, rng = network(seed, count=8), np.random.default_rng(seed)
    wrong_anchors = rng.choice(8, 3, replace=False)
    wrong_edges = rng.choice(len(net.edges), 7, replace=False)
    net.places[wrong_anchors] += 2.0 * rng.choice([-1, 1], (3, 2))
    net.offsets[wrong_edges] += 1.0 * rng.choice([-1, 1], (7, 2))
    known, measured = net.judge().findings
    assert set(np.flatnonzero(~known.used)) == set(wrong_anchors)
    assert set(np.flatnonzero(~measured.used)) == set(wrong_edges)
    assert (known.deviations[wrong_anchors] > known.limit).all()
    # As far as it is off, in deviations of its own.
    sizes = np.abs(known.residual[wrong_anchors]) * net.sigma_anchor
    np.testing.assert_allclose(sizes, 2.0, atol=0.5)


def test_judge_calls_few_right_factors_wrong():
    tested = wrong = 0
    for seed in range(100):
        for f in network(seed).judge().findings:
            tested, wrong = tested + len(f.used), wrong + int((~f.used).sum())
    # 2.1 of 2,100 are expected; a Poisson count beyond 8 comes once in 2,000 times.
    assert tested == 2100
    assert wrong <= 8


def test_judge_leaves_out_both_of_two_that_contradict_each_other():
    net = network(0, anchors=[0, 1])
    net.places[0] += 3.0
    known, measured = net.judge().findings
    assert not known.used.any()
    assert measured.used.all()
    # What they differ by is still known.
    assert (known.deviations > known.limit).all()
    assert (known.redundancy == 0).all()


def test_judge_says_what_nothing_checks():
    net = network(0, anchors=[2])
    net.edges = np.array([(0, 1), (1, 2), (2, 0), (3, 2), (4, 3), (5, 4)])
    net.offsets = net.offsets[: len(net.edges)]
    known, measured = net.judge().findings
    assert np.isnan(known.deviations).all()
    assert known.redundancy[0] == 0.0
    assert np.isnan(measured.deviations[3:]).all()
    assert (measured.redundancy[3:] == 0).all()
    assert np.isfinite(measured.deviations[:3]).all()


def test_judge_believes_what_is_not_fallible():
    net = network(1)
    net.places[:] += 5.0 * np.random.default_rng(0).normal(size=net.places.shape)

    def linearise(x):
        known, measured = net.linearise(x)
        return known, Factors(measured.residual, measured.jacobian, measured.columns, False)

    _, measured = judge(np.zeros(12), linearise, np.add, 12).findings
    assert measured.used.all()
