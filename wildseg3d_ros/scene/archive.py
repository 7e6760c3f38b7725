"""Arrays as members of a zip file, without pickle."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from numpy.typing import NDArray


def write_array(
    archive: zipfile.ZipFile, name: str, array: NDArray, deflate: bool = False
) -> None:
    """Writes member ``<name>.npy``."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    # Labels shrink a hundredfold in no time; measured coordinates hardly shrink at all.
    archive.writestr(
        f"{name}.npy",
        buffer.getbuffer(),
        zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED,
        compresslevel=1,
    )


def read_array(archive: zipfile.ZipFile, name: str) -> NDArray:
    """Reads member ``<name>.npy``.

    Raises:
        ValueError, KeyError: damaged or missing.
    """
    with archive.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError(f"member {name}.npy is longer than its array")
    return array
