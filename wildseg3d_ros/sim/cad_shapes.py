"""Things of random scenes from files of triangle meshes: own parts, in their true size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.transform import Rotation

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.sim.random_body import Piece, Shape, Solid, centred
from wildseg3d_ros.sim.random_meshes import posed, thrown_uv
from wildseg3d_ros.sim.random_shapes import random_shape
from wildseg3d_ros.sim.shapes import Mesh

if TYPE_CHECKING:
    from trimesh import Trimesh

SUFFIXES: Final = (".obj", ".ply", ".stl")
_KINDS: Final = "OBJ, PLY or STL"
UNITS: Final = {"m": 1.0, "mm": 0.001}
"""Units that files may be in, in metres."""

_MIN_SIZE, _MAX_SIZE = 0.005, 0.6
"""Longest extents [m] that a scene shows: what is smaller has a few pixels, what is larger no
room."""
_MAX_TRIANGLES = 20_000
"""More are hardly seen in pictures of 320x240, and slow them down."""
_MAX_BODIES = 16
_HULL_DIRECTIONS = 200
_SMOOTH_BELOW = np.radians(30.0)
"""Edges between triangles that are turned by less are round."""


@dataclass(frozen=True, eq=False)
class CadShapes:
    """A source of shapes: one's own parts, and random things beside them.

    Attributes:
        parts: one's own, in their true size.
        share: of the things that are such parts.
        digest: of the files and their unit.
    """

    parts: tuple[Shape, ...]
    digest: str
    share: float = 0.5

    def __call__(self, rng: np.random.Generator, size: float, /) -> Shape:
        """A part on one of its sides, or a random shape of ``size`` [m]."""
        if rng.random() >= self.share:
            return random_shape(rng, size)
        part = self.parts[int(rng.integers(len(self.parts)))]
        turns = Rotation.create_group("O")
        pose = np.eye(4)
        pose[:3, :3] = np.rint(turns[int(rng.integers(len(turns)))].as_matrix())
        pieces = [Piece(posed(piece.mesh, pose), piece.layout) for piece in part.pieces]
        solids = [
            Solid(solid.kind, solid.size, pose @ solid.pose, solid.points) for solid in part.solids
        ]
        return centred(part.kind, pieces, solids)


def read_cad_shapes(folders: Sequence[Path], unit: str) -> CadShapes:
    """The parts of all mesh files in the folders and below.

    What physics feels of a part is its convex hull, or that of each of its closed bodies.

    Args:
        folders: with OBJ, PLY or STL files.
        unit: "m" or "mm".

    Raises:
        FileError: no such folder, no mesh in it, or a mesh that no scene can show.
    """
    parts, digest = [], hashlib.sha256(unit.encode())
    for folder in folders:
        files = mesh_files(folder)
        for path in files:
            digest.update(path.name.encode() + hashlib.sha256(_bytes(path)).digest())
            parts.append(_shape(_triangles(path), path, unit))
    return CadShapes(tuple(parts), digest.hexdigest())


def mesh_files(folder: Path) -> list[Path]:
    """Mesh files in a folder and below, by name.

    Raises:
        FileError: there is no such folder, or no mesh in it.
    """
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "not there"
        raise FileError(
            f"--meshes expects a folder with {_KINDS} files; '{folder}' is {kind}: give the "
            "folder that they are in"
        )
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise FileError(
            f"'{folder}' has no {_KINDS} file, nor have the folders in it: export your parts as "
            "such (STEP files are no triangle meshes)"
        )
    return files


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read the mesh '{path}': {error}") from error


def _triangles(path: Path) -> Trimesh:
    """The file's triangles, all of one side outwards as far as they close."""
    import trimesh

    options = {"skip_materials": True} if path.suffix.lower() == ".obj" else {}
    try:
        mesh = trimesh.load_mesh(path, **options)
    # What is raised depends on the format and on what is wrong with the file.
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise FileError(
            f"cannot read '{path}' as a triangle mesh ({cause}): export it again, or take it out "
            "of the folder"
        ) from error
    if not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        raise FileError(
            f"'{path}' has no triangles, or corners that are no numbers: export it again as a "
            "triangle mesh, or take it out of the folder"
        )
    return mesh


def _shape(mesh: Trimesh, path: Path, unit: str) -> Shape:
    import trimesh

    mesh.apply_scale(UNITS[unit])
    size = float(mesh.extents.max())
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        likely = [
            other for other in UNITS if _MIN_SIZE <= size * UNITS[other] / UNITS[unit] <= _MAX_SIZE
        ]
        hint = f"; is its unit {likely[0]}? --mesh-unit {likely[0]}" if likely else ""
        raise FileError(
            f"'{path}' is {size:.4g} m long; scenes show parts of {_MIN_SIZE} to {_MAX_SIZE} m, "
            f"and --mesh-unit is {unit}{hint or ': take it out of the folder'}"
        )
    trimesh.repair.fix_normals(mesh, multibody=True)
    try:
        solids = [_hull(body.vertices) for body in _bodies(mesh)]
    except QhullError as error:
        raise FileError(
            f"'{path}' is flat; a part has a volume: give it a thickness, or take it out of the "
            "folder"
        ) from error
    return centred("part", [Piece(_seen(_thinned(mesh)), "box")], solids)


def _bodies(mesh: Trimesh) -> list[Trimesh]:
    """The closed bodies that the mesh is made of, or the mesh where it is anything else."""
    bodies = list(mesh.split(only_watertight=True))
    whole = sum(len(body.faces) for body in bodies) == len(mesh.faces)
    return bodies if whole and len(bodies) <= _MAX_BODIES else [mesh]


def _hull(points: NDArray[np.float64]) -> Solid:
    """The convex hull, of so many points at most as there are directions to look for them."""
    corners = points[ConvexHull(points).vertices]
    if len(corners) > _HULL_DIRECTIONS:
        k = np.arange(_HULL_DIRECTIONS) + 0.5
        z, turn = 1 - 2 * k / _HULL_DIRECTIONS, np.pi * (1 + np.sqrt(5)) * k
        ring = np.sqrt(1 - z**2)
        far = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)
        far = np.concatenate([far, np.eye(3), -np.eye(3)])
        corners = corners[np.unique((corners @ far.T).argmax(axis=0))]
    return Solid("hull", (), np.eye(4), corners)


def _thinned(mesh: Trimesh) -> Trimesh:
    """The mesh with vertices near each other joined until few enough triangles are left."""
    import trimesh

    grid, thin = mesh.extents.max() / 400, mesh
    while len(thin.faces) > _MAX_TRIANGLES:
        _, place = np.unique(np.rint(mesh.vertices / grid), axis=0, return_inverse=True)
        place = place.ravel()
        sums = [np.bincount(place, column) for column in mesh.vertices.T]
        centres = np.stack(sums, axis=1) / np.bincount(place)[:, None]
        thin = trimesh.Trimesh(centres, _unfolded(place[mesh.faces]), process=False)
        grid *= 1.25
    return thin


def _unfolded(faces: NDArray[np.integer]) -> NDArray[np.integer]:
    """(G, 3) triangles of (F, 3) without those that have a corner twice, or lie on each other:
    what faces both ways cancels out."""
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    lowest_first = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3
    turned = np.take_along_axis(faces, lowest_first, axis=1)
    side = np.where(turned[:, 1] < turned[:, 2], 1, -1)
    kept, place = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    total = np.bincount(place.ravel(), side, len(kept))
    kept[total < 0] = kept[total < 0][:, [0, 2, 1]]
    return kept[total != 0]


def _seen(mesh: Trimesh) -> Mesh:
    """What is drawn: round where triangles meet at small angles."""
    import trimesh

    mesh.update_faces(mesh.nondegenerate_faces())
    smooth = trimesh.graph.smooth_shade(mesh, angle=_SMOOTH_BELOW, facet_minarea=None)
    corners = np.asarray(smooth.vertices, np.float64)[smooth.faces]
    normals = np.asarray(smooth.vertex_normals, np.float64)[smooth.faces]
    facing = np.asarray(smooth.face_normals, np.float64)
    # Where the vertices' normals cancel out the triangle's own is as good as any.
    lost = np.linalg.norm(normals, axis=2) < 0.5
    normals[lost] = np.broadcast_to(facing[:, None], normals.shape)[lost]
    faces = np.arange(3 * len(corners)).reshape(-1, 3)
    uv = thrown_uv(corners, facing)
    return Mesh(corners.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces)
