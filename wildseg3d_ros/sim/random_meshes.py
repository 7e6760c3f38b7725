"""Meshes of random things beside those of :mod:`~wildseg3d_ros.sim.shapes`: boxes, hulls, blobs.

Textures of what is called "box" have six cells, 3 across and 2 down: front, right, back; left,
top, bottom. The front looks along -y.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.sim.shapes import Mesh, join, quad, surface_grid


def posed(mesh: Mesh, pose: NDArray[np.float64]) -> Mesh:
    """The mesh moved by a rigid transform (4, 4)."""
    normals = mesh.normals @ pose[:3, :3].T
    return Mesh(apply(pose, mesh.vertices), normals, mesh.uv, mesh.faces)


def box_mesh(size: ArrayLike) -> Mesh:
    """A box about the origin of edges ``size`` (3,), its texture laid out as "box"."""
    a, b, c = np.asarray(size, dtype=np.float64) / 2
    faces = (
        [(-a, -b, c), (-a, -b, -c), (a, -b, -c), (a, -b, c)],
        [(a, -b, c), (a, -b, -c), (a, b, -c), (a, b, c)],
        [(a, b, c), (a, b, -c), (-a, b, -c), (-a, b, c)],
        [(-a, b, c), (-a, b, -c), (-a, -b, -c), (-a, -b, c)],
        [(-a, b, c), (-a, -b, c), (a, -b, c), (a, b, c)],
        [(-a, -b, -c), (-a, b, -c), (a, b, -c), (a, -b, -c)],
    )
    return join([quad(corners, _cell(k)) for k, corners in enumerate(faces)])


def _cell(face: int) -> tuple[float, float, float, float]:
    """Texture rectangle of a face, a little inside its cell: filters mix neighbours' colours."""
    column, row = face % 3, face // 3
    return (column + 0.02) / 3, (row + 0.02) / 2, (column + 0.98) / 3, (row + 0.98) / 2


def slab_mesh(size: ArrayLike, tile: float) -> Mesh:
    """A box about the origin whose texture repeats every ``tile`` metres."""
    mesh = box_mesh(size)
    axis = np.argmax(np.abs(mesh.normals), axis=1)
    # The two axes along each face: (y, z), (x, z) or (x, y).
    along = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    uv = np.take_along_axis(mesh.vertices, along, axis=1) / tile
    return replace(mesh, uv=uv * [1.0, -1.0])


def superellipsoid(half: ArrayLike, vertical: float, across: float, rows: int = 14) -> Mesh:
    """A closed convex surface between box (exponents near 0), ellipsoid (1) and diamond (2).

    Args:
        half: (3,) half axes [m].
        vertical, across: exponents of the profile and of the outline.
        rows: facets from pole to pole.

    Barr, "Superquadrics and Angle-Preserving Transformations", 1981.
    """
    half = np.asarray(half, dtype=np.float64)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[:, None]
    longitude = np.linspace(0, 2 * np.pi, 2 * rows + 1)[None]

    def surface(e1: float, e2: float) -> NDArray[np.float64]:
        ring = _signed_power(np.cos(latitude), e1)
        return np.stack(
            [
                ring * _signed_power(np.cos(longitude), e2),
                ring * _signed_power(np.sin(longitude), e2),
                _signed_power(np.sin(latitude), e1) + 0 * longitude,
            ],
            axis=-1,
        )

    # The normals are those of the dual superellipsoid; at the poles of flat ones they are zero.
    normals = surface(2 - vertical, 2 - across) / half
    normals += [0.0, 0.0, 1e-9] * np.sign(latitude)[..., None]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return surface_grid(surface(vertical, across) * half, normals, np.linspace(1, 0, rows + 1))


def _signed_power(base: NDArray, exponent: float) -> NDArray[np.float64]:
    clean = np.where(np.abs(base) < 1e-12, 0.0, base)
    return np.sign(clean) * np.abs(clean) ** exponent


def bumpy(mesh: Mesh, height: float, period: float, rng: np.random.Generator) -> Mesh:
    """The mesh with dents and bumps of a standard deviation ``height`` along its normals [m]."""
    wave = rng.standard_normal((12, 3))
    wave *= 2 * np.pi / period / np.linalg.norm(wave, axis=1, keepdims=True)
    phase = mesh.vertices @ wave.T + rng.uniform(0, 2 * np.pi, len(wave))
    rise = height * np.sin(phase).sum(axis=1) / np.sqrt(0.5 * len(wave))
    vertices = mesh.vertices + rise[:, None] * mesh.normals
    corner = vertices[mesh.faces]
    facing = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    # Where the surface closes, vertices lie on each other and share a normal.
    _, place = np.unique(np.round(mesh.vertices, 9) + 0.0, axis=0, return_inverse=True)
    place = place.ravel()
    total = np.zeros((place.max() + 1, 3))
    np.add.at(total, place[mesh.faces].ravel(), facing.repeat(3, axis=0))
    normals = total[place]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(vertices, normals / np.maximum(length, 1e-20), mesh.uv, mesh.faces)


def hull_mesh(points: NDArray[np.float64]) -> Mesh:
    """The convex hull with flat facets; the texture is thrown on it along the nearest axis."""
    hull = ConvexHull(points)
    corners = points[hull.simplices]
    normals = hull.equations[:, :3]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inwards = (facing * normals).sum(axis=1) < 0
    corners[inwards] = corners[inwards][:, ::-1]
    count = 3 * len(corners)
    return Mesh(
        corners.reshape(-1, 3),
        normals.repeat(3, axis=0),
        thrown_uv(corners, normals).reshape(-1, 2),
        np.arange(count).reshape(-1, 3),
    )


def thrown_uv(corners: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, 3, 2) texture coordinates, laid out as "box", of triangles: each is seen along the axis
    nearest to its normal.

    Args:
        corners: (F, 3, 3), three points of each.
        normals: (F, 3), one of each.
    """
    axis = np.argmax(np.abs(normals), axis=1)
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    share = (corners - low) / (high - low)
    along = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    inside = np.take_along_axis(share, along[:, None, :].repeat(3, axis=1), axis=2)
    face = np.array([[3, 1], [2, 0], [5, 4]])[
        axis, (np.take_along_axis(normals, axis[:, None], axis=1)[:, 0] > 0).astype(int)
    ]
    box = np.array([_cell(k) for k in range(6)])[face]
    return box[:, None, :2] + inside * (box[:, 2:] - box[:, :2])[:, None]
