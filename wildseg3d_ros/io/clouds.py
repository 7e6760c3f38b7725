"""Point clouds as files: PLY, PCD and NPZ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ConfigError, InputError
from wildseg3d_ros.core.files.reading import as_path, shown
from wildseg3d_ros.core.files.writing import write_bytes, write_npz
from wildseg3d_ros.core.types import ObjectCloud

FORMATS = (".ply", ".pcd", ".npz")


def write_cloud(path: str | Path, cloud: ObjectCloud) -> None:
    """Writes an answer with colours, confidence and number of views, as the suffix says.

    >>> import wildseg3d_ros as ws
    >>> write_cloud("object.ply", ws.load("scene.ws3d").segment(1))

    Raises:
        ConfigError: the suffix is none of FORMATS. FileError: the file cannot be written.
        InputError: no cloud.
    """
    path = as_path(path, "cloud")
    if not isinstance(cloud, ObjectCloud):
        raise InputError(
            f"what is written is a cloud, as `scene.segment` gives it; got {shown(repr(cloud))}"
        )
    if path.suffix == ".ply":
        write_ply(
            path,
            cloud.points,
            cloud.colors,
            confidence=cloud.confidence,
            view_count=cloud.view_count,
            comments=(f"frame_id {cloud.frame_id}", f"stamp_ns {cloud.stamp_ns}"),
        )
    elif path.suffix == ".pcd":
        write_pcd(path, cloud.points, cloud.colors)
    elif path.suffix == ".npz":
        write_npz(
            path,
            points=cloud.points,
            colors=cloud.colors,
            confidence=cloud.confidence,
            view_count=cloud.view_count,
            object_ids=cloud.object_ids,
            frame_id=cloud.frame_id,
            stamp_ns=cloud.stamp_ns,
        )
    else:
        raise ConfigError(f"cannot write '{path}': the suffix must be {', '.join(FORMATS)}")


def write_ply(
    path: str | Path,
    points: NDArray,
    colors: NDArray[np.uint8] | None = None,
    normals: NDArray | None = None,
    confidence: NDArray | None = None,
    view_count: NDArray | None = None,
    comments: tuple[str, ...] = (),
) -> None:
    """Writes a binary PLY (little endian, one ``vertex`` element).

    Args:
        path: the file.
        points: (M, 3), stored as float32 x, y, z.
        colors: (M, 3) uint8 RGB, stored as red, green, blue.
        normals: (M, 3), stored as float32 nx, ny, nz.
        confidence: (M,), stored as float32.
        view_count: (M,), stored as uint8.
        comments: lines of the header.

    Raises:
        InputError: a column has another length. FileError: the file cannot be written.
    """
    columns: dict[str, NDArray] = {}
    for names, kind, values in (
        ("x y z", "<f4", points),
        ("nx ny nz", "<f4", normals),
        ("red green blue", "u1", colors),
        ("confidence", "<f4", confidence),
        ("view_count", "u1", view_count),
    ):
        if values is not None:
            columns |= _named(names, kind, values)
    table = _table(columns)
    types = {"f": "float", "u": "uchar"}
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {' '.join(line.split())}" for line in comments]
    header += [f"element vertex {len(table)}"]
    header += [f"property {types[values.dtype.kind]} {name}" for name, values in columns.items()]
    text = "\n".join([*header, "end_header\n"])
    write_bytes(Path(path), text.encode("ascii", "replace") + table.tobytes())


def write_pcd(path: str | Path, points: NDArray, colors: NDArray[np.uint8] | None = None) -> None:
    """Writes a binary PCD of version 0.7 with x, y, z and, packed as PCL packs it, rgb.

    Raises:
        InputError: the columns differ in length. FileError: the file cannot be written.
    """
    columns = _named("x y z", "<f4", points)
    if colors is not None:
        red, green, blue = np.asarray(colors).astype(np.uint32).T
        columns["rgb"] = ((red << 16) | (green << 8) | blue).astype("<u4")
    table = _table(columns)
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(columns)}",
        f"SIZE {' '.join('4' for _ in columns)}",
        f"TYPE {' '.join(values.dtype.kind.upper() for values in columns.values())}",
        f"COUNT {' '.join('1' for _ in columns)}",
        f"WIDTH {len(table)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(table)}",
        "DATA binary\n",
    ]
    write_bytes(Path(path), "\n".join(header).encode() + table.tobytes())


def _named(names: str, kind: str, values: NDArray) -> dict[str, NDArray]:
    """The columns of ``values`` in the file's type, by their names."""
    columns = np.asarray(values).astype(kind)
    if columns.ndim == 1:
        columns = columns[:, None]
    if columns.ndim != 2 or columns.shape[1] != len(names.split()):
        raise InputError(f"expected columns {', '.join(names.split())}, got shape {columns.shape}")
    return dict(zip(names.split(), columns.T, strict=True))


def _table(columns: Mapping[str, NDArray]) -> NDArray:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns of a point cloud must have one length, got {lengths}")
    return np.rec.fromarrays(list(columns.values()), names=list(columns))  # pyright: ignore[reportArgumentType]
