"""The surface of an object as triangles, where its cloud has any.

An implicit surface by moving least squares (Kolluri, "Provably good moving least squares", 2005):
at a node of a grid, the weighted mean of its distances from the planes of the nearest points. Its
zero set is cut by marching cubes (scikit-image). Only nodes near a point count, so that a surface
that no camera saw stays open and nothing is invented to close it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid
from wildseg3d_ros.export.clouds import object_name
from wildseg3d_ros.export.contents import Contents
from wildseg3d_ros.export.target import Plan
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.scene.config import IndexConfig

_CELLS = 200
"""Of the grid along the longest edge, at most."""
_PER_POINT = 2.0
"""Edge of a cell, relative to the spacing of the points: finer ones would show their noise."""
_NEAREST = 12
"""Points that decide about a node."""
_FEWEST = 50
"""Points of which a surface can be made."""


class Mesh(NamedTuple):
    """A surface of triangles.

    Attributes:
        vertices: (V, 3) float32, in the frame of the cloud.
        normals: (V, 3) float32 unit vectors, outwards.
        colors: (V, 3) uint8 RGB.
        faces: (F, 3) int32 vertices, counter-clockwise from outside.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    colors: NDArray[np.uint8]
    faces: NDArray[np.int32]


def surface_mesh(
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    colors: NDArray[np.uint8],
    spacing: float,
) -> Mesh:
    """The surface that points lie on.

    Args:
        points, normals: (M, 3), the normals of length 1 and outwards.
        colors: (M, 3) RGB.
        spacing: typical distance of neighbouring points, in their unit.

    Raises:
        InputError: too few points, or none of them on a surface.
    """
    from skimage.measure import marching_cubes

    extent = float(np.ptp(points, axis=0).max()) if len(points) >= _FEWEST else 0.0
    if extent <= 0.0 or spacing <= 0.0:
        raise InputError(
            f"a mesh needs {_FEWEST} points that lie apart, got {len(points)}; export the cloud"
        )
    cell = max(_PER_POINT * spacing, extent / _CELLS)
    even = VoxelGrid.of(points, cell / 2)
    means = even.mean(points.astype(np.float64))
    directions = _unit(even.mean(normals.astype(np.float64)))
    tree = KDTree(means)
    low = means.min(axis=0) - 3 * cell
    nodes = np.ceil((means.max(axis=0) + 3 * cell - low) / cell).astype(int) + 1
    shape = (int(nodes[0]), int(nodes[1]), int(nodes[2]))
    band = _near(means, low, cell, shape)
    field = np.ones(shape)
    field[band] = _distance(tree, directions, low + cell * np.argwhere(band), cell)
    try:
        corners, faces, _, _ = marching_cubes(field, 0.0, mask=band, allow_degenerate=False)
    except (ValueError, RuntimeError) as error:
        raise InputError("the points lie on no surface; export the cloud instead") from error
    corners = low + cell * corners
    distance, nearest = tree.query(corners)
    faces = _large_pieces(faces[(distance[faces] <= cell).all(axis=1)], len(corners))
    used, faces = np.unique(faces, return_inverse=True)
    if not len(used):
        raise InputError("the points lie on no surface; export the cloud instead")
    nearest = np.asarray(nearest)[used]
    return Mesh(
        corners[used].astype(np.float32),
        directions[nearest].astype(np.float32),
        np.rint(even.mean(colors.astype(np.float64))[nearest]).astype(np.uint8),
        faces.reshape(-1, 3).astype(np.int32),
    )


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Writes a binary PLY with vertices, their normals and colours, and triangles.

    Raises:
        FileError: the file cannot be written.
    """
    names = ("x", "y", "z", "nx", "ny", "nz", "red", "green", "blue")
    kinds = ("<f4",) * 6 + ("u1",) * 3
    columns = np.concatenate([mesh.vertices, mesh.normals, mesh.colors], axis=1).T
    vertices = np.zeros(len(mesh.vertices), np.dtype(list(zip(names, kinds, strict=True))))
    for name, column in zip(names, columns, strict=True):
        vertices[name] = column
    faces = np.zeros(len(mesh.faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    faces["count"], faces["corners"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [
        f"property {'float' if k == '<f4' else 'uchar'} {n}"
        for n, k in zip(names, kinds, strict=True)
    ]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header\n"])
    write_bytes(path, text.encode() + vertices.tobytes() + faces.tobytes())


def meshes(contents: Contents) -> Plan:
    """A mesh for each object of which a surface can be made.

    Raises:
        InputError: there is no such object.
    """
    made: dict[str, Mesh] = {}
    reason = ""
    for each in contents.objects:
        try:
            made[f"meshes/{object_name(each)}.ply"] = object_mesh(contents, each)
        except InputError as error:
            reason = f": {error}"
    if not made:
        raise InputError(f"of none of {len(contents.objects)} objects a mesh can be made{reason}")
    return {
        name: partial(lambda mesh, path: write_mesh(path, mesh), mesh)
        for name, mesh in made.items()
    }


def object_mesh(contents: Contents, each: SceneObject) -> Mesh:
    """The surface of an object; errors as of :func:`surface_mesh`."""
    if not each.points:
        raise InputError(f"object {each.object_id} has no points, so there is no mesh of it")
    surface = contents.graspable.surface((each.object_id,))
    normals = contents.graspable.normals((each.object_id,))
    colors = contents.cloud(each).colors
    return surface_mesh(surface.points, normals, colors, surface.spacing)


def _large_pieces(faces: NDArray[np.int32], vertices: int) -> NDArray[np.int32]:
    """The faces (F, 3) of pieces that are not tiny beside the largest."""
    if not len(faces):
        return faces
    piece = components(vertices, np.concatenate([faces[:, :2], faces[:, 1:]]))[faces[:, 0]]
    sizes = np.bincount(piece)
    return faces[sizes[piece] >= IndexConfig().min_cluster * sizes.max()]


def _near(
    points: NDArray[np.float64], low: NDArray[np.float64], cell: float, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """(X, Y, Z) the nodes that are corners of a cell with a point, or of one beside it."""
    band = np.zeros(shape, np.bool_)
    first = np.floor((points - low) / cell).astype(int)
    for offset in np.ndindex(4, 4, 4):
        band[tuple((first + np.array(offset) - 1).T)] = True
    return band


def _distance(
    tree: KDTree, directions: NDArray[np.float64], nodes: NDArray[np.float64], cell: float
) -> NDArray[np.float64]:
    """(N,) signed distance of nodes (N, 3) from the surface, positive outside."""
    count = min(_NEAREST, len(directions))
    distance, nearest = tree.query(nodes, k=count)
    distance, nearest = distance.reshape(-1, count), nearest.reshape(-1, count)
    offset = nodes[:, None] - tree.data[nearest]
    height = np.einsum("nkc,nkc->nk", offset, directions[nearest])
    # Relative to the nearest: far from all points the weights would vanish.
    weight = np.exp(-(distance**2 - distance[:, :1] ** 2) / cell**2)
    return (weight * height).sum(axis=1) / weight.sum(axis=1)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of length 1; what points nowhere stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
