"""Where objects are put before physics takes over: apart, touching, stacked, leaning, nested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.sim.prop import Prop

REGION = (0.22, 0.16)
"""Half extents [m] of the part of the table that objects' centres lie in."""


@dataclass(frozen=True, eq=False)
class Placement:
    """A start pose and how it was chosen: "free", "beside", "on", "in" or "leaning"."""

    world_from_object: NDArray[np.float64]
    relation: str
    partner: str = ""


def polygon_gap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest separation of two convex polygons (P, 2) over their edge normals; < 0 = overlap.

    The separating axis theorem; between two corners it is a lower bound of the distance.
    """
    gap = -np.inf
    for first, second in ((a, b), (b, a)):
        edge = np.roll(first, -1, axis=0) - first
        normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        extent = (first * normal).sum(axis=1)
        gap = max(gap, float(((second @ normal.T).min(axis=0) - extent).max()))
    return gap


def _outline(prop: Prop, yaw: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    c, s = np.cos(yaw), np.sin(yaw)
    return prop.footprint @ np.array([[c, s], [-s, c]]) + centre


def _upright(centre: NDArray[np.float64], height: float, yaw: float) -> NDArray[np.float64]:
    return make_transform(rotation_from_vector([0.0, 0.0, yaw]), [*centre, height])


class _Table:
    """What stands where so far."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.outlines: list[tuple[Prop, NDArray[np.float64]]] = []
        self.taken: set[str] = set()

    def gap(self, outline: NDArray[np.float64], partner: NDArray | None = None) -> float:
        """To what stands there, except for a partner."""
        others = [other for _, other in self.outlines if other is not partner]
        return min((polygon_gap(outline, other) for other in others), default=np.inf)

    def free(self, prop: Prop) -> Placement | None:
        yaw = self.rng.uniform(-np.pi, np.pi)
        centre = self.rng.uniform(-1.0, 1.0, 2) * REGION
        outline = _outline(prop, yaw, centre)
        if self.gap(outline) < 0.03:
            return None
        self.outlines.append((prop, outline))
        return Placement(_upright(centre, 0.001, yaw), "free")

    def beside(self, prop: Prop) -> Placement | None:
        partner, partner_outline = self.outlines[self.rng.integers(len(self.outlines))]
        yaw, bearing = self.rng.uniform(-np.pi, np.pi, 2)
        if len(prop.footprint) == 4 and len(partner.footprint) == 4:
            # Flush: shelved boxes stand face to face.
            side = partner_outline[1] - partner_outline[0]
            yaw = np.arctan2(side[1], side[0]) + self.rng.choice([0.0, np.pi])
            bearing = yaw + self.rng.choice([-1.0, 1.0]) * np.pi / 2
        heading = np.array([np.cos(bearing), np.sin(bearing)])
        start = partner_outline.mean(axis=0)
        low, high = 0.0, 0.5
        for _ in range(30):
            middle = 0.5 * (low + high)
            outline = _outline(prop, yaw, start + middle * heading)
            if polygon_gap(outline, partner_outline) > 0.0004:
                high = middle
            else:
                low = middle
        centre = start + high * heading
        outline = _outline(prop, yaw, centre)
        if self.gap(outline, partner_outline) < 0.004 or (np.abs(centre) > REGION).any():
            return None
        self.outlines.append((prop, outline))
        return Placement(_upright(centre, 0.001, yaw), "beside", partner.name)

    def partner(self, fits: Callable[[Prop], bool]) -> tuple[Prop, NDArray[np.float64]] | None:
        """One of those that fit, by chance, and its outline."""
        able = [(other, outline) for other, outline in self.outlines if fits(other)]
        return able[self.rng.integers(len(able))] if able else None

    def supported(self, relation: str, fits: Callable[[Prop], bool]) -> Placement | None:
        """On or in one of those that fit and support nothing yet."""
        found = self.partner(lambda other: other.name not in self.taken and fits(other))
        if found is None:
            return None
        partner, outline = found
        self.taken.add(partner.name)
        centre, height = outline.mean(axis=0), 0.3 * partner.height
        if relation == "on":
            centre += self.rng.uniform(-1.0, 1.0, 2) * 0.25 * partner.top_radius
            height = partner.height + 0.002
        pose = _upright(centre, height, self.rng.uniform(-np.pi, np.pi))
        return Placement(pose, relation, partner.name)

    def on_top(self, prop: Prop) -> Placement | None:
        if prop.height > 0.12 or prop.rolls:
            return None
        return self.supported(
            "on", lambda other: other.top_radius >= 0.85 * prop.radius and other.height < 0.16
        )

    def inside(self, prop: Prop) -> Placement | None:
        return self.supported(
            "in",
            lambda other: other.hollow_radius >= prop.radius and prop.height <= 1.5 * other.height,
        )

    def leaning(self, prop: Prop, tilt: float) -> Placement | None:
        found = self.partner(lambda other: len(other.footprint) == 4 and other.height > 0.14)
        if found is None:
            return None
        partner, outline = found
        # The longest side of the partner is the wall.
        sides = np.roll(outline, -1, axis=0) - outline
        lengths = np.linalg.norm(sides, axis=1)
        longest = np.flatnonzero(lengths > 0.9 * lengths.max())
        side = int(self.rng.choice(longest))
        along = sides[side] / lengths[side]
        outwards = np.array([along[1], -along[0]])
        width, tall, thick = *np.ptp(prop.footprint, axis=0), prop.height
        # The object's z (thickness) points away from the wall and up, its y up along the wall.
        z = np.array([*(np.cos(tilt) * outwards), np.sin(tilt)])
        x = np.array([*(-along), 0.0])
        y = np.cross(z, x)
        if y[2] < 0:
            x, y = -x, -y
        middle = outline[side] + 0.5 * sides[side]
        corner = np.array([*(middle + outwards * (tall * np.sin(tilt) + 0.001)), 0.0])
        # The edge on the table is the lower back edge (y = -tall/2, z = 0) or the lower front one.
        origin = corner + y * tall / 2 + np.array([0, 0, max(0.0, -thick * z[2]) + 0.001])
        pose = make_transform(np.stack([x, y, z], axis=1), origin)
        depth = tall * np.sin(tilt) + thick
        start = outline[side] + sides[side] / 2 - along * width / 2
        out = start + outwards * depth
        area = np.array([start, out, out + along * width, start + along * width])
        if self.gap(area, outline) < 0.01 or (np.abs(area.mean(axis=0)) > REGION).any():
            return None
        self.outlines.append((prop, area))
        self.taken.add(prop.name)
        return Placement(pose, "leaning", partner.name)


def place(props: Sequence[Prop], rng: np.random.Generator) -> list[Placement] | None:
    """Start poses of all objects, or None when this draw had no room for one of them.

    The first object stands alone; the others are put next to, on, in or against what is there, or
    apart. Physics then decides how they come to rest.
    """
    table = _Table(rng)
    placements = []
    for prop in props:
        for _ in range(200):
            placement = _try(table, prop, rng) if placements else table.free(prop)
            if placement is not None:
                placements.append(placement)
                break
        else:
            return None
    return placements


def _try(table: _Table, prop: Prop, rng: np.random.Generator) -> Placement | None:
    draw = rng.random()
    if prop.leans and draw < 0.7:
        return table.leaning(prop, np.radians(rng.uniform(10.0, 20.0)))
    if draw < 0.30:
        return table.inside(prop)
    if draw < 0.45:
        return table.on_top(prop)
    if draw < 0.8:
        return table.beside(prop)
    return table.free(prop)
