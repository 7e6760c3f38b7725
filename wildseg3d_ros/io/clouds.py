"""Point clouds as files: PLY, PCD and NPZ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ConfigError, FileError, InputError
from wildseg3d_ros.core.types import ObjectCloud
from wildseg3d_ros.io.images import write_bytes

FORMATS = (".ply", ".pcd", ".npz")


def write_cloud(path: str | Path, cloud: ObjectCloud) -> None:
    """Writes an answer with colours, confidence and number of views, as the suffix says.

    Raises:
        ConfigError: the suffix is none of FORMATS. FileError: the file cannot be written.
    """
    path = Path(path)
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
        _write_npz(path, cloud)
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
    columns: dict[str, tuple[str, NDArray]] = _named("xyz", "<f4", points)
    if normals is not None:
        columns |= _named(("nx", "ny", "nz"), "<f4", normals)
    if colors is not None:
        columns |= _named(("red", "green", "blue"), "u1", colors)
    if confidence is not None:
        columns |= _named(("confidence",), "<f4", np.asarray(confidence)[:, None])
    if view_count is not None:
        columns |= _named(("view_count",), "u1", np.asarray(view_count)[:, None])
    table = _table(columns)
    types = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {' '.join(line.split())}" for line in comments]
    header += [f"element vertex {len(table)}"]
    header += [f"property {types[kind]} {name}" for name, (kind, _) in columns.items()]
    text = "\n".join([*header, "end_header\n"])
    write_bytes(Path(path), text.encode("ascii", "replace") + table.tobytes())


def read_ply(path: str | Path) -> dict[str, NDArray]:
    """Columns of a file that :func:`write_ply` wrote: ``points`` and those that were given.

    Raises:
        FileError: missing, truncated, or another kind of PLY.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read '{path}': {error}") from error
    head, found, body = data.partition(b"end_header\n")
    lines = head.decode("ascii", "replace").splitlines()
    if not found or lines[:2] != ["ply", "format binary_little_endian 1.0"]:
        raise FileError(f"'{path}' is not a binary little-endian PLY file")
    kinds = {"float": "<f4", "uchar": "u1", "double": "<f8", "int": "<i4"}
    try:
        count = next(int(s.split()[2]) for s in lines if s.startswith("element vertex"))
        words = [s.split() for s in lines if s.startswith("property")]
        table = np.frombuffer(body, np.dtype([(w[2], kinds[w[1]]) for w in words]), count)
    except (StopIteration, ValueError, KeyError, IndexError) as error:
        raise FileError(f"'{path}' is truncated or not a plain point cloud: {error}") from error
    names = table.dtype.names or ()
    columns = {}
    for title, parts in (
        ("points", ("x", "y", "z")),
        ("normals", ("nx", "ny", "nz")),
        ("colors", ("red", "green", "blue")),
    ):
        if set(parts) <= set(names):
            columns[title] = np.stack([table[part] for part in parts], axis=1)
    for title in ("confidence", "view_count"):
        if title in names:
            columns[title] = table[title].copy()
    return columns


def write_pcd(path: str | Path, points: NDArray, colors: NDArray[np.uint8] | None = None) -> None:
    """Writes a binary PCD of version 0.7 with x, y, z and, packed as PCL packs it, rgb.

    Raises:
        InputError: the columns differ in length. FileError: the file cannot be written.
    """
    columns = _named("xyz", "<f4", points)
    if colors is not None:
        red, green, blue = np.asarray(colors).astype(np.uint32).T
        columns["rgb"] = ("<u4", (red << 16) | (green << 8) | blue)
    table = _table(columns)
    names = list(columns)
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(names)}",
        f"SIZE {' '.join('4' for _ in names)}",
        f"TYPE {' '.join('U' if name == 'rgb' else 'F' for name in names)}",
        f"COUNT {' '.join('1' for _ in names)}",
        f"WIDTH {len(table)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(table)}",
        "DATA binary\n",
    ]
    write_bytes(Path(path), "\n".join(header).encode() + table.tobytes())


def _write_npz(path: Path, cloud: ObjectCloud) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            points=cloud.points,
            colors=cloud.colors,
            confidence=cloud.confidence,
            view_count=cloud.view_count,
            object_ids=np.array(cloud.object_ids),
            frame_id=np.array(cloud.frame_id),
            stamp_ns=np.array(cloud.stamp_ns),
        )
    except OSError as error:
        raise FileError(f"cannot write '{path}': {error}") from error


def _named(
    names: str | tuple[str, ...], kind: str, columns: NDArray
) -> dict[str, tuple[str, NDArray]]:
    columns = np.asarray(columns)
    if columns.ndim != 2 or columns.shape[1] != len(names):
        raise InputError(f"expected columns {', '.join(names)}, got shape {columns.shape}")
    return {name: (kind, columns[:, i]) for i, name in enumerate(names)}


def _table(columns: Mapping[str, tuple[str, NDArray]]) -> NDArray:
    lengths = {name: len(values) for name, (_, values) in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns of a point cloud must have one length, got {lengths}")
    table = np.empty(next(iter(lengths.values())), [(n, kind) for n, (kind, _) in columns.items()])
    for name, (_, values) in columns.items():
        table[name] = values
    return table
