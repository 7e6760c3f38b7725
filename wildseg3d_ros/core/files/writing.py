"""Files that are written beside and renamed: what was there stays until all is written."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import shown

_DRAFT = ".part"
_NAMED = 100
"""Bytes of a file's name that its draft has as well: a name may have 255."""


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends without an error.

    It is written beside, brought to the disk and renamed. A link stays one: what it leads to is
    replaced. The mode of what was there is kept. Drafts that a killed process left are removed.

    Raises:
        FileError: it cannot be written, or what is there is no file.
    """
    path = Path(path)
    draft: Path | None = None
    try:
        target = Path(os.path.realpath(path))
        mode = _mode_of(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{os.fsdecode(os.fsencode(target.name)[:_NAMED])}."
        _remove_left_drafts(target.parent, prefix)
        descriptor, name = tempfile.mkstemp(_DRAFT, prefix, target.parent)
        draft = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            # While it is locked, nobody takes it for one that was left.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            draft.replace(target)
    except (OSError, ValueError) as error:  # a name may hold what no name can
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FileError(f"cannot write '{shown(path)}': {reason}") from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Writes a file, see :func:`replacing`, or into the pipe or device that is there.

    Raises:
        FileError: the file cannot be written.
    """
    if _is_stream(path):
        try:
            # Without waiting for a reader; there may be none.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), "wb") as out:
                os.set_blocking(out.fileno(), True)
                out.write(data)
        except OSError as error:
            raise FileError(f"cannot write '{shown(path)}': {error.strerror}") from error
        return
    with replacing(path) as file:
        file.write(data)


def write_npz(path: str | Path, **arrays: ArrayLike) -> None:
    """Writes arrays by name as a .npz file.

    Raises:
        FileError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes(path, buffer.getbuffer())


def _is_stream(path: str | Path) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _mode_of(target: Path) -> int:
    """Permissions of what is there, else what the umask lets a new file have."""
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
    # Replacing works with whatever is there; of a device, nothing would be left.
    if not stat.S_ISREG(found):
        raise FileError(f"cannot write '{target}': it is there and no file; choose another name")
    if not os.access(target, os.W_OK):
        raise FileError(f"cannot write '{target}': it is there and may not be written")
    return stat.S_IMODE(found)


def _remove_left_drafts(folder: Path, prefix: str) -> None:
    """Removes drafts that nobody writes to: their lock went with their process."""
    for entry in os.scandir(folder):
        name = entry.name
        if not (name.startswith(prefix) and name.endswith(_DRAFT)):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(entry.path).unlink()
            finally:
                os.close(descriptor)
