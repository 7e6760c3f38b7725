"""Everything that says where the cameras are, as one graph of factors: which contradicts the rest.

Cameras in metres, rotation R and centre c, in the frame of the given poses where there are any,
and one scale: l, the logarithm of graph units per metre. The factors, over their deviations:

    given pose (Q, p) of a camera:      c - p,   log(R Q^T)
    relative pose (A, t) of a and b:    R_a^T (c_b - c_a) - t,   log(A^T R_a^T R_b)
    pair of a and b, in graph units:    the same with t e^-l
    depth of a camera:                  l - l_v

The pairs' own relative poses are those of the solved world, where they agree: they are believed,
as far as their deviations go, and say how much of an error the others may be made responsible for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.similarities import rotation_from_vectors, skew
from wildseg3d_ros.core.geometry.factor_graph import Factors, Findings, Judged, judge
from wildseg3d_ros.core.geometry.transforms import vector_from_rotation

_MEDIAN = 2.313
"""Median length of a whitened residual of six dimensions, where deviations are true."""

_TOO_SMALL = 1.5
"""Typical deviation of given poses, in those that are expected, from which these are called too
small: right poses reach 1.4 in constructed scenes."""


class Cameras(NamedTuple):
    """(N, 3, 3) rotations, (N, 3) centres [m], and the log of graph units per metre."""

    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]
    log_units: float


def _nothing(*shape: int) -> NDArray[np.float64]:
    return np.zeros((0, *shape))


@dataclass(frozen=True, eq=False)
class Posed:
    """K given camera poses: (K,) views, (K, 4, 4) poses and (K, 2) deviations [m, rad]."""

    view: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    world_from_cam: NDArray[np.float64] = field(default_factory=lambda: _nothing(4, 4))
    sigma: NDArray[np.float64] = field(default_factory=lambda: _nothing(2))


@dataclass(frozen=True, eq=False)
class Related:
    """E relative poses: (E, 2) views, (E, 4, 4) ``a_from_b`` and (E, 2) deviations [m, rad];
    translations in metres, or in graph units where ``in_units``."""

    views: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    a_from_b: NDArray[np.float64] = field(default_factory=lambda: _nothing(4, 4))
    sigma: NDArray[np.float64] = field(default_factory=lambda: _nothing(2))
    in_units: bool = False


@dataclass(frozen=True, eq=False)
class Scaled:
    """L logs of graph units per metre, (L,), and their deviations (L,)."""

    log_units: NDArray[np.float64] = field(default_factory=_nothing)
    sigma: NDArray[np.float64] = field(default_factory=_nothing)


@dataclass(frozen=True, eq=False)
class PoseGraph:
    """N cameras, and what is known of them.

    Attributes:
        count: N.
        pairs: of the solved world, or measured ones; pairs_may_be_wrong: whether they are judged.
        posed, related, scaled: what was given.
        is_metric: whether graph units are known, and :attr:`Cameras.log_units` stays as it starts.
    """

    count: int
    pairs: Related
    posed: Posed = Posed()
    related: Related = Related()
    scaled: Scaled = Scaled()
    is_metric: bool = False
    pairs_may_be_wrong: bool = False

    def judge(self, start: Cameras) -> Verdicts:
        """What contradicts the rest, from cameras that are about right.

        Where the typical given pose is farther from the others than deviations say, these are too
        small, and all are widened until it fits: a rig whose poses are all off by 20 mm has no
        wrong camera.
        """
        unknowns = 6 * self.count + 1
        judged = judge(start, self._linearise, _moved, unknowns)
        widened = _typical(judged.findings[0])
        if widened < _TOO_SMALL:
            return Verdicts(self, judged, 1.0)
        wider = replace(
            self,
            posed=replace(self.posed, sigma=widened * self.posed.sigma),
            related=replace(self.related, sigma=widened * self.related.sigma),
            pairs=replace(self.pairs, sigma=widened * self.pairs.sigma),
        )
        return Verdicts(wider, judge(start, wider._linearise, _moved, unknowns), widened)

    def _linearise(self, cameras: Cameras) -> tuple[Factors, ...]:
        return (
            self._posed(cameras),
            self._related(self.related, cameras),
            self._scaled(cameras),
            self._related(self.pairs, cameras, self.pairs_may_be_wrong),
            self._fixed_scale(),
        )

    def _posed(self, cameras: Cameras) -> Factors:
        of, given = self.posed.view, self.posed.world_from_cam
        precision = 1.0 / np.repeat(self.posed.sigma, 3, axis=1)
        turn = _vectors(cameras.rotation[of] @ np.swapaxes(given[:, :3, :3], 1, 2))
        residual = np.concatenate([cameras.centre[of] - given[:, :3, 3], turn], axis=1)
        jacobian = np.zeros((len(of), 6, 6))
        jacobian[:, :3, 3:] = jacobian[:, 3:, :3] = np.eye(3)
        return Factors(
            residual * precision, jacobian * precision[..., None], 6 * of[:, None] + np.arange(6)
        )

    def _related(self, of: Related, cameras: Cameras, fallible: bool = True) -> Factors:
        a, b = of.views.T
        inverse = np.swapaxes(cameras.rotation[a], 1, 2)
        apart = cameras.centre[b] - cameras.centre[a]
        unit = np.exp(-cameras.log_units) if of.in_units else 1.0
        expected = unit * of.a_from_b[:, :3, 3]
        turn = np.swapaxes(of.a_from_b[:, :3, :3], 1, 2) @ inverse @ cameras.rotation[b]
        residual = np.concatenate(
            [(inverse @ apart[..., None])[..., 0] - expected, _vectors(turn)], axis=1
        )
        jacobian = np.zeros((len(a), 6, 13))
        jacobian[:, :3, :3] = inverse @ skew(apart)
        jacobian[:, :3, 3:6], jacobian[:, :3, 9:12] = -inverse, inverse
        jacobian[:, 3:, 6:9] = np.swapaxes(cameras.rotation[b], 1, 2)
        jacobian[:, 3:, :3] = -jacobian[:, 3:, 6:9]
        jacobian[:, :3, 12] = expected if of.in_units else 0.0
        precision = 1.0 / np.repeat(of.sigma, 3, axis=1)
        columns = np.concatenate(
            [
                6 * a[:, None] + np.arange(6),
                6 * b[:, None] + np.arange(6),
                np.full((len(a), 1), 6 * self.count),
            ],
            axis=1,
        )
        return Factors(residual * precision, jacobian * precision[..., None], columns, fallible)

    def _scaled(self, cameras: Cameras) -> Factors:
        of = self.scaled
        residual = (cameras.log_units - of.log_units) / of.sigma
        columns = np.full((len(of.sigma), 1), 6 * self.count)
        return Factors(residual[:, None], (1.0 / of.sigma)[:, None, None], columns)

    def _fixed_scale(self) -> Factors:
        """Holds a scale that is known."""
        rows = int(self.is_metric)
        columns = np.full((rows, 1), 6 * self.count)
        return Factors(np.zeros((rows, 1)), np.full((rows, 1, 1), 1e6), columns, fallible=False)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What the factors of a graph say about each other.

    Attributes:
        graph: with the deviations that were taken; widened: those that were given times this.
    """

    graph: PoseGraph
    judged: Judged[Cameras]
    widened: float

    @property
    def posed(self) -> Findings:
        """On the given poses."""
        return self.judged.findings[0]

    @property
    def related(self) -> Findings:
        """On the relative poses."""
        return self.judged.findings[1]

    @property
    def scaled(self) -> Findings:
        """On the scales."""
        return self.judged.findings[2]

    @property
    def pairs(self) -> Findings:
        """On the pairs."""
        return self.judged.findings[3]


def _typical(posed: Findings) -> float:
    """Deviations of the given poses in those that are expected; 1 where they are too few."""
    known = np.sort(posed.deviations[np.isfinite(posed.deviations)])
    if len(known) < 3:
        return 1.0
    return float(known[(len(known) - 1) // 2]) / _MEDIAN


def _moved(cameras: Cameras, step: NDArray[np.float64]) -> Cameras:
    parts = step[:-1].reshape(-1, 6)
    return Cameras(
        rotation_from_vectors(parts[:, :3]) @ cameras.rotation,
        cameras.centre + parts[:, 3:],
        cameras.log_units + float(np.clip(step[-1], -1.0, 1.0)),
    )


def _vectors(rotations: Sequence[NDArray] | NDArray) -> NDArray[np.float64]:
    return np.array([vector_from_rotation(r) for r in rotations]).reshape(-1, 3)
