"""Boxes, balls and cylinders that rays can be cast at, with colours that depend on the place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply, invert


@dataclass(frozen=True, eq=False)
class Solid:
    """A solid body.

    Attributes:
        kind: "box", "ball" or "cylinder" (about its z axis).
        world_from_solid: (4, 4) pose of its centre.
        half: (3,) half extents [m]; a ball's radius three times, a cylinder's radius twice.
        colors: (2, 3) RGB in [0, 255] that the pattern mixes.
        grain: size of the pattern [m].
        label: 0 = support and background, else the object's id.
    """

    kind: Literal["box", "ball", "cylinder"]
    world_from_solid: NDArray[np.float64]
    half: NDArray[np.float64]
    colors: NDArray[np.float64]
    grain: float = 0.02
    label: int = 0

    def hit(self, origin: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray:
        """(R,) how often each of (R, 3) directions fits between origin and surface; inf = miss.

        ``origin`` lies outside the solid.
        """
        solid_from_world = invert(self.world_from_solid)
        start = apply(solid_from_world, origin)
        along = directions @ solid_from_world[:3, :3].T
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.kind == "ball":
                return _hit_quadric(start, along, float(self.half[0]), (1.0, 1.0, 1.0))[0]
            if self.kind == "cylinder":
                near, far = _hit_quadric(start, along, float(self.half[0]), (1.0, 1.0, 0.0))
                low = (-self.half[2] - start[2]) / along[:, 2]
                high = (self.half[2] - start[2]) / along[:, 2]
                near = np.maximum(near, np.minimum(low, high))
                far = np.minimum(far, np.maximum(low, high))
            else:
                low, high = (-self.half - start) / along, (self.half - start) / along
                near = np.minimum(low, high).max(axis=1)
                far = np.maximum(low, high).min(axis=1)
        return np.where((near <= far) & (near > 0), near, np.inf)

    def distance(self, points: NDArray) -> NDArray[np.float64]:
        """(M,) distance [m] of world points (M, 3) to the surface, negative inside."""
        local = apply(invert(self.world_from_solid), np.asarray(points, dtype=np.float64))
        if self.kind == "ball":
            return np.linalg.norm(local, axis=1) - self.half[0]
        if self.kind == "cylinder":
            beyond = np.stack(
                [
                    np.hypot(local[:, 0], local[:, 1]) - self.half[0],
                    np.abs(local[:, 2]) - self.half[2],
                ],
                axis=1,
            )
        else:
            beyond = np.abs(local) - self.half
        outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=1)
        return outside + np.minimum(beyond.max(axis=1), 0.0)

    def color(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 3) RGB in [0, 255] at surface points (M, 3): the same from every view."""
        local = apply(invert(self.world_from_solid), points)
        share = 0.65 * value_noise(local / self.grain) + 0.35 * value_noise(
            local / self.grain * 2.3
        )
        # Steepened: soft blobs alone give no corners for features.
        share = np.clip(0.5 + 2.5 * (share - 0.5), 0.0, 1.0)[:, None]
        return self.colors[0] * (1.0 - share) + self.colors[1] * share


def _hit_quadric(
    start: NDArray, along: NDArray, radius: float, axes: tuple[float, float, float]
) -> tuple[NDArray, NDArray]:
    """First and last hit of rays with the quadric sum(axes * x^2) = radius^2."""
    w = np.asarray(axes)
    a = (w * along**2).sum(axis=1)
    b = along @ (w * start)
    c = float((w * start**2).sum()) - radius**2
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    missed = (b**2 - a * c < 0) | (a < 1e-15)
    # A ray along a cylinder's axis is limited by its caps alone, when it is inside.
    never = np.inf if c > 0 else -np.inf
    near = np.where(missed, never, (-b - root) / a)
    far = np.where(missed, -never, (-b + root) / a)
    if axes[2]:
        near = np.where(near > 0, near, np.inf)
    return near, far


def value_noise(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) noise in [0, 1] at (M, 3): random values on the integer lattice, interpolated."""
    cell = np.floor(points).astype(np.int64)
    share = points - cell
    share = share * share * (3.0 - 2.0 * share)
    total = np.zeros(len(points))
    for corner in range(8):
        offset = corner & 1, corner >> 1 & 1, corner >> 2 & 1
        x, y, z = (share[:, i] if offset[i] else 1.0 - share[:, i] for i in range(3))
        total += x * y * z * _lattice_value(*(cell[:, i] + offset[i] for i in range(3)))
    return total


def _lattice_value(
    x: NDArray[np.int64], y: NDArray[np.int64], z: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(M,) a pseudo-random value in [0, 1) for each lattice point."""
    key = (x * 73856093 + y * 19349663 + z * 83492791).astype(np.uint32)
    key ^= key >> np.uint32(16)
    key *= np.uint32(0x7FEB352D)
    key ^= key >> np.uint32(15)
    key *= np.uint32(0x846CA68B)
    key ^= key >> np.uint32(16)
    return key / 2.0**32
