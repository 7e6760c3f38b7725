"""Arrays as members of a zip file, without pickle."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InvalidScene
from wildseg3d_ros.core.files.arrays import header_from
from wildseg3d_ros.scene.file.checks import expect


def member(name: str) -> zipfile.ZipInfo:
    """A member without a time of its own: the same scene is the same bytes, whenever written."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o600 << 16
    return info


def write_array(
    archive: zipfile.ZipFile, name: str, array: NDArray, deflate: bool = False
) -> None:
    """Writes member ``<name>.npy``."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    # Labels shrink a hundredfold in no time; measured coordinates hardly shrink at all.
    archive.writestr(
        member(f"{name}.npy"),
        buffer.getbuffer(),
        zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED,
        compresslevel=1,
    )


def read_array(
    archive: zipfile.ZipFile, name: str, dtype: type[np.generic], dimensions: int
) -> NDArray:
    """Reads member ``<name>.npy``.

    Raises:
        InvalidScene: missing, of another number type or other dimensions, or larger or smaller
            than it says. ValueError: not an array.
    """
    what, expected = f"{name}.npy", f"an array of {np.dtype(dtype)} in {dimensions} dimension(s)"
    try:
        member = archive.open(f"{name}.npy")
    except KeyError:
        raise InvalidScene(f"{what}: expected {expected}, but it is missing") from None
    with member:
        shape, fortran, found = header_from(member)
        fits = found == np.dtype(dtype) and len(shape) == dimensions and not fortran
        expect(fits, what, expected, f"{found} with shape {shape}")
        # Before memory is taken for it: it may say that it is larger than any machine.
        size = archive.getinfo(f"{name}.npy").file_size - member.tell()
        claimed = math.prod(shape) * found.itemsize
        expect(size == claimed, what, f"{claimed} bytes of values by its shape {shape}", size)
        data = member.read()
    expect(len(data) == claimed, what, f"{claimed} bytes of values", len(data))
    return np.frombuffer(data, found).reshape(shape)
