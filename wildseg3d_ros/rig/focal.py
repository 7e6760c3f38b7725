"""A focal length that all cameras have wrong, by matched features alone.

Without depth a wrong focal length moves epipolar lines by few pixels, less than honest poses do:
matches that are compared with the cameras as given do not show it. So poses, within an honest
error, and one factor of all focal lengths are adjusted to all matches together, by a robust
maximum a posteriori estimate. What the factor gains, with the poses adjusted either way, is the
evidence for it. Narrow fans leave it open: there the relative turn of two cameras does the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.similarities import rotation_from_vectors
from wildseg3d_ros.core.geometry.least_squares import gauss_newton
from wildseg3d_ros.rig.cameras import Cameras
from wildseg3d_ros.rig.matches import INDEPENDENT, KEPT, Matches, rays
from wildseg3d_ros.rig.pose_error import ROTATION, TRANSLATION

_PIXEL, _LEAST = 1.0, 0.3
"""Standard deviation [px at which features are found] of a match across its epipolar line at
first, and the least that it is then found to be, as a share of it."""

_WIDTH = 3.0
"""Of the Geman-McClure loss [standard deviations]."""

_HONEST = 0.03
"""Logarithm of a factor by which calibrations err."""

_BASELINE = 0.5
"""Distance of cameras [m] from which positions err in proportion: lengths may have no unit."""

_STEP = 1e-4
"""Of numerical derivatives."""

_STARTS = (0.0, -0.5, 0.5)
_PASSES = 12


@dataclass(frozen=True)
class FocalFit:
    """The factor of all focal lengths that matches are likeliest by.

    Attributes:
        factor: to multiply those given with.
        whole: whether principal points are multiplied, too.
        gain: natural logarithm of how much likelier the matches are than with those given.
        given, fitted: share of the matches on their epipolar lines, without and with it.
    """

    factor: float
    whole: bool
    gain: float
    given: float
    fitted: float

    @property
    def is_honest(self) -> bool:
        """Whether calibrations err by that much."""
        return bool(abs(np.log(self.factor)) < _HONEST)


def fit_focal_length(cameras: Cameras, matches: Matches) -> FocalFit | None:
    """The likeliest factor; None where there are no matches."""
    problem = _Problem.of(cameras, matches)
    if problem is None:
        return None
    best = max(
        (problem.solve(start, whole, free=True) for whole in (True, False) for start in _STARTS),
        key=lambda found: found.likelihood,
    )
    problem = replace(problem, sigma=max(_LEAST, best.spread) * problem.sigma)
    best = problem.solve(best.log_factor, best.whole, free=True)
    as_given = problem.solve(0.0, whole=False, free=False)
    return FocalFit(
        float(np.exp(best.log_factor)),
        best.whole,
        best.likelihood - as_given.likelihood,
        as_given.share,
        best.share,
    )


@dataclass(frozen=True)
class _Found:
    log_factor: float
    whole: bool
    likelihood: float
    share: float
    spread: float


@dataclass(frozen=True, eq=False)
class _State:
    """(N, 4, 4) poses, (N, 6) by what they differ from those given [deviations], and the log of
    the factor."""

    world_from_cam: NDArray[np.float64]
    moved: NDArray[np.float64]
    log_factor: float


@dataclass(frozen=True, eq=False)
class _Problem:
    """Matches (P, 2, M, 2) [px] of pairs (P, 2) of cameras, NaN where there are fewer.

    Attributes:
        sigma: (P, 1) of a match [px]; scale: (6,) of poses [rad, m].
    """

    cameras: Cameras
    pairs: NDArray[np.int64]
    uv: NDArray[np.float64]
    sigma: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, cameras: Cameras, matches: Matches) -> _Problem | None:
        there = np.isfinite(matches.uv[:, 0, :, 0]).any(axis=1)
        if not there.any():
            return None
        pairs = matches.pairs[there]
        a, b = pairs.T
        centres = cameras.world_from_cam[:, :3, 3]
        baseline = float(np.median(np.linalg.norm(centres[a] - centres[b], axis=1)))
        # Ten millimetres and one degree are in any direction.
        position = TRANSLATION * max(1.0, baseline / _BASELINE)
        scale = np.repeat([ROTATION, position], 3) / np.sqrt(3.0)
        sigma = _PIXEL * np.maximum(matches.shrunk_by[b], 1.0)[:, None]
        return cls(cameras, pairs, matches.uv[there], sigma, scale)

    def solve(self, start: float, whole: bool, free: bool) -> _Found:
        """The likeliest state from a log factor on, which is kept unless ``free``."""
        count = len(self.cameras.K)
        state = _State(self.cameras.world_from_cam, np.zeros((count, 6)), start)

        def equations(now: _State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            return self._equations(now, whole, free)

        found = gauss_newton(state, equations, self._moved, _PASSES, 1e-3).state
        residual = self._residual(found, whole)
        there = np.isfinite(residual)
        square = np.square(residual[there])
        loss = 0.5 * (_WIDTH**2 * square / (_WIDTH**2 + square)).sum() * INDEPENDENT / KEPT
        prior = 0.5 * float(np.square(found.moved).sum())
        return _Found(
            found.log_factor,
            whole,
            -float(loss) - prior,
            float((square < _WIDTH**2).mean()),
            float(1.4826 * np.sqrt(np.median(square))),
        )

    def _equations(
        self, now: _State, whole: bool, free: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        count = len(self.cameras.K)
        size = 6 * count + 1
        residual = self._residual(now, whole)
        there = np.isfinite(residual)
        jacobian = np.zeros((*residual.shape, 13))
        for k in range(12):
            jacobian[..., k] = (self._residual(now, whole, k) - residual) / _STEP
        nudged = replace(now, log_factor=now.log_factor + _STEP)
        jacobian[..., 12] = (self._residual(nudged, whole) - residual) / _STEP if free else 0.0
        weight = np.where(there, (_WIDTH**2 / (_WIDTH**2 + np.square(residual))) ** 2, 0.0)
        weight *= INDEPENDENT / KEPT
        jacobian[~there], residual = 0.0, np.where(there, residual, 0.0)
        weighted = np.swapaxes(jacobian * weight[..., None], 1, 2)
        hessian, gradient = np.zeros((size, size)), np.zeros(size)
        a, b = self.pairs.T
        columns = np.concatenate(
            [
                6 * a[:, None] + np.arange(6),
                6 * b[:, None] + np.arange(6),
                np.full((len(a), 1), size - 1),
            ],
            axis=1,
        )
        np.add.at(hessian, (columns[:, :, None], columns[:, None]), weighted @ jacobian)
        np.add.at(gradient, columns, (weighted @ residual[..., None])[..., 0])
        hessian[np.diag_indices(size)] += [*np.ones(size - 1), 1e-6 if free else 1.0]
        gradient[:-1] += now.moved.ravel()
        return hessian, gradient

    def _moved(self, state: _State, step: NDArray[np.float64]) -> _State:
        moved = state.moved + step[:-1].reshape(-1, 6)
        return _State(
            self._poses(moved), moved, state.log_factor + float(np.clip(step[-1], -0.3, 0.3))
        )

    def _poses(self, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        motion = moved * self.scale
        poses = self.cameras.world_from_cam.copy()
        poses[:, :3, :3] = poses[:, :3, :3] @ rotation_from_vectors(motion[:, :3])
        poses[:, :3, 3] += motion[:, 3:]
        return poses

    def _residual(
        self, state: _State, whole: bool, nudged: int | None = None
    ) -> NDArray[np.float64]:
        """(P, M) distances from epipolar lines [deviations], signed; with one of the 12 pose
        parameters of every pair a step further."""
        a, b = self.pairs.T
        K = self.cameras.K.copy()
        K[:, :2, : 3 if whole else 2] *= np.exp(state.log_factor)
        pose = [state.world_from_cam[a], state.world_from_cam[b]]
        if nudged is not None:
            side, axis = divmod(nudged, 6)
            further = state.moved.copy()
            further[:, axis] += _STEP
            pose[side] = self._poses(further)[(a, b)[side]]
        b_from_a = np.linalg.inv(pose[1]) @ pose[0]
        ray_a, ray_b = (rays(self.uv[:, k], K[v]) for k, v in enumerate((a, b)))
        turned = ray_a @ np.swapaxes(b_from_a[:, :3, :3], 1, 2)
        baseline = np.broadcast_to(b_from_a[:, None, :3, 3], turned.shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            normal = np.cross(baseline, turned)
            off = (normal * ray_b).sum(axis=2) / np.linalg.norm(normal[..., :2], axis=2)
        return np.asarray(off * K[b, 1, 1][:, None] / self.sigma)
