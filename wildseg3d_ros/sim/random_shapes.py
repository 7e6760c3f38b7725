"""Random things: boxes, vessels, tools, blobs; what is seen of them and what physics feels.

All shapes are in metres, with the origin at the centre of their bounding box, and as large as
asked for along their longest axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.sim.random_meshes import box_mesh, hull_mesh, posed, superellipsoid
from wildseg3d_ros.sim.shapes import Mesh, arc, disc, join, lathe, tube

Layout = Literal["box", "round"]
"""How a texture lies on a mesh: "box" has six cells (:mod:`~wildseg3d_ros.sim.random_meshes`), and
"round" goes around (u) and from the top down (v)."""

CAP = 0.2
"""Share of a bottle's texture, from the top, that lies on its cap."""
_SEGMENTS = 28
"""Facets around a round thing: more are not seen in small pictures."""


@dataclass(frozen=True, eq=False)
class Solid:
    """A convex body that physics feels.

    Attributes:
        kind: "box" (half edges), "cylinder" or "capsule" (radius, half length along z),
            "ellipsoid" (half axes), or "hull" of ``points``.
        size: [m].
        pose: (4, 4) in the shape's frame.
        points: (P, 3) corners of a hull in its own frame.
    """

    kind: str
    size: tuple[float, ...]
    pose: NDArray[np.float64]
    points: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Piece:
    """A mesh and how a texture lies on it."""

    mesh: Mesh
    layout: Layout


@dataclass(frozen=True, eq=False)
class Shape:
    """A thing without colours.

    Attributes:
        kind: key of :data:`SHAPES`.
        pieces: what is seen, each with a texture of its own.
        solids: what is felt.
        hollow: whether something can lie in it when it stands upright.
    """

    kind: str
    pieces: tuple[Piece, ...]
    solids: tuple[Solid, ...]
    hollow: bool = False

    @property
    def points(self) -> NDArray[np.float64]:
        """(P, 3) vertices of all pieces."""
        return np.concatenate([piece.mesh.vertices for piece in self.pieces])


# ---- one function per kind -------------------------------------------------------------------

Make = Callable[[np.random.Generator, float], Shape]


def _centred(kind: str, pieces: Sequence[Piece], solids: Sequence[Solid], hollow=False) -> Shape:
    points = np.concatenate([piece.mesh.vertices for piece in pieces])
    shift = -0.5 * (points.min(axis=0) + points.max(axis=0))
    move = make_transform(np.eye(3), shift)
    return Shape(
        kind,
        tuple(replace(piece, mesh=piece.mesh.moved(shift)) for piece in pieces),
        tuple(replace(solid, pose=move @ solid.pose) for solid in solids),
        hollow,
    )


def _at(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: ArrayLike = (0, 0, 0)) -> NDArray:
    """(4, 4) pose from a position [m] and a rotation vector [rad]."""
    return make_transform(rotation_from_vector(turn), [x, y, z])


def _box_solid(size: ArrayLike, pose: NDArray | None = None) -> Solid:
    half = np.asarray(size, dtype=np.float64) / 2
    return Solid("box", tuple(half), np.eye(4) if pose is None else pose)


def _one_box(kind: str, size: NDArray) -> Shape:
    return Shape(kind, (Piece(box_mesh(size), "box"),), (_box_solid(size),))


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
    return Shape("book", pieces, (_box_solid([wide, tall, thick]),))


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
        _SEGMENTS,
    )
    return Shape(kind, (Piece(mesh, "round"),), (Solid("cylinder", (radius, half), np.eye(4)),))


def _bottle(rng: np.random.Generator, size: float) -> Shape:
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
        _SEGMENTS,
    )
    middle = 0.5 * (body + shoulder)
    solids = (
        Solid("cylinder", (radius, middle / 2), _at(z=middle / 2)),
        Solid("cylinder", (cap, (size - middle) / 2), _at(z=(size + middle) / 2)),
    )
    return _centred("bottle", [Piece(mesh, "round")], solids)


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
        _SEGMENTS,
    )
    floor = Solid(
        "cylinder", (float(inner[-1, 0]) + wall, wall / 2), _at(z=profile[0, 1] + wall / 2)
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
        lean = _at(radius, 0, height, (0, slant, 0))
        for angle in np.linspace(0, 2 * np.pi, sides, endpoint=False):
            pose = _at(turn=(0, 0, angle)) @ lean
            solids.append(Solid("box", (wall / 2, width, length / 2), pose))
    return solids


def _bowl(rng: np.random.Generator, size: float) -> Shape:
    radius, height = size / 2, size * rng.uniform(0.25, 0.5)
    foot = radius * rng.uniform(0.35, 0.6)
    angle = np.linspace(0, np.pi / 2, 9)
    profile = np.stack(
        [foot + (radius - foot) * np.sin(angle), height * (1 - np.cos(angle))], axis=1
    )
    mesh, solids = _vessel(profile, max(0.002, size * rng.uniform(0.015, 0.04)))
    return _centred("bowl", [Piece(mesh, "round")], solids, hollow=True)


def _plate(rng: np.random.Generator, size: float) -> Shape:
    radius, height = size / 2, size * rng.uniform(0.05, 0.12)
    foot = radius * rng.uniform(0.55, 0.75)
    profile = np.array([(foot, 0.0), (0.5 * (foot + radius), 0.3 * height), (radius, height)])
    mesh, solids = _vessel(profile, max(0.002, 0.015 * size))
    return _centred("plate", [Piece(mesh, "round")], solids, hollow=True)


def _mug(rng: np.random.Generator, size: float) -> Shape:
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
    solids.append(Solid("box", size_of_handle, _at(start + reach / 2, 0, height / 2)))
    return _centred("mug", [Piece(mesh, "round"), Piece(handle, "round")], solids, hollow=True)


def _roll(rng: np.random.Generator, size: float) -> Shape:
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
        _SEGMENTS,
    )
    solids = _ring_solids(np.array([(radius, 0.0), (radius, height)]), radius - hole, 8)
    return _centred("roll", [Piece(mesh, "round")], solids)


def _carton(rng: np.random.Generator, size: float) -> Shape:
    """A box without a lid."""
    x, y, z = size, size * rng.uniform(0.6, 1.0), size * rng.uniform(0.25, 0.7)
    wall = max(0.002, 0.02 * size)
    boards = [([x, y, wall], (0.0, 0.0, wall / 2))]
    for s in (-1, 1):
        boards.append(([x, wall, z], (0.0, s * (y - wall) / 2, z / 2)))
        boards.append(([wall, y - 2 * wall, z], (s * (x - wall) / 2, 0.0, z / 2)))
    mesh = join([box_mesh(edges).moved(at) for edges, at in boards])
    solids = [_box_solid(edges, _at(*at)) for edges, at in boards]
    return _centred("carton", [Piece(mesh, "box")], solids, hollow=True)


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
        _SEGMENTS,
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


def _rock_part(rng: np.random.Generator, half: NDArray) -> tuple[Piece, Solid]:
    points = rng.standard_normal((int(rng.integers(9, 28)), 3))
    points *= half / np.linalg.norm(points, axis=1, keepdims=True)
    return Piece(hull_mesh(points), "box"), Solid("hull", (), np.eye(4), points)


def _rock(rng: np.random.Generator, size: float) -> Shape:
    """A convex body with flat facets."""
    piece, solid = _rock_part(rng, size / 2 * rng.uniform(0.4, 1.0, 3))
    return _centred("rock", [piece], [solid])


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
        pose = _at(*centre, turn=rng.uniform(-1, 1, 3) * rng.choice([0.0, 1.5]))
        pieces.append(replace(piece, mesh=posed(piece.mesh, pose)))
        solids.append(replace(solid, pose=pose))
    return _centred("compound", pieces, solids)


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
        pose = _at(*(0.5 * (start + stop)), turn=(0, 0, np.arctan2(step[1], step[0])))
        pose = pose @ _at(turn=(0, np.pi / 2, 0))
        solids.append(Solid("capsule", (thick, float(np.linalg.norm(step)) / 2), pose))
    return _centred("bend", [Piece(mesh, "round")], solids)


def _tool(rng: np.random.Generator, size: float) -> Shape:
    """A handle with a head: hammer, spoon, spatula, screwdriver, brush."""
    length = max(size, 0.09)
    reach = length * rng.uniform(0.5, 0.75)
    grip = length * rng.uniform(0.02, 0.06)
    handle = superellipsoid(
        [grip, grip * rng.uniform(0.6, 1.0), reach / 2], 0.25, rng.uniform(0.4, 1)
    )
    along = _at(turn=(0, np.pi / 2, 0))
    pieces = [Piece(posed(handle, along), "round")]
    solids = [_box_solid([reach, 1.6 * grip, 1.6 * grip])]
    head = length - reach
    style = rng.integers(4)
    wide = grip * rng.uniform(1.5, 4.0)
    half = {
        0: np.array([head / 2, wide, max(0.001, 0.2 * grip)]),  # blade
        1: np.array([head / 2, wide, 0.7 * grip]),  # spoon, brush
        2: np.array([head / 2, 0.35 * grip, 0.35 * grip]),  # shaft
        3: np.array([min(head / 2, 1.6 * grip), 2 * wide, 1.5 * grip]),  # hammer
    }[int(style)]
    at = _at(reach / 2 + half[0] - 0.05 * head)
    mesh = superellipsoid(half, 1.0, 1.0) if style == 1 else box_mesh(2 * half)
    pieces.append(Piece(posed(mesh, at), "round" if style == 1 else "box"))
    solids.append(_box_solid(2 * half * (0.85 if style == 1 else 1.0), at))
    return _centred("tool", pieces, solids)


SHAPES: dict[str, tuple[Make, float]] = {
    "box": (_box, 3.0),
    "cube": (_cube, 1.0),
    "sheet": (_sheet, 1.2),
    "book": (_book, 1.2),
    "cylinder": (_cylinder, 1.8),
    "bottle": (_bottle, 1.5),
    "mug": (_mug, 1.3),
    "bowl": (_bowl, 1.2),
    "plate": (_plate, 0.7),
    "roll": (_roll, 0.7),
    "carton": (_carton, 0.6),
    "sphere": (_sphere, 0.8),
    "capsule": (_capsule, 0.6),
    "pillow": (_pillow, 1.6),
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
