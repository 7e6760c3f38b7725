"""Comparison of camera poses whose worlds may lie anywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle


def relative(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4, 4) poses in the first camera's frame."""
    return invert(poses[0]) @ poses


def assert_same_cameras(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    metres: float = 1e-4,
    radians: float = 1e-4,
) -> None:
    """Raises AssertionError unless two sets of poses (N, 4, 4) agree up to the frame."""
    ours, theirs = relative(first), relative(second)
    np.testing.assert_allclose(ours[:, :3, 3], theirs[:, :3, 3], atol=metres)
    for a, b in zip(ours, theirs, strict=True):
        angle = rotation_angle(a[:3, :3] @ b[:3, :3].T)
        assert angle < radians, f"orientations differ by {angle:.2g} rad"
