"""What random things stand on and in, and where cameras look from: table, bin, shelf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.sim.cameras import Camera, bearing, look_at
from wildseg3d_ros.sim.random_layout import Region

SceneKind = Literal["table", "bin", "shelf"]
KINDS: dict[SceneKind, float] = {"table": 0.6, "bin": 0.2, "shelf": 0.2}
"""Kinds of scenes, each with its share."""
CLOSEST = 0.2
"""From a camera to the nearest thing, along its axis [m]."""
_FAR = 3.0
"""Half the extent of floors and walls that end in no picture [m]."""


@dataclass(frozen=True, eq=False)
class Slab:
    """A box that stands still: edges [m], (4, 4) pose, which texture, and its period [m]."""

    size: tuple[float, float, float]
    pose: NDArray[np.float64]
    texture: int
    tile: float


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What does not move.

    Attributes:
        kind: of the scene.
        slabs: all of it; none is an object.
        region: where things start.
        azimuth: (low, high) of where cameras may stand, 0 is -y [rad].
        elevation: (low, high) of how far they look down [rad].
    """

    kind: SceneKind
    slabs: tuple[Slab, ...]
    region: Region
    azimuth: tuple[float, float]
    elevation: tuple[float, float]


TEXTURES = 4
"""How many different textures slabs have at most; :attr:`Slab.texture` is below it."""


class _Builder:
    """Collects slabs."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.slabs: list[Slab] = []
        self.tiles = np.exp(rng.uniform(np.log(0.12), np.log(1.2), TEXTURES))

    def add(self, size, at, texture: int, turn=(0.0, 0.0, 0.0)) -> None:
        pose = make_transform(rotation_from_vector(turn), at)
        x, y, z = (float(edge) for edge in size)
        self.slabs.append(Slab((x, y, z), pose, texture, float(self.tiles[texture])))

    def board(self, x: float, y: float, top: float = 0.0, texture: int = 0) -> None:
        """A level board whose upper side is at ``top``."""
        self.add((x, y, 0.04), (0, 0, top - 0.02), texture)

    def walls(self, half: tuple[float, float], tall: float, thick: float, lean: float) -> None:
        """Four walls around ``half``, leaning outwards by ``lean`` [rad]."""
        (x, y), middle = half, tall / 2
        out = np.sin(lean) * middle + thick / 2
        wide, deep = 2 * (x + 2 * out), 2 * (y + 2 * out)
        for s in (-1, 1):
            self.add((wide, thick, tall), (0, s * (y + out), middle), 1, (-s * lean, 0, 0))
            self.add((thick, deep, tall), (s * (x + out), 0, middle), 1, (0, s * lean, 0))

    def room(self, floor: float, wall: float | None) -> None:
        """A floor at this height, and a wall behind at this distance."""
        self.board(2 * _FAR, 2 * _FAR, floor, 2)
        if wall is not None:
            tall = 2.5
            self.add((2 * _FAR, 0.05, tall), (0, wall, floor + tall / 2), 3)

    def clutter(self, start: float, floor: float) -> None:
        """Boxes behind, beyond ``start``, that are no objects of the scene."""
        for _ in range(int(self.rng.integers(2, 7))):
            size = self.rng.uniform(0.08, 0.7, 3)
            at = (
                self.rng.uniform(-1.2, 1.2),
                start + size[1] + self.rng.uniform(0.0, 0.6),
                floor + size[2] / 2,
            )
            turn = (0, 0, self.rng.uniform(-0.5, 0.5))
            self.add(size, at, int(self.rng.integers(TEXTURES)), turn)


def table(half: tuple[float, float], rng: np.random.Generator) -> Surroundings:
    """A table: now and then so large that it fills the views, or in front of a wall."""
    make = _Builder(rng)
    azimuth, elevation = (-np.pi, np.pi), (np.radians(18), np.radians(72))
    if rng.random() < 0.3:
        make.board(2 * _FAR, 2 * _FAR)
        if rng.random() < 0.4:
            make.clutter(half[1] + 0.35, 0.0)
            azimuth = (-1.6, 1.6)
        return Surroundings("table", tuple(make.slabs), Region(half), azimuth, elevation)
    x, y = (float(edge + rng.uniform(0.05, 0.5)) for edge in half)
    make.board(2 * x, 2 * y)
    if rng.random() < 0.7:
        floor = -rng.uniform(0.3, 0.9)
        behind = y + rng.uniform(0.05, 1.2) if rng.random() < 0.55 else None
        make.room(floor, behind)
        if behind is not None:
            azimuth = (-1.5, 1.5)
        elif rng.random() < 0.5:
            make.clutter(y + 0.1, floor)
    return Surroundings("table", tuple(make.slabs), Region(half), azimuth, elevation)


def tote(half: tuple[float, float], rng: np.random.Generator) -> Surroundings:
    """A bin on a table, seen from above."""
    make = _Builder(rng)
    tall, thick = rng.uniform(0.06, 0.24), rng.uniform(0.003, 0.012)
    make.walls(half, tall, thick, np.radians(rng.choice([0.0, rng.uniform(2, 8)])))
    make.board(2 * (half[0] + thick), 2 * (half[1] + thick), 0.0, 1)
    make.room(-rng.choice([0.004, rng.uniform(0.1, 0.8)]), None)
    steep = np.arctan2(tall, 2 * half[1]) + 0.35
    elevation = float(np.clip(steep, np.radians(40), np.radians(65))), np.radians(86)
    region = Region(half, walled=True)
    return Surroundings("bin", tuple(make.slabs), region, (-np.pi, np.pi), elevation)


def shelf(half: tuple[float, float], rng: np.random.Generator) -> Surroundings:
    """A compartment of a shelf, open to the front."""
    make = _Builder(rng)
    tall, thick = rng.uniform(0.22, 0.45), rng.uniform(0.008, 0.03)
    x, y = half
    below, above = rng.choice([0, 0.3, 1.0], 2)
    total, middle = tall + below + above, (tall + above - below) / 2
    sides = (-1, 1) if rng.random() < 0.75 else (int(rng.choice([-1, 1])),)
    for s in sides:
        make.add((thick, 2 * y, total), (s * (x + thick / 2), 0, middle), 1)
    wide = 2 * x + (2 * thick if rng.random() < 0.5 else 0.8)
    make.add((wide, thick, total), (0, y + thick / 2, middle), int(rng.choice([0, 1, 3])))
    for z in (-thick / 2, tall + thick / 2):
        make.add((wide, 2 * y, thick), (0, 0, z), 0)
    if rng.random() < 0.5:
        make.room(-rng.uniform(0.4, 1.2), y + rng.uniform(0.1, 1.0))
    region = Region(half, walled=True, ceiling=tall)
    span = rng.uniform(0.3, 0.75)
    return Surroundings("shelf", tuple(make.slabs), region, (-span, span), (-0.02, 0.5))


MAKERS = {"table": table, "bin": tote, "shelf": shelf}


def random_cameras(
    around: Surroundings, views: int, points: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Camera, ...]:
    """Cameras in an arc, a ring, close together, at two places, or along the sweep of a wrist.

    Args:
        around: says where they may stand.
        views: how many.
        points: (P, 3) of what they look at [m].
        rng: of all choices.
    """
    centre = np.median(points, axis=0)
    radius = float(np.quantile(np.linalg.norm(points - centre, axis=1), 0.9))
    azimuth = _azimuths(around.azimuth, views, rng)
    low, high = around.elevation
    vary = rng.uniform(0.0, 0.3)
    elevation = np.clip(rng.uniform(low, high) + vary * rng.uniform(-1, 1, views), low, high)
    fovy = np.radians(rng.uniform(38, 70))
    fit = radius / np.tan(fovy / 2) * rng.uniform(0.65, 1.55)
    distance = np.clip(fit * rng.uniform(0.88, 1.14, views), 0.35, 1.6)
    tilt = 0.45 if rng.random() < 0.15 else 0.05
    out = []
    for k in range(views):
        target = centre + rng.uniform(-0.2, 0.2, 3) * radius
        towards = bearing(azimuth[k], elevation[k])
        # Nothing is nearer than depth cameras see, and no camera is inside a thing.
        nearest = float(((points - target) @ towards).max())
        eye = target + max(distance[k], nearest + CLOSEST) * towards
        pose = look_at(eye, target, rng.uniform(-tilt, tilt))
        out.append(Camera(f"cam_{k}", pose, float(fovy)))
    return tuple(out)


def _azimuths(
    limits: tuple[float, float], views: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(views,) where cameras stand [rad]."""
    low, high = limits
    whole = high - low > 6.0
    close = rng.uniform(0.1, 0.5)
    spans = {"arc": np.pi, "ring": 2 * np.pi, "sweep": 1.8, "close": close, "two": 4 * close}
    style = str(rng.choice(list(spans), p=[0.33, 0.28, 0.23, 0.08, 0.08]))
    span = min(high - low, spans[style])
    slack = 0.5 * (high - low - span)
    middle = 0.5 * (low + high) + rng.uniform(-slack, slack)
    steps = np.linspace(-0.5, 0.5, views, endpoint=not (style == "ring" and whole))
    if style == "two":
        steps = np.where(np.arange(views) % 2, 0.5, -0.5)
    spread = 0.02 if style == "close" else 0.05
    return middle + span * steps + rng.normal(0.0, spread, views)
