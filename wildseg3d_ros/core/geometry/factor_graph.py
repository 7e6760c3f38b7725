"""Which observation contradicts the rest: robust least squares, and one pass over what is left.

The cost is a sum over factors, each a whitened residual of a few unknowns. It is minimised by
Gauss-Newton with the loss of Geman and McClure, made convex at first and less so from step to step
(graduated non-convexity: Yang, Antonante, Tzoumas and Carlone, RA-L 2020), so that the start
matters little. Then every factor is compared with what all *others* say about it, by the residual
that it would have had if it had been left out, and its covariance; both follow from the normal
equations at hand (data snooping: Baarda, "A testing procedure for use in geodetic networks",
1968). The worst is left out, and the rest compared anew, until all fit. A factor that the others
say nothing about has no such residual: it is not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.least_squares import State, gauss_newton

SIGNIFICANCE = 1e-3
"""Chance at which a right factor is called an outlier, were its covariance true; Baarda's."""

_FREE = 1e-6
"""Information about unknowns that nothing observes: it is far below that of any factor, and keeps
the normal equations invertible."""

_UNCHECKED = 1e-4
"""Redundancy below which nothing checks a factor."""

_GROWTH = 2.0
"""By which the loss becomes less convex at each step; Yang et al. take 1.4."""

_TIE = 0.99
"""Share of the worst factor's test statistic from which another one is as bad: the data do not
tell which of them is wrong."""


@dataclass(frozen=True, eq=False)
class Factors:
    """F factors of one kind at a state.

    Attributes:
        residual: (F, d) whitened.
        jacobian: (F, d, k) its derivatives by k unknowns each; columns: (F, k) int which.
        fallible: whether they may be wrong; others are believed.
    """

    residual: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    columns: NDArray[np.int64]
    fallible: bool = True


@dataclass(frozen=True, eq=False)
class Findings:
    """What the others say about F factors of one kind.

    Attributes:
        used: (F,) bool, whether they are in the solution.
        residual: (F, d) whitened residuals that they would have without being in the solution
            themselves; covariance: (F, d, d) of these, infinite where nothing tells.
        deviations: (F,) Mahalanobis distances of these residuals, by what can be told; NaN where
            nothing can.
        redundancy: (F,) share of a factor that others check, 0..1 (Baarda's redundancy number
            over d).
        limit: deviations beyond which a factor is an outlier.
    """

    used: NDArray[np.bool_]
    residual: NDArray[np.float64]
    covariance: NDArray[np.float64]
    deviations: NDArray[np.float64]
    redundancy: NDArray[np.float64]
    limit: float

    def part_errors(self, factor: int) -> NDArray[np.float64]:
        """(d / 3,) lengths of a factor's whitened residual, by its parts of three."""
        return np.linalg.norm(self.residual[factor].reshape(-1, 3), axis=1)

    def part_deviations(self, factor: int) -> NDArray[np.float64]:
        """(d / 3,) Mahalanobis distances of these parts, each for itself."""
        parts = self.residual[factor].reshape(-1, 3)
        blocks = [
            self.covariance[factor, k : k + 3, k : k + 3] for k in range(0, 3 * len(parts), 3)
        ]
        return np.array(
            [np.sqrt(r @ np.linalg.solve(c, r)) for r, c in zip(parts, blocks, strict=True)]
        )


@dataclass(frozen=True, eq=False)
class Judged(Generic[State]):
    """A solution, and the findings on its factors, kind by kind."""

    state: State
    findings: tuple[Findings, ...]


Linearise = Callable[[State], Sequence[Factors]]
Retract = Callable[[State, NDArray[np.float64]], State]


def outlier_limit(dimensions: int) -> float:
    """Length of a whitened residual that a right one exceeds at the rate of SIGNIFICANCE."""
    # SciPy takes a while to load.
    from scipy.special import chdtri

    return float(np.sqrt(chdtri(dimensions, SIGNIFICANCE)))


def judge(
    start: State,
    linearise: Linearise[State],
    retract: Retract[State],
    unknowns: int,
    tolerance: float = 1e-6,
    passes: int = 10,
) -> Judged[State]:
    """Minimises the robust cost, and leaves out factors that contradict the others.

    Args:
        linearise: the factors, always the same ones, at a state.
        retract: the state after a step (n,); unknowns: n.
        tolerance, passes: of Gauss-Newton.
    """
    state = _graduated(start, linearise, retract, unknowns, tolerance, passes)
    factors = linearise(state)
    limits = [outlier_limit(f.residual.shape[1]) for f in factors]
    used = [
        (_square(f) <= limit**2) | (not f.fallible)
        for f, limit in zip(factors, limits, strict=True)
    ]
    out = [np.zeros(len(u), dtype=bool) for u in used]
    last: list[Findings] | None = None
    for _ in range(2 * sum(map(len, used)) + 1):
        state = _fit(
            state, linearise, retract, unknowns, [u.astype(float) for u in used], tolerance, passes
        )
        findings = _findings(linearise(state), used, limits, unknowns)
        findings = findings if last is None else _remembered(findings, last)
        last = findings
        wrong = [
            f.used & fs.fallible & (f.deviations > f.limit)
            for f, fs in zip(findings, factors, strict=True)
        ]
        worst = max(
            (
                float((f.deviations[w] / f.limit).max())
                for f, w in zip(findings, wrong, strict=True)
                if w.any()
            ),
            default=0.0,
        )
        if worst:
            for f, w, u, o in zip(findings, wrong, used, out, strict=True):
                leaves = w & (f.deviations >= _TIE * worst * f.limit)
                u[leaves], o[leaves] = False, True
            continue
        # What the search took for an outlier may fit after all; what was left out once stays out.
        back = [
            ~f.used & ~o & ~(f.deviations > f.limit) for f, o in zip(findings, out, strict=True)
        ]
        if not any(b.any() for b in back):
            findings, tied = _without_ties(linearise(state), findings, limits, unknowns)
            if not tied:
                break
            last = findings
            used = [f.used.copy() for f in findings]
            continue
        for u, b in zip(used, back, strict=True):
            u |= b
    return Judged(state, tuple(findings))


def _graduated(
    start: State,
    linearise: Linearise[State],
    retract: Retract[State],
    unknowns: int,
    tolerance: float,
    passes: int,
) -> State:
    """The minimum of the Geman-McClure loss, from the least squares of all factors on."""
    state, convexity = start, np.inf

    def weights(factors: Sequence[Factors]) -> list[NDArray[np.float64]]:
        out = []
        for f in factors:
            width = convexity * outlier_limit(f.residual.shape[1]) ** 2
            robust = np.ones(len(f.residual))
            if f.fallible and np.isfinite(convexity):
                robust = (width / (width + _square(f))) ** 2
            out.append(robust)
        return out

    while True:
        last = convexity == 1.0
        state = _fit(
            state, linearise, retract, unknowns, weights, tolerance, passes if last else 1
        )
        if last:
            return state
        largest = max(
            (
                float(_square(f).max(initial=0.0)) / outlier_limit(f.residual.shape[1]) ** 2
                for f in linearise(state)
                if f.fallible
            ),
            default=0.0,
        )
        convexity = max(1.0, min(convexity / _GROWTH, 2.0 * largest))


def _fit(
    state: State,
    linearise: Linearise[State],
    retract: Retract[State],
    unknowns: int,
    weights: Sequence[NDArray] | Callable[[Sequence[Factors]], Sequence[NDArray]],
    tolerance: float,
    passes: int,
) -> State:
    def equations(now: State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        factors = linearise(now)
        return _equations(factors, weights(factors) if callable(weights) else weights, unknowns)

    return gauss_newton(state, equations, retract, passes, tolerance).state


def _square(factors: Factors) -> NDArray[np.float64]:
    return np.asarray(np.square(factors.residual).sum(axis=1))


def _equations(
    factors: Sequence[Factors], weights: Sequence[NDArray], unknowns: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal matrix (n, n) and gradient (n,)."""
    hessian, gradient = _FREE * np.eye(unknowns), np.zeros(unknowns)
    for f, weight in zip(factors, weights, strict=True):
        transposed = np.swapaxes(f.jacobian, 1, 2) * weight[:, None, None]
        rows, columns = f.columns[:, :, None], f.columns[:, None, :]
        np.add.at(hessian, (rows, columns), transposed @ f.jacobian)
        np.add.at(gradient, f.columns, (transposed @ f.residual[..., None])[..., 0])
    return hessian, gradient


def _findings(
    factors: Sequence[Factors],
    used: Sequence[NDArray[np.bool_]],
    limits: Sequence[float],
    unknowns: int,
) -> list[Findings]:
    """What the factors in use say about each, without itself.

    With h the covariance that the solution gives a factor's residual, and in the axes in which it
    is diagonal, a residual r of a factor in use is r / (1 - h) without it, and the others' own
    covariance is h / (1 - h).
    """
    hessian, _ = _equations(factors, [u.astype(float) for u in used], unknowns)
    covariance = np.linalg.inv(hessian)
    out = []
    for f, mine, limit in zip(factors, used, limits, strict=True):
        own = covariance[f.columns[:, :, None], f.columns[:, None, :]]
        values, axes = np.linalg.eigh(f.jacobian @ own @ np.swapaxes(f.jacobian, 1, 2))
        values = np.maximum(values, 0.0)
        remaining = np.where(mine[:, None], np.maximum(1.0 - values, 0.0), 1.0)
        # Of a factor in use 1 - h, of others 1 / (1 + h): the same number.
        checked = np.where(mine[:, None], remaining, 1.0 / (1.0 + values))
        tells = checked > _UNCHECKED
        along = (np.swapaxes(axes, 1, 2) @ f.residual[..., None])[..., 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            without = np.where(tells, along / remaining, 0.0)
            variance = np.where(tells, 1.0 / checked, np.inf)
        deviations = np.sqrt((np.square(without) / variance).sum(axis=1))
        finite = np.where(tells, variance, 1.0 / _UNCHECKED)
        out.append(
            Findings(
                mine.copy(),
                (axes @ without[..., None])[..., 0],
                (axes * finite[:, None]) @ np.swapaxes(axes, 1, 2),
                np.where(tells.any(axis=1), deviations, np.nan),
                np.where(tells, checked, 0.0).mean(axis=1),
                limit,
            )
        )
    return out


def _without_ties(
    factors: Sequence[Factors],
    findings: Sequence[Findings],
    limits: Sequence[float],
    unknowns: int,
) -> tuple[list[Findings], bool]:
    """Leaves out, with a factor that was left out, the one that alone contradicts it, and that
    nothing else confirms: either may be wrong."""
    for kind, (f, fs) in enumerate(zip(findings, factors, strict=True)):
        for j in np.flatnonzero(f.used & np.isnan(f.deviations) & fs.fallible):
            used = [each.used.copy() for each in findings]
            used[kind][j] = False
            rest = _findings(factors, used, limits, unknowns)
            against = [
                float(old.deviations[lost].max())
                for old, new in zip(findings, rest, strict=True)
                if (lost := ~old.used & np.isnan(new.deviations) & (old.redundancy > 0)).any()
            ]
            if against:
                deviations = f.deviations.copy()
                deviations[j] = max(against)
                out = list(findings)
                out[kind] = replace(f, used=used[kind], deviations=deviations)
                return out, True
    return list(findings), False


def _remembered(now: Sequence[Findings], before: Sequence[Findings]) -> list[Findings]:
    """The findings, of factors that nothing checks any more those from when something did: of two
    that contradicted each other and were both left out, what they differed by."""
    out = []
    for f, old in zip(now, before, strict=True):
        lost = ~f.used & np.isnan(f.deviations) & ~np.isnan(old.deviations)
        out.append(
            replace(
                f,
                residual=np.where(lost[:, None], old.residual, f.residual),
                covariance=np.where(lost[:, None, None], old.covariance, f.covariance),
                deviations=np.where(lost, old.deviations, f.deviations),
            )
        )
    return out
