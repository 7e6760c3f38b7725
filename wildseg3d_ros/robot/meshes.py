"""Meshes of links, as the smallest simple solid about them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.files.reading import MIB, is_regular, read_bytes
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform
from wildseg3d_ros.robot.solids import LinkSolid

_LARGEST = 64 * MIB
"""Bytes of a mesh."""


def mesh_solid(
    link: str,
    link_from_mesh: NDArray[np.float64],
    name: str,
    scale: NDArray[np.float64],
) -> LinkSolid | str:
    """The smallest box, cylinder or sphere about a mesh, or why there is none.

    Args:
        link, link_from_mesh: where the mesh is.
        name: ``package://``, ``file://`` or a path; scale: (3,) of its axes.
    """
    try:
        import trimesh
    except ImportError:
        return (
            f"its mesh '{name}' takes trimesh, which is not installed (pip install trimesh), or "
            "give the link a <collision> of boxes, cylinders and spheres"
        )
    path = _path_of(name)
    if path is None:
        return f"its mesh '{name}' is in no installed package (AMENT_PREFIX_PATH)"
    try:
        # The bytes alone, so that what the mesh names beside itself (textures) is not opened.
        data = io.BytesIO(read_bytes(path, "mesh", _LARGEST))
        mesh: Any = trimesh.load(data, file_type=path.suffix.lstrip(".").lower(), force="mesh")
        points = np.asarray(mesh.vertices, dtype=np.float64) * scale
        if len(points) == 0 or not np.isfinite(points).all():
            return f"its mesh '{name}' has no points"
        box_from_mesh, _ = trimesh.bounds.oriented_bounds(points)
        return _about(link, link_from_mesh, points, np.asarray(box_from_mesh))
    except WildSeg3DError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  trimesh raises what its readers do
        return f"its mesh '{name}' cannot be read: {type(error).__name__}: {error}"


def _about(
    link: str,
    link_from_mesh: NDArray[np.float64],
    points: NDArray[np.float64],
    box_from_mesh: NDArray[np.float64],
) -> LinkSolid:
    """The smallest of the box about points (N, 3) in the axes of a tight box, the cylinders about
    these axes and the sphere about its centre."""
    local = apply(box_from_mesh, points)
    extent = np.abs(local).max(axis=0)
    pose = link_from_mesh @ invert(box_from_mesh)
    solids = [(8 * np.prod(extent), LinkSolid(link, "box", pose, extent))]
    radius = float(np.linalg.norm(local, axis=1).max())
    solids.append((4.19 * radius**3, LinkSolid(link, "sphere", pose, np.full(3, radius))))
    for axis in range(3):
        order = np.roll(np.arange(3), 2 - axis)  # keeps the axes right-handed, this one last
        turned = make_transform(np.eye(3)[:, order], np.zeros(3))
        radius = float(np.linalg.norm(local[:, order[:2]], axis=1).max())
        half = np.array([radius, radius, extent[axis]])
        volume = 2 * np.pi * radius**2 * extent[axis]
        solids.append((volume, LinkSolid(link, "cylinder", pose @ turned, half)))
    return min(solids, key=lambda each: each[0])[1]


def _path_of(name: str) -> Path | None:
    """The file of a mesh's name; None where no installed package has it."""
    url = urlparse(name)
    if url.scheme != "package":
        return Path(unquote(url.path) if url.scheme == "file" else name)
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        path = Path(prefix, "share", url.netloc, unquote(url.path).lstrip("/"))
        if is_regular(path):
            return path
    return None
