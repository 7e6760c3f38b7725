"""Reads the clouds that the package writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError


def read_ply(path: str | Path) -> dict[str, NDArray]:
    """Columns of a file that :func:`wildseg3d_ros.io.clouds.write_ply` wrote: ``points`` and those
    that were given.

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
