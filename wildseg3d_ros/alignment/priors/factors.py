"""What is known beforehand, as terms of the solve: camera poses, relative poses, depth.

A *rig* is a set of cameras with known poses in a frame of their own, in metres: all cameras with a
given pose are one rig, every known relative pose is a rig of two. Where a rig lies in the world,
and how long a metre is there, are unknowns that each pass eliminates (Schur complement), so that
priors bend the world into shape without touching its gauge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.core.geometry.transforms import (
    nearest_rotation,
    rotation_from_vector,
    vector_from_rotation,
)

_INDEPENDENT = 1.0
"""Independent errors that a view's part of a pair counts as. Errors of pointmaps are smooth and
those of relative poses rigid: hundreds of samples of one say no more than one."""

DATA_SIGMA = 0.002
"""Least error [scene sizes] that pairs are credited with where priors weigh against them: pairs in
a tree agree perfectly whatever their errors are."""

_SCALE_SIGMA = 0.005
"""Least deviation of a log scale that comes from depth images."""

_LEAST_SIGMA = 1e-5
"""Deviations below it [rad or scene sizes] are as good as hard, and spoil the condition."""


@dataclass(frozen=True, eq=False)
class PoseRows:
    """Known camera poses, one row for each pair that has the camera's frame.

    Attributes:
        edge: (K,) pair; view: (K,); rig: (K,) number of the rig.
        pair_from_cam: (K, 4, 4) camera in its pair's frame, graph units over the pair's scale.
        rig_from_cam: (K, 4, 4) known pose, metres.
        translation_sigma, rotation_sigma: (K,) metres and rad.
        share: (K,) of the camera's rows, summing to 1, so that a camera counts once.
    """

    edge: NDArray[np.int64]
    view: NDArray[np.int64]
    rig: NDArray[np.int64]
    pair_from_cam: NDArray[np.float64]
    rig_from_cam: NDArray[np.float64]
    translation_sigma: NDArray[np.float64]
    rotation_sigma: NDArray[np.float64]
    share: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScaleRows:
    """Pairs whose points have a measured depth beside them.

    Attributes:
        edge: (L,) pair; view: (L,).
        log_units: (L,) log of graph units (before the pair's scale) per metre; sigma: (L,).
    """

    edge: NDArray[np.int64]
    view: NDArray[np.int64]
    log_units: NDArray[np.float64]
    sigma: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Priors:
    """Terms of the solve.

    Attributes:
        poses, scales: the rows.
        metre: graph units per metre: where to start, or the truth when ``is_metric``.
        is_metric: whether a metre's length is known (pairs of fixed scale).
    """

    poses: PoseRows
    scales: ScaleRows
    metre: float
    is_metric: bool

    def select(self, keep: NDArray[np.bool_]) -> Priors:
        """The rows of some of the pairs, renumbered as :meth:`Graph.select` does."""
        number = np.cumsum(keep) - 1

        def part(rows: PoseRows | ScaleRows) -> dict:
            chosen = keep[rows.edge]
            values = {n: getattr(rows, n)[chosen] for n in rows.__dataclass_fields__}
            return values | {"edge": number[values["edge"]]}

        poses = PoseRows(**part(self.poses))
        camera = np.unique(np.stack([poses.rig, poses.view]), axis=1, return_inverse=True)[1]
        whole = np.bincount(camera.ravel(), poses.share, minlength=1)[camera.ravel()]
        poses = replace(poses, share=poses.share / np.maximum(whole, 1e-300))
        return replace(self, poses=poses, scales=ScaleRows(**part(self.scales)))

    def metre_at(self, poses: Poses) -> float:
        """Graph units per metre by these priors, at the given poses of the pairs."""
        turn, centre, log_scale = self._cameras(poses)
        return self._fit_rigs(turn, centre, log_scale)[1]

    def hold(self, poses: Poses, world_from_cam: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cameras (N, 4, 4), graph units, drawn to their priors by how far their pairs disagree.

        A pair that measures two cameras to each other holds both with its own error, however hard
        their priors are; the mean over a camera's pairs and the prior are weighed by variances.
        """
        turn, centre, log_scale = self._cameras(poses)
        rigs, metre = self._fit_rigs(turn, centre, log_scale)
        rows, out = self.poses, world_from_cam.copy()
        for rig, v in sorted(set(zip(rows.rig.tolist(), rows.view.tolist(), strict=True))):
            mine = np.flatnonzero((rows.rig == rig) & (rows.view == v))
            facing, origin = rigs[rig]
            given, now = rows.rig_from_cam[mine[0]], out[v]
            apart = [vector_from_rotation(turn[k] @ now[:3, :3].T) for k in mine]
            shift = metre * facing @ given[:3, 3] + origin - now[:3, 3]
            bend = vector_from_rotation(facing @ given[:3, :3] @ now[:3, :3].T)
            metres, radians = rows.translation_sigma[mine[0]], rows.rotation_sigma[mine[0]]
            errors = (centre[mine] - now[:3, 3], metres * metre), (np.array(apart), radians)
            shares = [
                _variance(deviations) / (_variance(deviations) + max(sigma, _LEAST_SIGMA) ** 2)
                for deviations, sigma in errors
            ]
            out[v, :3, 3] += shares[0] * shift
            out[v, :3, :3] = rotation_from_vector(shares[1] * bend) @ now[:3, :3]
        return out

    def _cameras(self, poses: Poses) -> tuple[NDArray, NDArray, NDArray]:
        """Orientations and centres of the pose rows' cameras, log units of the scale rows."""
        rotation, translation, scale = (
            part.cpu().numpy() for part in (poses.rotation, poses.translation, poses.scale)
        )
        rows, e = self.poses, self.poses.edge
        turn = rotation[e] @ rows.pair_from_cam[:, :3, :3]
        arm = np.einsum("kij,kj->ki", rotation[e], rows.pair_from_cam[:, :3, 3])
        log_scale = np.log(scale[self.scales.edge]) + self.scales.log_units
        return turn, scale[e, None] * arm + translation[e], log_scale

    def linearise(self, poses: Poses, pivot: Tensor, fixed: NDArray[np.bool_]) -> Linearised:
        """The terms at the given poses, their own unknowns eliminated.

        Args:
            pivot: (E, 3) that steps turn about; fixed: (E,) pairs whose scale takes no step.
        """
        e = self.poses.edge
        turn, centre, log_scale = self._cameras(poses)
        rigs, metre = self._fit_rigs(turn, centre, log_scale)
        residual, slope, precision = self._rows(turn, centre, log_scale, rigs, metre)

        count, k = len(poses.scale), len(e)
        jacobian = np.zeros((len(residual), 7))
        arms = (centre - pivot.cpu().numpy()[e]).reshape(-1, 3)
        position = jacobian[: 3 * k].reshape(k, 3, 7)
        position[:, :, :3] = -_skew(arms)
        position[:, :, 3:6] = np.eye(3)
        position[:, :, 6] = arms
        jacobian[3 * k : 6 * k].reshape(k, 3, 7)[:, :, :3] = np.eye(3)
        jacobian[6 * k :, 6] = 1.0
        edge = np.concatenate([np.repeat(e, 3), np.repeat(e, 3), self.scales.edge])
        jacobian[fixed[edge], 6] = 0.0

        weighted = precision[:, None] * jacobian
        own = np.zeros((count, 7, 7))
        np.add.at(own, edge, weighted[:, :, None] * jacobian[:, None])
        gradient = np.zeros((count, 7))
        cross = np.zeros((count, 7, slope.shape[1]))
        np.add.at(cross, edge, weighted[:, :, None] * slope[:, None])
        core = slope.T @ (precision[:, None] * slope)
        inner = np.linalg.pinv(core, hermitian=True)
        free = residual - slope @ (inner @ (slope.T @ (precision * residual)))
        np.add.at(gradient, edge, weighted * free[:, None])
        terms = gradient, own, cross.reshape(7 * count, -1), core, inner
        return Linearised(*(torch.from_numpy(term).to(pivot.device) for term in terms))

    def _fit_rigs(
        self, turn: NDArray, centre: NDArray, log_scale: NDArray
    ) -> tuple[list[tuple[NDArray, NDArray]], float]:
        """Where the rigs lie, and the length of a metre, given the cameras."""
        rows, metre, rigs = self.poses, self.metre, []
        for r in range(int(rows.rig.max(initial=-1)) + 1):
            mine = rows.rig == r
            weight = rows.share[mine]
            given = rows.rig_from_cam[mine]
            facing = nearest_rotation(
                np.einsum("k,kij,klj->il", weight, turn[mine], given[:, :3, :3])
            )
            spread = centre[mine] - metre * given[:, :3, 3] @ facing.T
            total = max(weight.sum(), 1e-300)
            rigs.append((facing, weight @ spread / total))
        for _ in range(12):
            residual, slope, precision = self._rows(turn, centre, log_scale, rigs, metre)
            weighted = precision[:, None] * slope
            step = -np.linalg.pinv(slope.T @ weighted, hermitian=True) @ (weighted.T @ residual)
            for r, (facing, origin) in enumerate(rigs):
                own = step[6 * r : 6 * r + 6]
                rigs[r] = rotation_from_vector(own[:3]) @ facing, origin + own[3:]
            if not self.is_metric:
                metre *= float(np.exp(np.clip(step[-1], -1.0, 1.0)))
            if np.abs(step).max(initial=0.0) < 1e-10:
                break
        return rigs, metre

    def _rows(
        self,
        turn: NDArray,
        centre: NDArray,
        log_scale: NDArray,
        rigs: list[tuple[NDArray, NDArray]],
        metre: float,
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Residuals, their slope over the rigs' poses and the log metre, and precisions.

        Positions of all rows first, then rotations, then log scales.
        """
        rows, k = self.poses, len(self.poses.edge)
        count = 6 * k + len(log_scale)
        residual = np.zeros(count)
        slope = np.zeros((count, 6 * len(rigs) + (not self.is_metric)))
        position = slope[: 3 * k].reshape(k, 3, slope.shape[1])
        angular = slope[3 * k : 6 * k].reshape(k, 3, slope.shape[1])
        for r, (facing, origin) in enumerate(rigs):
            mine = np.flatnonzero(rows.rig == r)
            arm = metre * rows.rig_from_cam[mine, :3, 3] @ facing.T
            residual[: 3 * k].reshape(k, 3)[mine] = centre[mine] - arm - origin
            for row in mine:
                away = turn[row] @ (facing @ rows.rig_from_cam[row, :3, :3]).T
                residual[3 * k : 6 * k].reshape(k, 3)[row] = vector_from_rotation(away)
            position[mine, :, 6 * r : 6 * r + 3] = _skew(arm)
            position[mine, :, 6 * r + 3 : 6 * r + 6] = -np.eye(3)
            angular[mine, :, 6 * r : 6 * r + 3] = -np.eye(3)
            if not self.is_metric:
                position[mine, :, -1] = -arm
        if len(log_scale):
            residual[6 * k :] = log_scale - np.log(metre)
            if not self.is_metric:
                slope[6 * k :, -1] = -1.0
        precision = np.concatenate(
            [
                np.repeat(rows.share / _square(rows.translation_sigma * self.metre), 3),
                np.repeat(rows.share / _square(rows.rotation_sigma), 3),
                1.0 / _square(self.scales.sigma),
            ]
        )
        return residual, slope, precision


@dataclass(frozen=True, eq=False)
class Linearised:
    """A quadratic in the steps of all pairs: block diagonal minus a low rank.

    Attributes:
        gradient: (E, 7).
        own: (E, 7, 7); cross: (7E, q) onto the q unknowns that were eliminated.
        core: (q, q) curvature of these; inner: (q, q) its pseudo-inverse, so that the quadratic's
            matrix is ``own - cross inner cross^T``.
    """

    gradient: Tensor
    own: Tensor
    cross: Tensor
    core: Tensor
    inner: Tensor

    def apply(self, xi: Tensor) -> Tensor:
        """(E, 7, k): the matrix times k steps at once."""
        flat = xi.reshape(len(self.cross), -1)
        low_rank = self.cross @ (self.inner @ (self.cross.T @ flat))
        return torch.bmm(self.own, xi) - low_rank.view_as(xi)


def strength(graph: Graph, robust_at_median: float, scale: float) -> float:
    """What a prior's inverse variance is worth in the solver's cost.

    There an observation at the median residual ``scale`` has the weight ``robust_at_median``,
    while it knows its point to about ``scale``; samples of a view's part of a pair together count
    as :data:`_INDEPENDENT` observations.
    """
    samples = float((graph.weight > 0).sum(1).double().mean())
    return robust_at_median * samples * scale**2 / _INDEPENDENT


def pose_rows(
    graph: Graph,
    known: Sequence[tuple[int, int, NDArray[np.float64], float, float]],
) -> PoseRows:
    """Rows of (rig, view, rig_from_cam, translation sigma, rotation sigma)."""
    mass = graph.weight.sum(1).cpu().numpy()
    columns: list[list] = [[] for _ in range(8)]
    for rig, v, pose, metres, radians in known:
        part = graph.of_view[v]
        own = [o for o in range(part.start, part.stop) if graph.own_frame[o]]
        total = max(sum(mass[o] for o in own), 1e-300)
        for o in own:
            from_cam = graph.pair_from_map[o].copy()
            from_cam[:3, 3] /= graph.unit[graph.edge[o]]
            values = (graph.edge[o], v, rig, from_cam, pose, metres, radians, mass[o] / total)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
    edge, view, rig = (np.array(c, dtype=np.int64) for c in columns[:3])
    from_cam, given = (np.array(c, dtype=np.float64).reshape(-1, 4, 4) for c in columns[3:5])
    metres, radians, share = (np.array(c, dtype=np.float64) for c in columns[5:])
    return PoseRows(edge, view, rig, from_cam, given, metres, radians, share)


def scale_rows(graph: Graph, depths: Sequence[NDArray[np.float32] | None]) -> ScaleRows:
    """Rows of all pairs of unknown scale that have a view's points in its own frame, and depth."""
    x, weight = graph.x.cpu().numpy(), graph.weight.cpu().numpy()
    rows = []
    for o, (v, e) in enumerate(zip(graph.view, graph.edge, strict=True)):
        depth = depths[v]
        if depth is None or graph.fixed[e] or not graph.own_frame[o]:
            continue
        measured = depth[tuple(graph.pixels[v].T)]
        from_map = graph.pair_from_map[o]
        offset = from_map[:3, 3] / graph.unit[e]
        z = (from_map[:3, 2] @ (x[o] - offset[:, None]))[: len(measured)]
        use = (measured > 0) & (weight[o, : len(measured)] > 0) & (z > 0)
        if np.count_nonzero(use) >= 12:
            ratio = np.log(z[use] / measured[use])
            middle = float(np.median(ratio))
            spread = 1.4826 * float(np.median(np.abs(ratio - middle)))
            rows.append((e, v, middle, np.hypot(_SCALE_SIGMA, spread)))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return ScaleRows(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.float64),
        np.array(columns[3], dtype=np.float64),
    )


def _variance(deviations: NDArray) -> float:
    """Variance per axis of the mean of (K, 3) deviations from it."""
    return float((deviations**2).sum() / 3.0 / max(len(deviations) - 1, 1) / len(deviations))


def _square(sigma: NDArray) -> NDArray:
    return np.maximum(sigma, _LEAST_SIGMA) ** 2


def _skew(vectors: NDArray) -> NDArray:
    """(K, 3, 3) matrices that take a vector to the cross product with each of (K, 3)."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
