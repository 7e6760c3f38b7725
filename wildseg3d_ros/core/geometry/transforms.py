"""Rigid transforms as 4x4 matrices, named target first: ``b_from_a``."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def make_transform(rotation: ArrayLike, translation: ArrayLike) -> NDArray[np.float64]:
    """(4, 4) transform from a (3, 3) rotation and a (3,) translation."""
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = translation
    return out


def invert(b_from_a: NDArray) -> NDArray[np.float64]:
    """``a_from_b`` of a rigid (..., 4, 4) transform, without a matrix inversion."""
    rotation = np.swapaxes(b_from_a[..., :3, :3], -1, -2)
    out = np.zeros_like(b_from_a, dtype=np.float64)
    out[..., :3, :3] = rotation
    out[..., :3, 3] = -(rotation @ b_from_a[..., :3, 3, None])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def apply(b_from_a: NDArray, points_in_a: NDArray) -> NDArray:
    """Points (..., 3) in b; float32 points stay float32."""
    dtype = points_in_a.dtype
    rotation = b_from_a[:3, :3].T.astype(dtype)
    return points_in_a @ rotation + b_from_a[:3, 3].astype(dtype)


def rotation_from_vector(vector: ArrayLike) -> NDArray[np.float64]:
    """(3, 3) rotation by the angle |vector| [rad] about its direction (Rodrigues)."""
    vector = np.asarray(vector, dtype=np.float64)
    angle = np.linalg.norm(vector)
    x, y, z = vector
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-8:
        return nearest_rotation(np.eye(3) + skew)
    return (
        np.eye(3) + np.sin(angle) / angle * skew + (1.0 - np.cos(angle)) / angle**2 * (skew @ skew)
    )


def vector_from_rotation(rotation: NDArray) -> NDArray[np.float64]:
    """(3,) angle [rad] times axis of a (3, 3) rotation by clearly less than pi: the inverse of
    :func:`rotation_from_vector`."""
    sine, angle = _sine_and_angle(rotation)
    length = np.linalg.norm(sine)
    return sine * (angle / length if length > 1e-12 else 1.0)


def rotation_angle(rotation: NDArray) -> float:
    """Angle of a (3, 3) rotation in [0, pi] rad, accurate near 0 and pi."""
    return _sine_and_angle(rotation)[1]


def _sine_and_angle(rotation: NDArray) -> tuple[NDArray[np.float64], float]:
    """The axis times the sine of the angle, and the angle [rad]."""
    skew = rotation - rotation.T
    sine = np.array([skew[2, 1], skew[0, 2], skew[1, 0]]) / 2.0
    return sine, float(np.arctan2(np.linalg.norm(sine), (np.trace(rotation) - 1.0) / 2.0))


def nearest_rotation(matrix: NDArray) -> NDArray[np.float64]:
    """Rotations closest to (..., 3, 3) matrices in the Frobenius norm (chordal mean of a sum)."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


def rotation_from_quaternion(quat_xyzw: ArrayLike) -> NDArray[np.float64]:
    """(3, 3) rotation from a quaternion (x, y, z, w), normalised first.

    Raises:
        ValueError: the quaternion has no length or is not finite.
    """
    quat = np.asarray(quat_xyzw, dtype=np.float64)
    norm = np.linalg.norm(quat)
    if quat.shape != (4,) or not np.isfinite(norm) or norm < 1e-9:
        raise ValueError(f"expected a quaternion (x, y, z, w) of unit length, got {quat.tolist()}")
    x, y, z, w = quat / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: NDArray) -> NDArray[np.float64]:
    """Quaternion (x, y, z, w) with w >= 0 of a (3, 3) rotation."""
    m = rotation
    # The eigenvector form (Bar-Itzhack) has no branch near 180 degrees.
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], 0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], np.trace(m)],
        ]
    )
    quat = np.linalg.eigh(k, UPLO="L")[1][:, -1]
    return quat if quat[3] >= 0 else -quat


def interpolate(
    first: NDArray[np.float64], second: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Rigid (4, 4) between two, at a share in [0, 1] of the way: translation linear, rotation
    along the shortest arc (slerp)."""
    a, b = quaternion_from_rotation(first[:3, :3]), quaternion_from_rotation(second[:3, :3])
    dot = float(a @ b)
    if dot < 0:
        b, dot = -b, -dot
    angle = np.arccos(min(dot, 1.0))
    if angle < 1e-6:
        quat = a + share * (b - a)
    else:
        quat = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    translation = (1 - share) * first[:3, 3] + share * second[:3, 3]
    return make_transform(rotation_from_quaternion(quat), translation)
