"""Random things that are lathed or hollow: bottles, bowls, mugs, plates, rolls, cartons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.sim.random_body import (
    SEGMENTS,
    Piece,
    Shape,
    Solid,
    at_pose,
    box_solid,
    centred,
)
from wildseg3d_ros.sim.random_meshes import box_mesh
from wildseg3d_ros.sim.shapes import Mesh, arc, disc, join, lathe, tube

CAP = 0.2
"""Share of a bottle's texture, from the top, that lies on its cap."""


def bottle(rng: np.random.Generator, size: float) -> Shape:
    """A bottle that stands, its cap the first :data:`CAP` of the texture."""
    radius = size * rng.uniform(0.13, 0.28)
    neck, body = radius * rng.uniform(0.25, 0.6), size * rng.uniform(0.5, 0.75)
    shoulder = body + (size - body) * rng.uniform(0.2, 0.7)
    cap = neck * rng.uniform(1.05, 1.4)
    bend = np.linspace(0, np.pi, 8)
    slope = np.stack(
        [
            neck + (radius - neck) * (0.5 + 0.5 * np.cos(bend)),
            body + (shoulder - body) * bend / np.pi,
        ],
        axis=1,
    )
    low = shoulder + 0.3 * (size - shoulder)
    mesh = lathe(
        [
            disc(radius, 0.0, False, (0.98, 1.0)),
            ([(radius, 0.0), (radius, body)], (0.98, 0.4)),
            (slope, (0.4, 0.25)),
            ([(neck, shoulder), (neck, low)], (0.25, CAP + 0.01)),
            ([(neck, low), (cap, low)], (CAP - 0.01, CAP - 0.02)),
            ([(cap, low), (cap, size)], (CAP - 0.02, 0.03)),
            disc(cap, size, True, (0.03, 0.0)),
        ],
        SEGMENTS,
    )
    middle = 0.5 * (body + shoulder)
    solids = (
        Solid("cylinder", (radius, middle / 2), at_pose(z=middle / 2)),
        Solid("cylinder", (cap, (size - middle) / 2), at_pose(z=(size + middle) / 2)),
    )
    return centred("bottle", [Piece(mesh, "round")], solids)


def _vessel(profile: NDArray, wall: float) -> tuple[Mesh, list[Solid]]:
    """A lathed vessel of thickness ``wall`` [m], and the boxes that make up its wall and floor.

    ``profile`` (P, 2) is the outside from the edge of the floor to the rim, radius and height.
    """
    inner = profile[::-1] - [wall, 0.0]
    inner[-1, 1] += wall
    rim = profile[-1] - [wall / 2, 0.0]
    mesh = lathe(
        [
            ([(1e-6, profile[0, 1]), profile[0]], (0.97, 1.0)),
            (profile, (0.97, 0.3)),
            (arc((rim[0], rim[1]), wall / 2, 0, 180, 5), (0.3, 0.28)),
            (inner, (0.28, 0.05)),
            ([inner[-1], (1e-6, inner[-1, 1])], (0.05, 0.0)),
        ],
        SEGMENTS,
    )
    floor = Solid(
        "cylinder", (float(inner[-1, 0]) + wall, wall / 2), at_pose(z=profile[0, 1] + wall / 2)
    )
    return mesh, [floor, *_ring_solids(profile, max(wall, 0.004))]


def _ring_solids(profile: NDArray, wall: float, sides: int = 10) -> list[Solid]:
    """Boxes along a vessel's wall: ``sides`` around, one or two up."""
    solids = []
    steps = [0, len(profile) // 2, len(profile) - 1] if len(profile) > 3 else [0, len(profile) - 1]
    for start, stop in pairwise(steps):
        (r0, z0), (r1, z1) = profile[start], profile[stop]
        slant, length = np.arctan2(r1 - r0, z1 - z0), np.hypot(r1 - r0, z1 - z0)
        radius = 0.5 * (r0 + r1) - wall / 2 * np.cos(slant)
        height = 0.5 * (z0 + z1) + wall / 2 * np.sin(slant)
        width = max(r0, r1) * np.tan(np.pi / sides)
        lean = at_pose(radius, 0, height, (0, slant, 0))
        for angle in np.linspace(0, 2 * np.pi, sides, endpoint=False):
            pose = at_pose(turn=(0, 0, angle)) @ lean
            solids.append(Solid("box", (wall / 2, width, length / 2), pose))
    return solids


def bowl(rng: np.random.Generator, size: float) -> Shape:
    """A bowl of even thickness."""
    radius, height = size / 2, size * rng.uniform(0.25, 0.5)
    foot = radius * rng.uniform(0.35, 0.6)
    angle = np.linspace(0, np.pi / 2, 9)
    profile = np.stack(
        [foot + (radius - foot) * np.sin(angle), height * (1 - np.cos(angle))], axis=1
    )
    mesh, solids = _vessel(profile, max(0.002, size * rng.uniform(0.015, 0.04)))
    return centred("bowl", [Piece(mesh, "round")], solids, hollow=True)


def plate(rng: np.random.Generator, size: float) -> Shape:
    """A plate with a raised rim."""
    radius, height = size / 2, size * rng.uniform(0.05, 0.12)
    foot = radius * rng.uniform(0.55, 0.75)
    profile = np.array([(foot, 0.0), (0.5 * (foot + radius), 0.3 * height), (radius, height)])
    mesh, solids = _vessel(profile, max(0.002, 0.015 * size))
    return centred("plate", [Piece(mesh, "round")], solids, hollow=True)


def mug(rng: np.random.Generator, size: float) -> Shape:
    """A mug with a handle, as wide at the foot as at the rim or narrower."""
    height = min(size, 0.14)
    radius = height * rng.uniform(0.32, 0.5)
    foot = radius * rng.uniform(0.75, 1.05)
    profile = np.array([(foot, 0.0), (radius, height)])
    mesh, solids = _vessel(profile, max(0.002, 0.04 * height))
    bow, thick = 0.33 * height, 0.06 * height * rng.uniform(0.7, 1.4)
    angle = np.radians(np.linspace(-105, 105, 14))
    reach = bow * rng.uniform(0.7, 1.1)
    start = 0.5 * (foot + radius) - 0.02 * height
    path = np.stack(
        [start + reach * np.cos(angle), 0 * angle, height / 2 + bow * np.sin(angle)], axis=1
    )
    handle = tube(path, thick, 8)
    size_of_handle = (reach / 2, thick, bow)
    solids.append(Solid("box", size_of_handle, at_pose(start + reach / 2, 0, height / 2)))
    return centred("mug", [Piece(mesh, "round"), Piece(handle, "round")], solids, hollow=True)


def roll(rng: np.random.Generator, size: float) -> Shape:
    """A ring: a roll of tape, a gasket."""
    radius, height = size / 2, size * rng.uniform(0.12, 0.6)
    hole = radius * rng.uniform(0.4, 0.8)
    mesh = lathe(
        [
            ([(hole, 0.0), (radius, 0.0)], (0.95, 1.0)),
            ([(radius, 0.0), (radius, height)], (0.95, 0.5)),
            ([(radius, height), (hole, height)], (0.5, 0.2)),
            ([(hole, height), (hole, 0.0)], (0.2, 0.0)),
        ],
        SEGMENTS,
    )
    solids = _ring_solids(np.array([(radius, 0.0), (radius, height)]), radius - hole, 8)
    return centred("roll", [Piece(mesh, "round")], solids)


def carton(rng: np.random.Generator, size: float) -> Shape:
    """A box without a lid."""
    x, y, z = size, size * rng.uniform(0.6, 1.0), size * rng.uniform(0.25, 0.7)
    wall = max(0.002, 0.02 * size)
    boards = [([x, y, wall], (0.0, 0.0, wall / 2))]
    for s in (-1, 1):
        boards.append(([x, wall, z], (0.0, s * (y - wall) / 2, z / 2)))
        boards.append(([wall, y - 2 * wall, z], (s * (x - wall) / 2, 0.0, z / 2)))
    mesh = join([box_mesh(edges).moved(at) for edges, at in boards])
    solids = [box_solid(edges, at_pose(*at)) for edges, at in boards]
    return centred("carton", [Piece(mesh, "box")], solids, hollow=True)
