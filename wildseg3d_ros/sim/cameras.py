"""Where the cameras of the simulated cell stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera of the cell: (4, 4) exact pose (OpenCV axes) and vertical field of view [rad]."""

    name: str
    world_from_cam: NDArray[np.float64]
    fovy: float

    def intrinsics(self, width: int, height: int) -> NDArray[np.float64]:
        """(3, 3) K [px] of a picture of this size; integer coordinates are pixel centres."""
        focal = 0.5 * height / np.tan(0.5 * self.fovy)
        return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def ring_cameras(views: int, rng: np.random.Generator) -> tuple[Camera, ...]:
    """Cameras around the table, on 250 degrees, at 0.65 to 0.85 m; of five or more, one is above.

    Azimuth 0 is the front of the table (-y).
    """
    ring = views - (views >= 5)
    cameras = []
    for degrees in np.linspace(-125, 125, ring) if ring > 1 else [0.0]:
        azimuth = np.radians(degrees) + np.radians(rng.uniform(-6, 6))
        elevation = np.radians(rng.uniform(32, 46))
        cameras.append((azimuth, elevation, rng.uniform(0.66, 0.80)))
    if ring < views:
        cameras.append((np.radians(rng.uniform(-15, 15)), np.radians(78), 0.85))
    out = []
    for k, (azimuth, elevation, distance) in enumerate(cameras):
        target = np.array([0.0, 0.0, 0.05]) + rng.uniform(-0.02, 0.02, 3)
        eye = target + distance * bearing(azimuth, elevation)
        pose = look_at(eye, target, np.radians(rng.uniform(-4, 4)))
        out.append(Camera(f"cam_{k}", pose, np.radians(45.0) * rng.uniform(0.985, 1.015)))
    return tuple(out)


def bearing(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """(3,) unit vector; azimuth 0 is -y, elevation pi/2 is up [rad]."""
    across = np.cos(elevation)
    return np.array([across * np.sin(azimuth), -across * np.cos(azimuth), np.sin(elevation)])


def look_at(eye: NDArray, target: NDArray, roll: float = 0.0) -> NDArray[np.float64]:
    """(4, 4) ``world_from_cam`` (OpenCV axes) of a camera at ``eye`` that sees ``target`` centred.

    World z is up in the picture before the camera is rolled by ``roll`` [rad] about its axis.
    """
    forward = np.asarray(target, dtype=np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return make_transform(
        np.stack([c * right + s * down, c * down - s * right, forward], axis=1), eye
    )
