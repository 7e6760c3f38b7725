"""Residuals between two frames and their derivatives, for Gauss-Newton on the relative pose.

The unknown is a perturbation ``xi = (w, v)`` of ``a_from_b`` on the left, in a's axes, rotation
first, about a pivot: it moves a point y of a to ``y + w x (y - pivot) + v``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.pointmaps.depth.registration.frame import Frame, sample_texture


@dataclass(frozen=True, eq=False)
class Direction:
    """One of the two ways to compare frames: samples of a source in the image of a target.

    Attributes:
        source, target: the frames.
        target_from_source: (4, 4) current pose.
        pivot: (3,) of the perturbation, in frame a.
        into_a: whether a is the target (else it is the source).
    """

    source: Frame
    target: Frame
    target_from_source: NDArray[np.float64]
    pivot: NDArray[np.float64]
    into_a: bool


def both_directions(
    frame_a: Frame, frame_b: Frame, a_from_b: NDArray, pivot: NDArray
) -> tuple[Direction, Direction]:
    """b's samples in a, and a's samples in b."""
    return (
        Direction(frame_b, frame_a, a_from_b, pivot, True),
        Direction(frame_a, frame_b, invert(a_from_b), pivot, False),
    )


@dataclass(frozen=True, eq=False)
class Association:
    """Samples of the source paired with the pixels of the target that they project to.

    Attributes:
        chosen: (M,) indices of the samples that land on a pixel with a point.
        points: (M, 3) those samples in the target's frame.
        uv: (M, 2) where they land.
        rows, cols: (M,) the pixel there.
        depth_error: (M,) metres, the sample's depth minus the pixel's.
        total: how many samples there were.
    """

    chosen: NDArray[np.int64]
    points: NDArray[np.float64]
    uv: NDArray[np.float64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    depth_error: NDArray[np.float64]
    total: int


@dataclass(frozen=True, eq=False)
class Residuals:
    """Whitened residuals with their derivatives.

    Attributes:
        value: (M,) residual over its standard deviation.
        jacobian: (M, 6) its derivative with respect to ``xi``.
        noise: rows of derivatives that noise in normals or image derivatives adds on average.
            Their normal matrix is the share of the Jacobian's that is no information (errors in
            variables). Empty unless asked for.
    """

    value: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    noise: tuple[NDArray[np.float64], ...] = ()


def associate(direction: Direction, count: int) -> Association:
    """Projective data association of the first ``count`` samples of the source."""
    target, pose = direction.target, direction.target_from_source
    moved = direction.source.sample_points[:count] @ pose[:3, :3].T + pose[:3, 3]
    uv, z = project(moved, target.K)
    height, width = target.sigma.shape
    with np.errstate(invalid="ignore"):
        inside = (z > 1e-3) & ((uv >= 0) & (uv <= [width - 1, height - 1])).all(axis=1)
    chosen = np.flatnonzero(inside)
    cols, rows = np.rint(uv[chosen]).astype(np.int64).T
    hit = np.isfinite(target.sigma[rows, cols])
    chosen, rows, cols = chosen[hit], rows[hit], cols[hit]
    error = z[chosen] - target.points[rows, cols, 2]
    return Association(chosen, moved[chosen], uv[chosen], rows, cols, error, len(moved))


def point_to_plane(
    direction: Direction, found: Association, gate: float, with_noise: bool = False
) -> Residuals:
    """Distances of samples to the planes of the pixels they land on (Chen and Medioni, 1992).

    Args:
        gate: pairs farther apart than this [m] are left out.
        with_noise: compute ``noise``.
    """
    source, target = direction.source, direction.target
    rotation = direction.target_from_source[:3, :3]
    translation = direction.target_from_source[:3, 3]
    normals = target.normals[found.rows, found.cols].astype(np.float64)
    anchors = target.points[found.rows, found.cols].astype(np.float64)
    gap = found.points - anchors
    source_normals = source.sample_normals[found.chosen] @ rotation.T
    # Surfaces whose normals differ by more than 60 degrees are not the same.
    near = _dot(gap, gap) < gate**2
    near &= _dot(normals, source_normals) > 0.5
    normals, seen, index = normals[near], anchors[near], found.chosen[near]
    # Depth noise acts along each camera's ray; what counts is its part along the normal.
    from_source = seen - translation
    cos_target = np.abs(_dot(normals, seen)) / np.sqrt(_dot(seen, seen))
    cos_source = np.abs(_dot(normals, from_source))
    cos_source /= np.sqrt(np.maximum(_dot(from_source, from_source), 1e-12))
    sigma = np.hypot(
        target.sigma[found.rows[near], found.cols[near]] * cos_target,
        source.sample_sigma[index] * cos_source,
    )
    value = _dot(normals, gap[near]) / sigma
    normals, arm = _in_a(direction, normals, found.points[near], index)
    scale = 1.0 / sigma[:, None]
    noise = ()
    if with_noise:
        # The source's uncertainty stands for the target's: both look at the same surface.
        tilt = scale * source.sample_normal_sigma[index, None]
        noise = tuple(_rows(arm, tangent) * tilt for tangent in _tangents(normals))
    return Residuals(value, _rows(arm, normals) * scale, noise)


def brightness(
    direction: Direction, found: Association, gate: float, level: int, with_noise: bool = False
) -> Residuals:
    """Differences of locally normalised brightness (dense photometric term).

    Steinbruecker, Sturm and Cremers, "Real-time visual odometry from dense RGB-D images", ICCVW
    2011. The standard deviation is the robust one (MAD) of the differences themselves.

    Args:
        gate: samples whose depth is off by more than this [m] are hidden, and left out.
        level: of the texture pyramid.
    """
    source, target = direction.source, direction.target
    near = np.abs(found.depth_error) < gate
    points, index = found.points[near], found.chosen[near]
    texture = sample_texture(target.texture[level], found.uv[near], 2**level).astype(np.float64)
    value = texture[:, 0] - source.sample_brightness[level][index]
    K, (x, y, z) = target.K, points.T
    # Derivatives of u and v by the point.
    u_by_point = np.stack([K[0, 0] / z, K[0, 1] / z, -(K[0, 0] * x + K[0, 1] * y) / z**2], axis=1)
    v_by_point = np.stack([np.zeros_like(z), K[1, 1] / z, -K[1, 1] * y / z**2], axis=1)
    mad = 1.4826 * float(np.median(np.abs(value))) if len(value) else 1.0
    # A smaller deviation, in units of local contrast, is not believed.
    scale = 1.0 / max(mad, 0.05)
    along = u_by_point * texture[:, 1:2] + v_by_point * texture[:, 2:3]
    along, arm = _in_a(direction, along, points, index)
    noise = ()
    if with_noise:
        rough = scale * target.texture_noise[level]
        noise = tuple(
            _rows(arm, _in_a(direction, by_point, points, index)[0]) * rough
            for by_point in (u_by_point, v_by_point)
        )
    return Residuals(value * scale, _rows(arm, along) * scale, noise)


def _in_a(
    direction: Direction, gradient: NDArray, points: NDArray, index: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, 3) gradients by the target's points as gradients by ``xi``'s motion, and its arms.

    Into a, the perturbation moves the samples. Out of a, it moves the target under the samples,
    which is the samples moving the other way, seen in their own axes.
    """
    if direction.into_a:
        return gradient, points - direction.pivot
    own = direction.source.sample_points[index]
    return -gradient @ direction.target_from_source[:3, :3], own - direction.pivot


def _rows(arm: NDArray, direction: NDArray) -> NDArray[np.float64]:
    """(M, 6) derivatives of ``direction . (w x arm + v)``: ``[arm x direction, direction]``."""
    rows = np.empty((len(arm), 6))
    x, y, z = arm.T
    dx, dy, dz = direction.T
    rows[:, 0] = y * dz - z * dy
    rows[:, 1] = z * dx - x * dz
    rows[:, 2] = x * dy - y * dx
    rows[:, 3:] = direction
    return rows


def _tangents(normals: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two (M, 3) unit vectors that complete each unit normal to an orthonormal basis."""
    # Duff et al., "Building an orthonormal basis, revisited", JCGT 2017.
    x, y, z = normals.T
    sign = np.copysign(1.0, z)
    a = -1.0 / (sign + z)
    b = x * y * a
    first = np.stack([1.0 + sign * x * x * a, sign * b, -sign * x], axis=1)
    return first, np.stack([b, sign + y * y * a, -y], axis=1)


def _dot(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    return np.einsum("mi,mi->m", a, b)
