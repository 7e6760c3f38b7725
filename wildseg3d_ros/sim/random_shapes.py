"""Random things: boxes, vessels, tools, blobs; what is seen of them and what physics feels.

All shapes are in metres, with the origin at the centre of their bounding box, and as large as
asked for along their longest axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.sim import random_vessels as vessels
from wildseg3d_ros.sim.random_body import (
    SEGMENTS,
    Piece,
    Shape,
    Solid,
    at_pose,
    box_solid,
    centred,
)
from wildseg3d_ros.sim.random_meshes import box_mesh, bumpy, hull_mesh, posed, superellipsoid
from wildseg3d_ros.sim.shapes import arc, disc, join, lathe, tube

Make = Callable[[np.random.Generator, float], Shape]


def _one_box(kind: str, size: NDArray) -> Shape:
    return Shape(kind, (Piece(box_mesh(size), "box"),), (box_solid(size),))


def _box(rng: np.random.Generator, size: float) -> Shape:
    return _one_box("box", size * np.array([1.0, rng.uniform(0.35, 1.0), rng.uniform(0.2, 1.0)]))


def _cube(rng: np.random.Generator, size: float) -> Shape:
    return _one_box("cube", np.full(3, min(size, 0.12)) * rng.uniform(0.95, 1.0, 3))


def _sheet(rng: np.random.Generator, size: float) -> Shape:
    edges = [size, size * rng.uniform(0.4, 1.0), rng.uniform(0.0015, 0.012)]
    return _one_box("sheet", np.array(edges))


def _book(rng: np.random.Generator, size: float) -> Shape:
    tall, wide = size, size * rng.uniform(0.62, 0.8)
    thick, cover = size * rng.uniform(0.05, 0.25), 0.0015 + 0.006 * size
    margin = 0.015 * size
    pages = box_mesh([wide - 2 * margin, tall - 2 * margin, thick - 2 * cover])
    board = box_mesh([wide, tall, cover])
    boards = [board.moved([0, 0, s * (thick - cover) / 2]) for s in (-1, 1)]
    spine = box_mesh([cover, tall, thick]).moved([-(wide - cover) / 2, 0, 0])
    pieces = Piece(join([*boards, spine]), "box"), Piece(pages, "box")
    return Shape("book", pieces, (box_solid([wide, tall, thick]),))


def _cylinder(rng: np.random.Generator, size: float) -> Shape:
    aspect = rng.uniform(0.3, 1.0) if rng.random() < 0.75 else rng.uniform(1.0, 3.0)
    height = size if aspect < 1 else size / aspect
    return _turned_solid("cylinder", aspect * height / 2, height)


def _turned_solid(kind: str, radius: float, height: float) -> Shape:
    half = height / 2
    mesh = lathe(
        [
            disc(radius, -half, False, (0.97, 1.0)),
            ([(radius, -half), (radius, half)], (0.97, 0.15)),
            disc(radius, half, True, (0.15, 0.0)),
        ],
        SEGMENTS,
    )
    return Shape(kind, (Piece(mesh, "round"),), (Solid("cylinder", (radius, half), np.eye(4)),))


def _sphere(rng: np.random.Generator, size: float) -> Shape:
    radius = min(size, 0.16) / 2
    mesh = superellipsoid([radius] * 3, 1.0, 1.0)
    return Shape(
        "sphere", (Piece(mesh, "round"),), (Solid("ellipsoid", (radius,) * 3, np.eye(4)),)
    )


def _capsule(rng: np.random.Generator, size: float) -> Shape:
    radius = size * rng.uniform(0.12, 0.35)
    half = size / 2 - radius
    mesh = lathe(
        [
            (arc((0, -half), radius, -90, 0, 7), (1.0, 0.8)),
            ([(radius, -half), (radius, half)], (0.8, 0.2)),
            (arc((0, half), radius, 0, 90, 7), (0.2, 0.0)),
        ],
        SEGMENTS,
    )
    solid = Solid("capsule", (radius, half), np.eye(4))
    return Shape("capsule", (Piece(mesh, "round"),), (solid,))


def _super(rng: np.random.Generator, half: NDArray) -> tuple[Piece, Solid]:
    vertical, across = rng.uniform(0.2, 1.5, 2)
    mesh = superellipsoid(half, vertical, across)
    coarse = superellipsoid(half, vertical, across, 6).vertices
    return Piece(mesh, "round"), Solid("hull", (), np.eye(4), coarse)


def _pillow(rng: np.random.Generator, size: float) -> Shape:
    """A smooth convex body: soap, fruit, pouch."""
    half = size / 2 * np.array([1.0, rng.uniform(0.4, 1.0), rng.uniform(0.25, 0.9)])
    piece, solid = _super(rng, half)
    return Shape("pillow", (piece,), (solid,))


def _pouch(rng: np.random.Generator, size: float) -> Shape:
    """A bag with dents and folds: one thing, not convex."""
    half = size / 2 * np.array([1.0, rng.uniform(0.5, 0.9), rng.uniform(0.2, 0.5)])
    smooth = superellipsoid(half, rng.uniform(0.5, 1.0), rng.uniform(0.3, 0.9), 20)
    mesh = bumpy(smooth, size * rng.uniform(0.008, 0.025), size * rng.uniform(0.25, 0.6), rng)
    solid = Solid("hull", (), np.eye(4), mesh.vertices[::7])
    return centred("pouch", [Piece(mesh, "round")], [solid])


def _bracket(rng: np.random.Generator, size: float) -> Shape:
    """Two or three boards at right angles: an angle, a channel, a step, a T."""
    x, y = size, size * rng.uniform(0.3, 0.8)
    tall, thick = size * rng.uniform(0.3, 0.9), size * rng.uniform(0.04, 0.25)
    boards = [([x, y, thick], (0.0, 0.0, thick / 2))]
    ends = [(x - thick) / 2, rng.choice([-1, 1]) * (x - thick) / 2, 0.0]
    ends = ends[: int(rng.integers(1, 3))] if rng.random() < 0.8 else ends[2:]
    upright = [thick, y, tall - thick]
    boards += [(upright, (at, 0.0, (tall + thick) / 2)) for at in sorted(set(ends))]
    mesh = join([box_mesh(edges).moved(at) for edges, at in boards])
    solids = [box_solid(edges, at_pose(*at)) for edges, at in boards]
    return centred("bracket", [Piece(mesh, "box")], solids)


def _rock_part(rng: np.random.Generator, half: NDArray) -> tuple[Piece, Solid]:
    points = rng.standard_normal((int(rng.integers(9, 28)), 3))
    points *= half / np.linalg.norm(points, axis=1, keepdims=True)
    return Piece(hull_mesh(points), "box"), Solid("hull", (), np.eye(4), points)


def _rock(rng: np.random.Generator, size: float) -> Shape:
    """A convex body with flat facets."""
    piece, solid = _rock_part(rng, size / 2 * rng.uniform(0.4, 1.0, 3))
    return centred("rock", [piece], [solid])


def _compound(rng: np.random.Generator, size: float) -> Shape:
    """Two to four convex bodies that grew together: one thing, not convex."""
    pieces, solids, centre = [], [], np.zeros(3)
    count = int(rng.integers(2, 5))
    reach = 0.0
    for _ in range(count):
        half = size * rng.uniform(0.12, 0.32, 3)
        piece, solid = (_rock_part if rng.random() < 0.35 else _super)(rng, half)
        step = rng.standard_normal(3)
        step /= np.linalg.norm(step)
        near = float(np.min(half)) * 0.9
        centre = centre + (reach + near) * step * bool(pieces)
        reach = near
        pose = at_pose(*centre, turn=rng.uniform(-1, 1, 3) * rng.choice([0.0, 1.5]))
        pieces.append(replace(piece, mesh=posed(piece.mesh, pose)))
        solids.append(replace(solid, pose=pose))
    return centred("compound", pieces, solids)


def _rod(rng: np.random.Generator, size: float) -> Shape:
    """A pen, a dowel, a stick: thin."""
    length = max(size, 0.07)
    return _turned_solid("rod", max(0.002, length * rng.uniform(0.015, 0.05)), length)


def _bend(rng: np.random.Generator, size: float) -> Shape:
    """A thick line along an arc: banana, hook, hose."""
    opening = rng.uniform(0.6, 3.6)
    radius = size / (2 * np.sin(min(opening, np.pi) / 2))
    thick = size * rng.uniform(0.03, 0.12)
    angle = np.linspace(-opening / 2, opening / 2, 16)
    path = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=1)
    ends = [superellipsoid([thick] * 3, 1, 1, 8).moved(path[k]) for k in (0, -1)]
    mesh = join([tube(path, thick, 10), *ends])
    solids = []
    for start, stop in zip(path[:-1:3], path[3::3], strict=True):
        step = stop - start
        pose = at_pose(*(0.5 * (start + stop)), turn=(0, 0, np.arctan2(step[1], step[0])))
        pose = pose @ at_pose(turn=(0, np.pi / 2, 0))
        solids.append(Solid("capsule", (thick, float(np.linalg.norm(step)) / 2), pose))
    return centred("bend", [Piece(mesh, "round")], solids)


def _tool(rng: np.random.Generator, size: float) -> Shape:
    """A handle with a head: hammer, spoon, spatula, screwdriver, brush."""
    length = max(size, 0.09)
    reach = length * rng.uniform(0.5, 0.75)
    grip = length * rng.uniform(0.02, 0.06)
    handle = superellipsoid(
        [grip, grip * rng.uniform(0.6, 1.0), reach / 2], 0.25, rng.uniform(0.4, 1)
    )
    along = at_pose(turn=(0, np.pi / 2, 0))
    pieces = [Piece(posed(handle, along), "round")]
    solids = [box_solid([reach, 1.6 * grip, 1.6 * grip])]
    head = length - reach
    style = rng.integers(4)
    wide = grip * rng.uniform(1.5, 4.0)
    half = {
        0: np.array([head / 2, wide, max(0.001, 0.2 * grip)]),  # blade
        1: np.array([head / 2, wide, 0.7 * grip]),  # spoon, brush
        2: np.array([head / 2, 0.35 * grip, 0.35 * grip]),  # shaft
        3: np.array([min(head / 2, 1.6 * grip), 2 * wide, 1.5 * grip]),  # hammer
    }[int(style)]
    at = at_pose(reach / 2 + half[0] - 0.05 * head)
    mesh = superellipsoid(half, 1.0, 1.0) if style == 1 else box_mesh(2 * half)
    pieces.append(Piece(posed(mesh, at), "round" if style == 1 else "box"))
    solids.append(box_solid(2 * half * (0.85 if style == 1 else 1.0), at))
    return centred("tool", pieces, solids)


SHAPES: dict[str, tuple[Make, float]] = {
    "box": (_box, 3.0),
    "cube": (_cube, 1.0),
    "sheet": (_sheet, 1.2),
    "book": (_book, 1.2),
    "cylinder": (_cylinder, 1.8),
    "bottle": (vessels.bottle, 1.5),
    "mug": (vessels.mug, 1.3),
    "bowl": (vessels.bowl, 1.2),
    "plate": (vessels.plate, 0.7),
    "roll": (vessels.roll, 0.7),
    "carton": (vessels.carton, 0.6),
    "sphere": (_sphere, 0.8),
    "capsule": (_capsule, 0.6),
    "pillow": (_pillow, 1.6),
    "pouch": (_pouch, 1.0),
    "bracket": (_bracket, 0.6),
    "rock": (_rock, 1.0),
    "compound": (_compound, 1.6),
    "rod": (_rod, 0.8),
    "bend": (_bend, 0.7),
    "tool": (_tool, 1.2),
}
"""Kinds, each with its maker and how often it is drawn."""


def random_shape(rng: np.random.Generator, size: float) -> Shape:
    """A shape of a random kind whose longest extent is about ``size`` [m]."""
    weights = np.array([weight for _, weight in SHAPES.values()])
    kind = str(rng.choice(list(SHAPES), p=weights / weights.sum()))
    return SHAPES[kind][0](rng, size)
