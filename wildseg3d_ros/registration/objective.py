"""Residuals between two frames and their derivatives, for Gauss-Newton on the relative pose.

The pose ``t_from_s`` is perturbed on the left, ``exp(xi) t_from_s`` with ``xi = (w, v)`` in the
target's axes, rotation first, about a pivot: a point y of the target moves by ``w x (y - pivot) + v``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.geometry.cameras import project
from wildseg3d_ros.registration.frame import Frame, sample_texture


@dataclass(frozen=True, eq=False)
class Residuals:
    """Whitened residuals with their rows of the Jacobian with respect to ``xi``.

    Attributes:
        value: (M,) residual over its standard deviation.
        jacobian: (M, 6) its derivative.
        spread: (M,) unit of the residual (its standard deviation): metres, or brightness.
    """

    value: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    spread: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Association:
    """Samples of one frame paired with the pixels of another that they project to.

    Attributes:
        chosen: (M,) indices of the samples that land on a pixel with a point.
        points: (M, 3) those samples, moved into the other frame.
        uv: (M, 2) where they land.
        rows, cols: (M,) the pixel there.
        depth_error: (M,) metres, the sample's depth minus the pixel's.
        in_image: how many samples land inside the image.
        total: how many samples there were.
    """

    chosen: NDArray[np.int64]
    points: NDArray[np.float64]
    uv: NDArray[np.float64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    depth_error: NDArray[np.float64]
    in_image: int
    total: int


def associate(
    source: Frame, target: Frame, target_from_source: NDArray, count: int
) -> Association:
    """Projective data association of the first ``count`` samples of ``source``."""
    moved = source.sample_points[:count] @ target_from_source[:3, :3].T + target_from_source[:3, 3]
    uv, z = project(moved, target.K)
    height, width = target.sigma.shape
    with np.errstate(invalid="ignore"):
        inside = (z > 1e-3) & (uv >= 0).all(axis=1)
        inside &= (uv[:, 0] <= width - 1) & (uv[:, 1] <= height - 1)
    chosen = np.flatnonzero(inside)
    cols, rows = np.rint(uv[chosen]).astype(np.int64).T
    hit = np.isfinite(target.sigma[rows, cols])
    in_image = len(chosen)
    chosen, rows, cols = chosen[hit], rows[hit], cols[hit]
    error = z[chosen] - target.points[rows, cols, 2]
    return Association(chosen, moved[chosen], uv[chosen], rows, cols, error, in_image, len(moved))


def point_to_plane(
    source: Frame,
    target: Frame,
    target_from_source: NDArray,
    found: Association,
    gate: float,
    pivot: NDArray,
    from_target: bool,
) -> Residuals:
    """Distances of the source's samples to the planes of the target's pixels.

    Args:
        source, target: the frames of the association.
        target_from_source: (4, 4) current pose.
        found: samples of ``source`` in ``target``.
        gate: pairs farther apart than this [m] are left out.
        pivot: (3,) in the frame that ``xi`` lives in.
        from_target: ``xi`` moves the target instead of the source: it lives in the *source's* frame
            and perturbs ``source_from_target`` on the left (the reverse direction of a symmetric fit).
    """
    rotation, translation = target_from_source[:3, :3], target_from_source[:3, 3]
    normals = target.normals[found.rows, found.cols].astype(np.float64)
    anchors = target.points[found.rows, found.cols].astype(np.float64)
    gap = found.points - anchors
    source_normals = source.sample_normals[found.chosen] @ rotation.T
    # Surfaces that face away from each other by more than 60 degrees are not the same.
    near = (gap * gap).sum(axis=1) < gate**2
    near &= (normals * source_normals).sum(axis=1) > 0.5
    normals, gap, moved = normals[near], gap[near], found.points[near]
    distance = (normals * gap).sum(axis=1)
    # Depth noise acts along each camera's ray; what counts is its part along the normal.
    seen = anchors[near]
    from_source = seen - translation
    cos_target = np.abs((normals * seen).sum(axis=1)) / np.linalg.norm(seen, axis=1)
    cos_source = np.abs((normals * from_source).sum(axis=1))
    cos_source /= np.maximum(np.linalg.norm(from_source, axis=1), 1e-9)
    sigma = np.hypot(
        target.sigma[found.rows[near], found.cols[near]] * cos_target,
        source.sample_sigma[found.chosen[near]] * cos_source,
    )
    if from_target:
        # In source axes, the target's plane moves under the sample, which stays.
        normals, moved = -normals @ rotation, source.sample_points[found.chosen[near]]
    jacobian = np.hstack([np.cross(moved - pivot, normals), normals])
    return Residuals(distance / sigma, jacobian / sigma[:, None], sigma)


def brightness(
    source: Frame,
    target: Frame,
    target_from_source: NDArray,
    found: Association,
    gate: float,
    pivot: NDArray,
    from_target: bool,
    level: int,
) -> Residuals:
    """Differences of locally normalised brightness (dense photometric term).

    Steinbruecker, Sturm and Cremers, "Real-time visual odometry from dense RGB-D images", ICCVW 2011.
    Arguments as of :func:`point_to_plane`; ``level`` is the level of the texture pyramid. The standard
    deviation is the robust spread of the differences themselves.
    """
    near = np.abs(found.depth_error) < gate
    uv, moved = found.uv[near], found.points[near]
    texture = sample_texture(target.texture[level], uv, 2**level)
    difference = texture[:, 0] - source.sample_brightness[level][found.chosen[near]]
    difference = difference.astype(np.float64)
    K, z = target.K, moved[:, 2]
    du, dv = texture[:, 1].astype(np.float64), texture[:, 2].astype(np.float64)
    by_x, by_y = du * K[0, 0] / z, (du * K[0, 1] + dv * K[1, 1]) / z
    slope = np.stack([by_x, by_y, -(by_x * moved[:, 0] + by_y * moved[:, 1]) / z], axis=1)
    if from_target:
        slope, moved = (
            -slope @ target_from_source[:3, :3],
            source.sample_points[found.chosen[near]],
        )
    jacobian = np.hstack([np.cross(moved - pivot, slope), slope])
    scale = 1.4826 * np.median(np.abs(difference)) if len(difference) else 1.0
    sigma = np.full(len(difference), max(scale, 0.05))
    return Residuals(difference / sigma, jacobian / sigma[:, None], sigma)
