"""Constructed RGB-D views with exact truth: planes, spheres and boxes with solid textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildseg3d_ros.geometry.cameras import rays
from wildseg3d_ros.geometry.transforms import make_transform


@dataclass(frozen=True, eq=False)
class Plane:
    """Points x with ``normal . (x - point) = 0``, both (3,) world."""

    point: ArrayLike
    normal: ArrayLike

    def hit(
        self, origin: NDArray, direction: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances along (M, 3) ``direction`` in its lengths, inf for none, and (M, 3) normals."""
        normal = np.asarray(self.normal, dtype=np.float64)
        normal = normal / np.linalg.norm(normal)
        against = direction @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = ((np.asarray(self.point) - origin) @ normal) / against
        missed = ~(distance > 1e-9)
        return np.where(missed, np.inf, distance), np.broadcast_to(normal, direction.shape)


@dataclass(frozen=True, eq=False)
class Sphere:
    """(3,) centre and radius, world."""

    centre: ArrayLike
    radius: float

    def hit(
        self, origin: NDArray, direction: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As :meth:`Plane.hit`."""
        to_centre = origin - np.asarray(self.centre, dtype=np.float64)
        a = (direction * direction).sum(axis=1)
        half_b = direction @ to_centre
        inside = half_b**2 - a * (to_centre @ to_centre - self.radius**2)
        distance = (-half_b - np.sqrt(np.maximum(inside, 0.0))) / a
        distance = np.where((inside < 0) | (distance <= 0), np.inf, distance)
        safe = np.where(np.isfinite(distance), distance, 0.0)
        return distance, (to_centre + safe[:, None] * direction) / self.radius


@dataclass(frozen=True, eq=False)
class Box:
    """(3,) centre, (3,) half edges and (3, 3) ``world_from_box`` rotation."""

    centre: ArrayLike
    half: ArrayLike
    world_from_box: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))

    def hit(
        self, origin: NDArray, direction: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As :meth:`Plane.hit` (slab method)."""
        start = (origin - np.asarray(self.centre)) @ self.world_from_box
        along = direction @ self.world_from_box
        with np.errstate(divide="ignore", invalid="ignore"):
            first = (-np.asarray(self.half) - start) / along
            second = (np.asarray(self.half) - start) / along
        entry, leave = np.fmin(first, second), np.fmax(first, second)
        near, far = entry.max(axis=1), leave.min(axis=1)
        distance = np.where((near <= far) & (near > 1e-9), near, np.inf)
        axis = entry.argmax(axis=1)
        normals = np.zeros_like(along)
        rows = np.arange(len(along))
        normals[rows, axis] = -np.sign(along[rows, axis])
        return distance, normals @ self.world_from_box.T


@dataclass(frozen=True, eq=False)
class Rendering:
    """What a camera sees, exactly.

    Attributes:
        depth: (H, W) float32 metres along the optical axis, 0 where no shape is hit.
        normals: (H, W, 3) float64 unit vectors in the camera's frame, towards the camera.
        shape: (H, W) int32 index of the shape, -1 for none.
        image: (H, W, 3) uint8.
    """

    depth: NDArray[np.float32]
    normals: NDArray[np.float64]
    shape: NDArray[np.int32]
    image: NDArray[np.uint8]


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike = (0, 0, 1)) -> NDArray[np.float64]:
    """(4, 4) ``world_from_cam`` of a camera at ``eye`` that looks at ``target``."""
    eye = np.asarray(eye, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, np.asarray(up, dtype=np.float64))
    right /= np.linalg.norm(right)
    return make_transform(np.stack([right, np.cross(forward, right), forward], axis=1), eye)


def render(
    shapes: Sequence[Plane | Sphere | Box],
    K: NDArray,
    size: tuple[int, int],
    world_from_cam: NDArray,
    contrast: float = 40.0,
    wavelength: float = 0.06,
) -> Rendering:
    """Casts one ray per pixel.

    Args:
        shapes: what there is; the nearest is seen.
        K: (3, 3) intrinsics.
        size: (height, width) in pixels.
        world_from_cam: (4, 4) pose of the camera.
        contrast: amplitude of the texture in grey levels; 0 gives each shape one flat colour.
        wavelength: of the texture [m].
    """
    height, width = size
    rotation, origin = world_from_cam[:3, :3], world_from_cam[:3, 3]
    in_cam = rays(K, height, width).reshape(-1, 3).astype(np.float64)
    direction = in_cam @ rotation.T
    nearest = np.full(len(direction), np.inf)
    shape = np.full(len(direction), -1, dtype=np.int32)
    normals = np.zeros_like(direction)
    for index, item in enumerate(shapes):
        distance, normal = item.hit(origin, direction)
        closer = distance < nearest
        nearest[closer], shape[closer], normals[closer] = distance[closer], index, normal[closer]
    hit = np.isfinite(nearest)
    # Rays have unit z in the camera, so their length is the depth.
    depth = np.where(hit, nearest, 0.0)
    facing_away = (normals * direction).sum(axis=1) > 0
    normals[facing_away] *= -1.0
    colour = _texture(origin + depth[:, None] * direction, shape, contrast, wavelength)
    colour[~hit] = 0
    return Rendering(
        depth.reshape(size).astype(np.float32),
        (normals @ rotation).reshape(height, width, 3),
        shape.reshape(size),
        colour.reshape(height, width, 3),
    )


def noisy_depth(
    depth: NDArray[np.float32], sigma: NDArray | float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Adds normal noise of standard deviation ``sigma`` [m] to the pixels that have depth."""
    noisy = depth + rng.normal(size=depth.shape) * sigma
    return np.where(depth > 0, np.maximum(noisy, 1e-4), 0.0).astype(np.float32)


def _texture(
    points: NDArray, shape: NDArray[np.int32], contrast: float, wavelength: float
) -> NDArray[np.uint8]:
    """(M, 3) colours: a sum of waves through space, so that every view sees the same texture."""
    rng = np.random.default_rng(7)
    value = np.zeros(len(points))
    for octave in range(3):
        for _ in range(4):
            direction = rng.normal(size=3)
            direction *= 2.0 * np.pi * 1.7**octave / (wavelength * np.linalg.norm(direction))
            value += np.sin(points @ direction + rng.uniform(0, 2 * np.pi)) / 1.5**octave
    base = 90.0 + 80.0 * np.random.default_rng(3).random((int(shape.max(initial=0)) + 1, 3))
    colour = base[np.maximum(shape, 0)] + contrast * (value / 2.0)[:, None]
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)
