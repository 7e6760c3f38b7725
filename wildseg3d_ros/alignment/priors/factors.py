"""What is known beforehand, as terms of the solve: camera poses, relative poses, depth.

A *pose group* is a set of cameras with known poses in one frame, in metres: all cameras with a
given pose are one group, every known relative pose is a group of two. Where a group lies in the
world, and the metric scale, are unknowns that each pass eliminates (Schur complement). So priors
constrain the shape of the world and leave its gauge free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import interpolate_pose
from wildseg3d_ros.alignment.graph.graph import MIN_POINTS, Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.graph.similarities import skew
from wildseg3d_ros.core.geometry.least_squares import gauss_newton, minimum_norm_step
from wildseg3d_ros.core.geometry.transforms import (
    make_transform,
    nearest_rotation,
    rotation_from_vector,
    vector_from_rotation,
)

DATA_SIGMA = 0.002
"""Smallest error [scene sizes] that pairs are credited with beside priors: pairs in a tree agree
perfectly whatever their errors are."""

_MIN_SIGMA = 1e-5
"""Deviations below it [rad or scene sizes] act as hard constraints, and spoil the condition."""


class _Rows:
    """Rows of equally long arrays."""

    def select(self, keep: NDArray[np.bool_]) -> Self:
        """Some of the rows."""
        return type(self)(*(part[keep] for part in vars(self).values()))


@dataclass(frozen=True, eq=False)
class PoseRows(_Rows):
    """Known camera poses, one row for each pair that has the camera's frame.

    Attributes:
        edge: (K,) pair; view: (K,); group: (K,) number of the pose group.
        pair_from_cam: (K, 4, 4) camera in its pair's frame, graph units over the pair's scale.
        group_from_cam: (K, 4, 4) known pose, metres.
        translation_sigma, rotation_sigma: (K,) metres and rad.
        share: (K,) of the camera's rows, summing to 1, so that a camera counts once.
    """

    edge: NDArray[np.int64]
    view: NDArray[np.int64]
    group: NDArray[np.int64]
    pair_from_cam: NDArray[np.float64]
    group_from_cam: NDArray[np.float64]
    translation_sigma: NDArray[np.float64]
    rotation_sigma: NDArray[np.float64]
    share: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScaleRows(_Rows):
    """Pairs whose points have a measured depth beside them.

    Attributes:
        edge: (L,) pair; view: (L,).
        log_units: (L,) log of graph units (before the pair's scale) per metre; sigma: (L,).
    """

    edge: NDArray[np.int64]
    view: NDArray[np.int64]
    log_units: NDArray[np.float64]
    sigma: NDArray[np.float64]


class _Cameras(NamedTuple):
    """What the pairs say at their present poses: (K, 3, 3) orientations and (K, 3) centres of the
    pose rows' cameras, and (L,) log graph units per metre of the scale rows."""

    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]
    log_scale: NDArray[np.float64]


class _Groups(NamedTuple):
    """The unknowns that are eliminated: (G, 3, 3) rotations and (G, 3) origins of the pose groups
    in the world, and the metric scale, graph units per metre."""

    rotation: NDArray[np.float64]
    origin: NDArray[np.float64]
    metric_scale: float


@dataclass(frozen=True, eq=False)
class Priors:
    """Terms of the solve.

    Attributes:
        poses, scales: the rows.
        metric_scale: graph units per metre: where to start, or the truth when ``is_metric``.
        is_metric: whether the metric scale is known (pairs of fixed scale).
    """

    poses: PoseRows
    scales: ScaleRows
    metric_scale: float
    is_metric: bool

    def select(self, keep: NDArray[np.bool_]) -> Priors:
        """The rows of some of the pairs, renumbered as :meth:`Graph.select` does."""
        number = np.cumsum(keep) - 1
        poses = self.poses.select(keep[self.poses.edge])
        scales = self.scales.select(keep[self.scales.edge])
        camera = np.unique(np.stack([poses.group, poses.view]), axis=1, return_inverse=True)[1]
        whole = np.bincount(camera.ravel(), poses.share, minlength=1)[camera.ravel()]
        share = poses.share / np.maximum(whole, 1e-300)
        poses = replace(poses, edge=number[poses.edge], share=share)
        return replace(self, poses=poses, scales=replace(scales, edge=number[scales.edge]))

    def metric_scale_at(self, poses: Poses) -> float:
        """Graph units per metre by these priors, at the given poses of the pairs."""
        return self._fit_groups(self._cameras(poses)).metric_scale

    def posterior_cameras(
        self, poses: Poses, world_from_cam: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Cameras (N, 4, 4), graph units, drawn to their priors by how far their pairs disagree.

        A pair that measures two cameras to each other moves both by its own error, however hard
        their priors are. So each camera is the mean of what its pairs say and of its prior,
        weighed by their variances.
        """
        cameras = self._cameras(poses)
        groups = self._fit_groups(cameras)
        scale, rows, out = groups.metric_scale, self.poses, world_from_cam.copy()
        for group, v in sorted(set(zip(rows.group.tolist(), rows.view.tolist(), strict=True))):
            mine = np.flatnonzero((rows.group == group) & (rows.view == v))
            given, now = rows.group_from_cam[mine[0]], out[v]
            rotation = groups.rotation[group]
            place = scale * rotation @ given[:3, 3] + groups.origin[group]
            apart = [vector_from_rotation(cameras.rotation[k] @ now[:3, :3].T) for k in mine]
            metres, radians = rows.translation_sigma[mine[0]], rows.rotation_sigma[mine[0]]
            errors = (
                (cameras.centre[mine] - now[:3, 3], metres * scale),
                (np.array(apart), radians),
            )
            shares = [
                _variance(deviations) / (_variance(deviations) + float(_square(sigma)))
                for deviations, sigma in errors
            ]
            out[v] = interpolate_pose(
                now, make_transform(rotation @ given[:3, :3], place), *shares
            )
        return out

    def linearise(self, poses: Poses, pivot: NDArray, fixed: NDArray[np.bool_]) -> Linearised:
        """The terms at the given poses, their own unknowns eliminated.

        Args:
            pivot: (E, 3) that steps rotate about; fixed: (E,) pairs whose scale takes no step.
        """
        e = self.poses.edge
        cameras = self._cameras(poses)
        residual, slope = self._residuals(cameras, self._fit_groups(cameras))

        count, k = len(poses.scale), len(e)
        jacobian = np.zeros((len(residual), 7))
        arms = cameras.centre - pivot[e]
        position = jacobian[: 3 * k].reshape(k, 3, 7)
        position[:, :, :3] = -skew(arms)
        position[:, :, 3:6] = np.eye(3)
        position[:, :, 6] = arms
        jacobian[3 * k : 6 * k].reshape(k, 3, 7)[:, :, :3] = np.eye(3)
        jacobian[6 * k :, 6] = 1.0
        edge = np.concatenate([np.repeat(e, 3), np.repeat(e, 3), self.scales.edge])
        jacobian[fixed[edge], 6] = 0.0

        weighted = self._precision[:, None] * jacobian
        own = np.zeros((count, 7, 7))
        np.add.at(own, edge, weighted[:, :, None] * jacobian[:, None])
        gradient = np.zeros((count, 7))
        cross = np.zeros((count, 7, slope.shape[1]))
        np.add.at(cross, edge, weighted[:, :, None] * slope[:, None])
        weighted_slope = self._precision[:, None] * slope
        core = slope.T @ weighted_slope
        inner = np.linalg.pinv(core, hermitian=True)
        free = residual - slope @ (inner @ (weighted_slope.T @ residual))
        np.add.at(gradient, edge, weighted * free[:, None])
        return Linearised(gradient, own, cross.reshape(7 * count, -1), core, inner)

    def _cameras(self, poses: Poses) -> _Cameras:
        rows, e = self.poses, self.poses.edge
        rotation = poses.rotation[e]
        arm = np.einsum("kij,kj->ki", rotation, rows.pair_from_cam[:, :3, 3])
        return _Cameras(
            rotation @ rows.pair_from_cam[:, :3, :3],
            poses.scale[e, None] * arm + poses.translation[e],
            np.log(poses.scale[self.scales.edge]) + self.scales.log_units,
        )

    def _fit_groups(self, cameras: _Cameras) -> _Groups:
        """Where the pose groups lie, and the metric scale, given the cameras."""
        count = int(self.poses.group.max(initial=-1)) + 1
        rotation, origin = np.empty((count, 3, 3)), np.empty((count, 3))
        for g in range(count):
            mine = self.poses.group == g
            share, given = self.poses.share[mine], self.poses.group_from_cam[mine]
            rotation[g] = nearest_rotation(
                np.einsum("k,kij,klj->il", share, cameras.rotation[mine], given[:, :3, :3])
            )
            apart = cameras.centre[mine] - self.metric_scale * given[:, :3, 3] @ rotation[g].T
            origin[g] = share @ apart / max(share.sum(), 1e-300)

        def linearise(groups: _Groups) -> tuple[NDArray, NDArray]:
            residual, slope = self._residuals(cameras, groups)
            weighted = self._precision[:, None] * slope
            return slope.T @ weighted, weighted.T @ residual

        def retract(groups: _Groups, step: NDArray) -> _Groups:
            own = step[: 6 * count].reshape(count, 6)
            rotations = [rotation_from_vector(vector) for vector in own[:, :3]]
            grow = 1.0 if self.is_metric else float(np.exp(np.clip(step[-1], -1.0, 1.0)))
            return _Groups(
                np.reshape(rotations, (count, 3, 3)) @ groups.rotation,
                groups.origin + own[:, 3:],
                groups.metric_scale * grow,
            )

        start = _Groups(rotation, origin, self.metric_scale)
        # A group whose cameras share one place leaves the metric scale open.
        return gauss_newton(start, linearise, retract, 12, 1e-10, solve=minimum_norm_step).state

    @cached_property
    def _precision(self) -> NDArray[np.float64]:
        """(6K + L,) inverse variances of :meth:`_residuals`."""
        rows = self.poses
        return np.concatenate(
            [
                np.repeat(rows.share / _square(rows.translation_sigma * self.metric_scale), 3),
                np.repeat(rows.share / _square(rows.rotation_sigma), 3),
                1.0 / _square(self.scales.sigma),
            ]
        )

    def _residuals(self, cameras: _Cameras, groups: _Groups) -> tuple[NDArray, NDArray]:
        """(6K + L,) residuals and their slope over the groups' poses and the log metric scale.

        Positions of all rows first, then rotations, then log scales.
        """
        rows, k, scale = self.poses, len(self.poses.edge), groups.metric_scale
        rotation = groups.rotation[rows.group]
        arm = scale * np.einsum("kij,kj->ki", rotation, rows.group_from_cam[:, :3, 3])
        known = rotation @ rows.group_from_cam[:, :3, :3]
        apart = cameras.rotation @ np.swapaxes(known, 1, 2)
        residual = np.concatenate(
            [
                (cameras.centre - arm - groups.origin[rows.group]).ravel(),
                np.array([vector_from_rotation(rotation) for rotation in apart]).ravel(),
                cameras.log_scale - np.log(scale),
            ]
        )
        own = np.zeros((len(residual), len(groups.origin), 6))
        position, angular = own[: 6 * k].reshape(2, k, 3, len(groups.origin), 6)
        row = np.arange(k)
        position[row, :, rows.group, :3] = skew(arm)
        position[row, :, rows.group, 3:] = angular[row, :, rows.group, :3] = -np.eye(3)
        slope = own.reshape(len(residual), 6 * len(groups.origin))
        if not self.is_metric:
            growth = np.concatenate(
                [-arm.ravel(), np.zeros(3 * k), -np.ones(len(cameras.log_scale))]
            )
            slope = np.column_stack([slope, growth])
        return residual, slope


@dataclass(frozen=True, eq=False)
class Linearised:
    """A quadratic in the steps of all pairs: block diagonal minus a low rank.

    Attributes:
        gradient: (E, 7).
        own: (E, 7, 7); cross: (7E, q) onto the q unknowns that were eliminated.
        core: (q, q) curvature of these; inner: (q, q) its pseudo-inverse, so that the quadratic's
            matrix is ``own - cross inner cross^T``.
    """

    gradient: NDArray[np.float64]
    own: NDArray[np.float64]
    cross: NDArray[np.float64]
    core: NDArray[np.float64]
    inner: NDArray[np.floating]

    def apply(self, xi: NDArray[np.float64]) -> NDArray[np.float64]:
        """(E, 7, k): the matrix times k steps at once."""
        flat = xi.reshape(len(self.cross), -1)
        low_rank = self.cross @ (self.inner @ (self.cross.T @ flat))
        return self.own @ xi - low_rank.reshape(xi.shape)


def strength(graph: Graph, robust_at_median: float, scale: float) -> float:
    """What a prior's inverse variance is worth in the solver's cost.

    There an observation at the median residual ``scale`` has the weight ``robust_at_median``,
    while it knows its point to about ``scale``. The samples of a view's part of a pair together
    count as one observation: errors of pointmaps are smooth and those of relative poses rigid, so
    that hundreds of samples of one say no more than one.
    """
    samples = float((graph.weight > 0).sum(1).mean())
    return robust_at_median * samples * scale**2


def pose_rows(
    graph: Graph, known: Sequence[tuple[int, int, NDArray[np.float64], float, float]]
) -> PoseRows:
    """Rows of (group, view, group_from_cam, translation sigma, rotation sigma)."""
    mass = graph.weight.sum(1)
    rows = []
    for group, v, pose, metres, radians in known:
        part = graph.of_view[v]
        own = [o for o in range(part.start, part.stop) if graph.own_frame[o]]
        total = max(sum(mass[o] for o in own), 1e-300)
        for o in own:
            from_cam = graph.pair_from_map[o].copy()
            from_cam[:3, 3] /= graph.unit[graph.edge[o]]
            rows.append(
                (graph.edge[o], v, group, from_cam, pose, metres, radians, mass[o] / total)
            )
    columns = _columns(rows, 8)
    edge, view, group = (column.astype(np.int64) for column in columns[:3])
    from_cam, pose = (column.reshape(-1, 4, 4) for column in columns[3:5])
    return PoseRows(edge, view, group, from_cam, pose, *columns[5:])


def scale_rows(graph: Graph, depths: Sequence[NDArray[np.float32] | None]) -> ScaleRows:
    """Rows of all pairs of unknown scale that have a view's points in its own frame, and depth."""
    rows = []
    for o, (v, e) in enumerate(zip(graph.view, graph.edge, strict=True)):
        depth = depths[v]
        if depth is None or graph.fixed[e] or not graph.own_frame[o]:
            continue
        measured = depth[tuple(graph.pixels[v].T)]
        from_map = graph.pair_from_map[o]
        offset = from_map[:3, 3] / graph.unit[e]
        z = (from_map[:3, 2] @ (graph.x[o] - offset[:, None]))[: len(measured)]
        use = (measured > 0) & (graph.weight[o, : len(measured)] > 0) & (z > 0)
        if np.count_nonzero(use) >= MIN_POINTS:
            ratio = np.log(z[use] / measured[use])
            middle = float(np.median(ratio))
            robust_sigma = 1.4826 * float(np.median(np.abs(ratio - middle)))
            # However well the points agree, no scale is credited with less than half a percent.
            rows.append((e, v, middle, np.hypot(0.005, robust_sigma)))
    edge, view, log_units, sigma = _columns(rows, 4)
    return ScaleRows(edge.astype(np.int64), view.astype(np.int64), log_units, sigma)


def _columns(rows: Sequence[tuple], count: int) -> list[NDArray[np.float64]]:
    """The columns of a table; empty ones where it has no rows."""
    columns = zip(*rows, strict=True) if rows else [()] * count
    return [np.array(column, dtype=np.float64) for column in columns]


def _variance(deviations: NDArray) -> float:
    """Variance per axis of the mean of (K, 3) deviations from it."""
    return float((deviations**2).sum() / 3.0 / max(len(deviations) - 1, 1) / len(deviations))


def _square(sigma: NDArray | float) -> NDArray[np.float64]:
    return np.square(np.maximum(sigma, _MIN_SIGMA))
