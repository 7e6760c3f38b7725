"""Triangle meshes with texture coordinates: boxes, surfaces of revolution, tubes.

Texture coordinates have (0, 0) at the first pixel of the texture's first row, v growing downwards.
All meshes are in metres, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with one normal and one texture coordinate per vertex.

    Attributes:
        vertices: (V, 3) metres.
        normals: (V, 3) unit length, outwards.
        uv: (V, 2) texture coordinates in [0, 1].
        faces: (F, 3) vertex indices, counter-clockwise seen from outside.
    """

    vertices: NDArray[np.float64]
    normals: NDArray[np.float64]
    uv: NDArray[np.float64]
    faces: NDArray[np.int64]

    def moved(self, by: ArrayLike) -> Mesh:
        """The same mesh elsewhere."""
        return Mesh(self.vertices + np.asarray(by), self.normals, self.uv, self.faces)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.faces + o for mesh, o in zip(meshes, offsets, strict=False)]),
    )


def quad(
    corners: ArrayLike, uv_box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
) -> Mesh:
    """A flat face.

    Args:
        corners: (4, 3) upper left, lower left, lower right, upper right, seen from outside.
        uv_box: texture rectangle (u0, v0, u1, v1) that it shows.
    """
    vertices = np.asarray(corners, dtype=np.float64)
    normal = np.cross(vertices[1] - vertices[0], vertices[3] - vertices[0])
    normal /= np.linalg.norm(normal)
    u0, v0, u1, v1 = uv_box
    uv = np.array([[u0, v0], [u0, v1], [u1, v1], [u1, v0]])
    return Mesh(vertices, np.repeat(normal[None], 4, axis=0), uv, np.array([[0, 1, 2], [0, 2, 3]]))


def box_faces(size: tuple[float, float, float]) -> dict[str, tuple[float, float]]:
    """Width and height [m] of each face of a box of ``size`` (x, y, z).

    The faces lie side by side in the box's texture, in this order; the front looks along -y.
    """
    x, y, z = size
    sides = {"front": (x, z), "right": (y, z), "back": (x, z), "left": (y, z)}
    return {**sides, "top": (x, y), "bottom": (x, y)}


def box(size: tuple[float, float, float]) -> Mesh:
    """A box that stands on z = 0, centred in x and y, faces in the texture as :func:`box_faces`
    has them."""
    x, y, z = size
    a, b = x / 2, y / 2
    corners = {
        "front": [(-a, -b, z), (-a, -b, 0), (a, -b, 0), (a, -b, z)],
        "right": [(a, -b, z), (a, -b, 0), (a, b, 0), (a, b, z)],
        "back": [(a, b, z), (a, b, 0), (-a, b, 0), (-a, b, z)],
        "left": [(-a, b, z), (-a, b, 0), (-a, -b, 0), (-a, -b, z)],
        "top": [(-a, b, z), (-a, -b, z), (a, -b, z), (a, b, z)],
        "bottom": [(-a, -b, 0), (-a, b, 0), (a, b, 0), (a, -b, 0)],
    }
    sizes = box_faces(size)
    total, tallest = sum(width for width, _ in sizes.values()), max(h for _, h in sizes.values())
    faces, u = [], 0.0
    for name, (width, height) in sizes.items():
        faces.append(quad(corners[name], (u, 0.0, u + width / total, height / tallest)))
        u += width / total
    return join(faces)


def lathe(runs: Sequence[tuple[ArrayLike, tuple[float, float]]], segments: int = 64) -> Mesh:
    """A surface of revolution about z.

    Args:
        runs: parts of the profile, each (points (P, 2) of radius and height, (v0, v1) texture
            rows that it spans). A run is smooth; where two meet there is a crease. They go from
            the bottom's centre up the outside, and for hollow shapes from the rim down the inside.
        segments: facets around.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, segments + 1)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    parts = []
    for profile, (v0, v1) in runs:
        profile = np.asarray(profile, dtype=np.float64)
        step = np.diff(profile, axis=0)
        length = np.maximum(np.linalg.norm(step, axis=1), 1e-12)
        facet = np.stack([step[:, 1], -step[:, 0]], axis=1) / length[:, None]
        normal = np.concatenate([facet[:1], facet[:-1] + facet[1:], facet[-1:]])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        along = np.concatenate([[0.0], np.cumsum(length)]) / length.sum()
        v = v0 + (v1 - v0) * along
        parts.append(surface_grid(_turned(profile, around), _turned(normal, around), v))
    return join(parts)


def tube(path: NDArray[np.float64], radius: float, segments: int = 20) -> Mesh:
    """A round tube of ``radius`` [m] along a centre line (P, 3) in a plane, which cannot twist."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    plane = np.linalg.svd(path - path.mean(axis=0))[2][2]
    side = np.cross(plane, tangent)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(tangent, side)
    angle = np.linspace(0.0, 2.0 * np.pi, segments + 1)[None, :, None]
    normals = np.cos(angle) * side[:, None] + np.sin(angle) * up[:, None]
    return surface_grid(path[:, None] + radius * normals, normals, np.linspace(0, 1, len(path)))


def disc(radius: float, height: float, up: bool, v: tuple[float, float]) -> tuple:
    """A flat run of :func:`lathe`: the closed end at ``height``, facing up or down."""
    inner_first = [(1e-6, height), (radius, height)]
    return (inner_first[::-1] if up else inner_first), v


def arc(
    centre: tuple[float, float], radius: float, start: float, stop: float, points: int = 8
) -> NDArray[np.float64]:
    """(points, 2) of an arc in a profile, angles in degrees from the +radius axis."""
    angle = np.radians(np.linspace(start, stop, points))
    out = np.asarray(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    out[:, 0] = np.maximum(out[:, 0], 1e-6)
    return out


def _turned(profile: NDArray, around: NDArray) -> NDArray[np.float64]:
    """(P, A, 3) of (P, 2) radii and heights and (A, 2) unit vectors."""
    out = np.empty((len(profile), len(around), 3))
    out[..., :2] = profile[:, None, :1] * around
    out[..., 2] = profile[:, 1:]
    return out


def surface_grid(vertices: NDArray, normals: NDArray, v: NDArray) -> Mesh:
    """A mesh of (R, C, 3) vertices and normals and (R,) texture rows, counter-clockwise."""
    rows, columns = vertices.shape[:2]
    u, v = np.meshgrid(np.linspace(0.0, 1.0, columns), v)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, above = corner + 1, corner + columns
    lower = np.stack([corner, right, above + 1], axis=1)
    upper = np.stack([corner, above + 1, above], axis=1)
    return Mesh(
        vertices.reshape(-1, 3),
        normals.reshape(-1, 3),
        np.stack([u, v], axis=-1).reshape(-1, 2),
        np.concatenate([lower, upper]),
    )
