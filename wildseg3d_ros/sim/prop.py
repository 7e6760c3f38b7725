"""What an object of the cell is: looks, collision shapes, weight, outline.

An object's frame has z up and its origin at the centre of the base.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.sim.shapes import Mesh


@dataclass(frozen=True, eq=False)
class Part:
    """A mesh with its texture ((H, W, 3) uint8 sRGB) and gloss in [0, 1]."""

    mesh: Mesh
    texture: NDArray[np.uint8]
    gloss: float = 0.15


@dataclass(frozen=True)
class Collider:
    """What physics sees: "box" (half edges), "cylinder" (radius, half height) or "sphere".

    ``yaw`` [rad] rotates it about z before it is moved to ``position``.
    """

    kind: str
    size: tuple[float, ...]
    position: tuple[float, float, float]
    yaw: float = 0.0


@dataclass(frozen=True, eq=False)
class Prop:
    """An object of the cell.

    Attributes:
        name: unique.
        parts: what is seen.
        colliders: what touches.
        mass: kg.
        footprint: (P, 2) convex outline seen from above, counter-clockwise [m].
        height: m.
        top_radius: radius of the flat area that another object can stand on [m]; 0 = none.
        hollow_radius: radius of the object that fits inside [m]; 0 = none fits.
        leans: whether it may lean on another (flat things).
    """

    name: str
    parts: tuple[Part, ...]
    colliders: tuple[Collider, ...]
    mass: float
    footprint: NDArray[np.float64]
    height: float
    top_radius: float = 0.0
    hollow_radius: float = 0.0
    leans: bool = False

    @property
    def rolls(self) -> bool:
        """Whether it stays only where something supports it."""
        return all(collider.kind == "sphere" for collider in self.colliders)

    @property
    def radius(self) -> float:
        """Radius of the circle about the footprint [m]."""
        return float(np.linalg.norm(self.footprint, axis=1).max())


def rectangle(x: float, y: float) -> NDArray[np.float64]:
    """(4, 2) outline of edges ``x`` and ``y``."""
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]]) / 2.0


def circle(radius: float) -> NDArray[np.float64]:
    """(16, 2) outline of a circle."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
