"""Reading of files that may be anything: of any kind, of any size, or not there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from wildseg3d_ros.core.errors import ErrorCode, FileError

MIB = 1 << 20
_LONGEST_POINTER, _POINTER = 1024, b"version https://git-lfs"
"""Bytes that a file which git LFS leaves in the place of another has at most, and begins with."""


@contextmanager
def opened(
    path: str | Path, what: str, largest: int, code: ErrorCode = ErrorCode.BAD_FILE
) -> Iterator[BinaryIO]:
    """A regular file, opened for reading; also what goes wrong while it is read is its FileError.

    A pipe would be waited for, and a device read for ever.

    Args:
        path: of the file.
        what: it is to be, for error text: "image".
        largest: bytes that such a file may have.
        code: of the error.

    Raises:
        FileError: missing, no file, too large, or unreadable.
    """
    try:
        # Without waiting for a writer, should it be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # a name may hold what no name can
        raise _unreadable(path, what, error, code) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise FileError(f"cannot read {what} '{shown(path)}': it is there and no file", code)
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > largest:
            raise FileError(
                f"cannot read {what} '{shown(path)}': it has {found.st_size / 1e6:.1f} MB, and at "
                f"most {largest / 1e6:.3g} MB are read",
                code,
            )
        try:
            if found.st_size < _LONGEST_POINTER and file.peek().startswith(_POINTER):
                raise FileError(
                    f"cannot read {what} '{shown(path)}': it is a file of git LFS that was not "
                    "fetched; fetch it with `git lfs pull`",
                    code,
                )
            yield file
        except OSError as error:
            raise _unreadable(path, what, error, code) from error


def bytes_on_disk(found: os.stat_result) -> int:
    """Bytes that a file takes: a hole in it takes none, whatever its size says."""
    return min(found.st_size, found.st_blocks * 512 or found.st_size)


def _unreadable(path: object, what: str, error: Exception, code: ErrorCode) -> FileError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return FileError(f"cannot read {what} '{shown(path)}': {reason}", code)


def read_bytes(
    path: str | Path, what: str, largest: int, code: ErrorCode = ErrorCode.BAD_FILE
) -> bytes:
    """All of a file; see :func:`opened`."""
    with opened(path, what, largest, code) as file:
        # Some of /proc never end, and say that they have nothing.
        return file.read(os.fstat(file.fileno()).st_size)


def as_path(given: Any, what: str) -> Path:
    """The path of a file or folder that a caller gives.

    Args:
        given: of any kind.
        what: it is the path of, for error text: "scene".

    Raises:
        FileError: it is no path.
    """
    try:
        return Path(given)
    except TypeError:
        raise FileError(
            f"the path of a {what} is a string or a Path, got {shown(repr(given))}"
        ) from None


def is_regular(path: Path) -> bool:
    """Whether a path is a file, whatever the path is: names that no file can have are none."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; as :func:`is_regular`."""
    try:
        return path.is_dir()
    except OSError:
        return False


def same_place(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place, links that go in a circle included."""
    try:
        return os.path.realpath(one) == os.path.realpath(other)
    except ValueError:  # a name that no file can have
        return False


def of_home(path: str) -> Path:
    """A path with ``~`` as the user's home, where there is such a user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def shown(path: object) -> str:
    """A path, or what a file says, for error text: short, and of printable characters."""
    text = str(path)
    text = text if len(text) <= 300 else f"{text[:200]}...{text[-90:]}"
    return _printable(text)


def printable(text: str) -> str:
    """A text in one line, without what a terminal would obey."""
    return _printable(" ".join(text.splitlines()))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
