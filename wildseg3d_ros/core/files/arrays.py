"""Arrays of .npy and .npz files and of other zip files, whose claims are checked first.

What an array says that it has is compared with the bytes that are there before memory is taken for
it, and a zip's members with what they may have before anything is inflated.
"""

from __future__ import annotations

import math
import os
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError
from wildseg3d_ros.core.files.proportion import take
from wildseg3d_ros.core.files.reading import MIB, bytes_on_disk, opened

LARGEST_NPY = 256 * MIB
LARGEST_NPZ = 1 << 36
_MEMBERS = 100_000
_RATIO = 32
"""Bytes that a byte of a file may stand for, beside ``_ANYWAY``; scenes have 1.4."""
_ANYWAY = 64 * MIB
_EMPTY = 1 << 20
"""Entries that an array without any may say of its other axes."""
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # an encrypted member
    Warning,
    zlib.error,
    zipfile.BadZipFile,
)
"""What NumPy and zipfile raise for damaged files."""


def read_npy(path: Path, what: str, code: ErrorCode = ErrorCode.BAD_FILE) -> NDArray:
    """The array of a .npy file.

    Raises:
        FileError: missing, too large, or no array of numbers.
    """
    with opened(path, what, LARGEST_NPY, code) as file:
        try:
            found = os.fstat(file.fileno())
            inode = found.st_dev, found.st_ino
            take(found.st_size, found.st_size, bytes_on_disk(found), inode)
            return array_from(file, found.st_size)
        except UNREADABLE as error:
            raise FileError(f"cannot read {what} '{path}': {_said(error)}", code) from error


@contextmanager
def opened_zip(path: str | Path, what: str) -> Iterator[zipfile.ZipFile]:
    """A zip file whose members together are not out of proportion to it.

    Raises:
        FileError: missing or no file. zipfile.BadZipFile: no zip file, or such members. Errors of
            reading members are of :data:`UNREADABLE`.
    """
    with opened(path, what, LARGEST_NPZ) as file, zipfile.ZipFile(file) as archive:
        check_claims(archive)
        yield archive


def check_claims(archive: zipfile.ZipFile, more: int = 0) -> None:
    """Raises BadZipFile where members say more than a file of that size can hold in earnest.

    Args:
        archive: opened for reading.
        more: bytes that members become beside those that they say, as pictures do.
    """
    assert archive.fp is not None
    members, size = archive.infolist(), os.fstat(archive.fp.fileno()).st_size
    claimed = sum(member.file_size for member in members) + more
    if len(members) > _MEMBERS or claimed > _ANYWAY + _RATIO * size:
        raise zipfile.BadZipFile(
            f"{len(members)} members of {claimed / 1e6:.0f} MB in {size / 1e6:.1f} MB"
        )
    if len({member.header_offset for member in members}) < len(members):
        raise zipfile.BadZipFile("members that share their bytes")


def read_npz(path: str | Path, what: str) -> dict[str, NDArray]:
    """The arrays of a .npz file by name.

    Raises:
        FileError: missing, damaged, or not of arrays of numbers and texts alone.
    """
    try:
        with opened(path, what, LARGEST_NPZ) as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise FileError(f"'{path}' holds a single array; write it with numpy.savez")
        with opened_zip(path, what) as archive:
            return {
                member.filename.removesuffix(".npy"): _member(archive, member)
                for member in archive.infolist()
            }
    except UNREADABLE as error:
        raise FileError(
            f"cannot read {what} '{path}': it is damaged, no .npz file, or holds Python objects "
            f"({_said(error)}); write it with numpy.savez, from arrays of numbers"
        ) from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    with archive.open(member) as file:
        return array_from(file, member.file_size)


def array_from(file: IO[bytes], size: int) -> NDArray:
    """The array of ``size`` bytes in NumPy's format, without Python objects.

    Raises:
        ValueError and others: not one, or one that says more or less than is there.
    """
    shape, fortran, dtype = header_from(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    claimed, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed != held or min(shape, default=0) < 0:
        raise ValueError(f"shape {shape} of {dtype} takes {claimed} bytes, there are {held}")
    # What has no bytes may say that it has as many rows as it likes.
    if math.prod(max(axis, 1) for axis in shape) > max(_EMPTY, held):
        raise ValueError(f"shape {shape}, of nothing")
    data = file.read(held + 1)
    if len(data) != claimed:
        raise ValueError(f"{len(data)} bytes where {claimed} should be")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def header_from(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and type of an array in NumPy's format.

    Raises:
        ValueError and others: not one.
    """
    version = np.lib.format.read_magic(file)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:
        raise ValueError(f"an array of format {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of headers that Python 2 wrote
        return headers[version](file)


def _said(error: BaseException) -> str:
    """What an error says, in one short line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
