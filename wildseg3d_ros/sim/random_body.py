"""What a random thing is made of: meshes that are seen, convex bodies that physics feels.

All shapes are in metres, with the origin at the centre of their bounding box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.sim.shapes import Mesh

Layout = Literal["box", "round"]
"""How a texture lies on a mesh: "box" has six cells (:mod:`~wildseg3d_ros.sim.random_meshes`), and
"round" goes around (u) and from the top down (v)."""

SEGMENTS = 28
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
        kind: key of :data:`~wildseg3d_ros.sim.random_shapes.SHAPES`.
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


class ShapeSource(Protocol):
    """Where the shapes of a scene's things come from."""

    def __call__(self, rng: np.random.Generator, size: float, /) -> Shape:
        """The next shape; ``size`` is the longest extent that the scene asks for [m], which a
        thing of a given size ignores."""
        ...


def centred(kind: str, pieces: Sequence[Piece], solids: Sequence[Solid], hollow=False) -> Shape:
    """The shape of these parts, moved so that its bounding box is about the origin."""
    points = np.concatenate([piece.mesh.vertices for piece in pieces])
    shift = -0.5 * (points.min(axis=0) + points.max(axis=0))
    move = make_transform(np.eye(3), shift)
    return Shape(
        kind,
        tuple(replace(piece, mesh=piece.mesh.moved(shift)) for piece in pieces),
        tuple(replace(solid, pose=move @ solid.pose) for solid in solids),
        hollow,
    )


def at_pose(
    x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: ArrayLike = (0, 0, 0)
) -> NDArray[np.float64]:
    """(4, 4) pose from a position [m] and a rotation vector [rad]."""
    return make_transform(rotation_from_vector(turn), [x, y, z])


def box_solid(size: ArrayLike, pose: NDArray | None = None) -> Solid:
    """A solid box of edges ``size`` (3,), about the origin unless a pose (4, 4) is given."""
    half = np.asarray(size, dtype=np.float64) / 2
    return Solid("box", tuple(half), np.eye(4) if pose is None else pose)
