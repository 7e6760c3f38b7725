"""What a bag says of itself, checked before memory or time is taken for it.

rosbags reads a bag that means well. A bag may also name a pipe as its file, unpack to a thousand
times its bytes, or be a database whose tables are programs.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import MIB, is_folder, opened, shown
from wildseg3d_ros.core.files.text import read_yaml

LARGEST = 1 << 50
METADATA = "metadata.yaml"
_MESSAGE = 256 * MIB
"""Bytes of a chunk or message that is unpacked: as of an image."""
_RATIO = 256
"""Bytes that a byte of a bag may stand for, beside ``_ANYWAY``; simulated images have about 50."""
_ANYWAY = 64 * MIB
_AT_ONCE = 512 * MIB
"""Bytes of chunks whose times overlap, all of which are unpacked together."""
_TOPICS = 2000
_PROGRAM = re.compile(r"\b(AS|VIRTUAL)\b", re.IGNORECASE)


def check_files(place: Path) -> None:
    """Opens what a bag's folder names, or its file, and compares what it unpacks to with its size.

    Raises:
        FileError: a file that is missing or none. ValueError, sqlite3.Error: what is wrong.
    """
    if not is_folder(place):
        files, packed = [place], False
    else:
        told = _metadata(place / METADATA)
        names = told.get("relative_file_paths")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{METADATA} lists no relative_file_paths")
        files = [place / PurePath(name).name for name in names]
        packed = str(told.get("compression_mode", "")).lower() == "file"
        if len(set(files)) < len(files):
            raise ValueError(f"{METADATA} lists a file twice")
    for path in files:
        with opened(path, "bag", LARGEST) as file:
            if packed:
                _check_unpacked(file, path)
            elif file.read(6) == b"SQLite":
                _check_tables(path)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        told = read_yaml(path, "bag")["rosbag2_bagfile_information"]
    except (FileError, KeyError, TypeError) as error:
        raise ValueError(f"{METADATA}: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{METADATA} tells nothing")
    return told


def _check_unpacked(file: BinaryIO, path: Path) -> None:
    """Unpacks a file, to nowhere where it is no database."""
    most, found = _ANYWAY + _RATIO * path.stat().st_size, 0
    with _zstd().open(file, "rb") as unpacked, tempfile.NamedTemporaryFile() as kept:
        is_database = False
        while block := unpacked.read(MIB):
            is_database |= not found and block.startswith(b"SQLite")
            found += len(block)
            if found > most:
                raise ValueError(f"'{shown(path.name)}' unpacks to more than {most / 1e6:.0f} MB")
            if is_database:
                kept.write(block)
        kept.flush()
        if is_database:
            _check_tables(Path(kept.name))


def _check_tables(path: Path) -> None:
    """Raises ValueError where a database holds more than tables and their indices: a view may be
    endless, and a column that is computed as large as it likes."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    database = sqlite3.connect(uri, uri=True)
    try:
        rows = database.execute("SELECT type, sql FROM sqlite_master LIMIT 1000").fetchall()
    finally:
        database.close()
    if len(rows) == 1000:
        raise ValueError("a database of 1000 tables")
    for kind, sql in rows:
        if kind not in ("table", "index") or _PROGRAM.search(str(sql or "")):
            raise ValueError("a database with views or computed columns, which no recorder writes")


def check_opened(storages: list[Any], topics: int) -> None:
    """Compares what the opened storages of a bag say with what is there.

    Raises:
        ValueError: says what is wrong.
    """
    if topics > _TOPICS:
        raise ValueError(f"{topics} topics; at most {_TOPICS} are read")
    for storage in storages:
        chunks = getattr(storage, "chunks", [])
        claimed = sum(chunk.uncompressed_size for chunk in chunks)
        if claimed > _ANYWAY + _RATIO * Path(storage.path).stat().st_size:
            raise ValueError(f"its chunks say that they unpack to {claimed / 1e6:.0f} MB")
        steps = [(c.message_start_time, c.uncompressed_size) for c in chunks]
        steps += [(c.message_end_time + 1, -c.uncompressed_size) for c in chunks]
        together = 0
        for _, step in sorted(steps):
            together += step
            if together > _AT_ONCE:
                raise ValueError(f"chunks of one time unpack to {together / 1e6:.0f} MB")


def bound_chunks() -> None:
    """Gives rosbags' table of MCAP's compressions entries that end at the size that is said."""
    from lz4.frame import LZ4FrameDecompressor
    from rosbags.rosbag2 import storage_mcap

    storage_mcap.DECOMPRESSORS.update(
        lz4=lambda data, size: _unpacked(LZ4FrameDecompressor(), data, size),
        zstd=lambda data, size: _unpacked(_zstd().ZstdDecompressor(), data, size),
    )


def unpacked_message(data: bytes) -> bytes:
    """A message that was packed by itself.

    Raises:
        ValueError: larger than any image.
    """
    return _unpacked(_zstd().ZstdDecompressor(), data, _MESSAGE)


def _unpacked(decompressor: Any, data: bytes, most: int) -> bytes:
    if most > _MESSAGE:
        raise ValueError(f"a chunk of {most / 1e6:.0f} MB")
    found = decompressor.decompress(data, max_length=most + 1)
    if len(found) > most:
        raise ValueError(f"a chunk or message unpacks to more than {most / 1e6:.0f} MB")
    if not decompressor.eof:
        raise ValueError("a chunk or message ends early")
    return found


def _zstd() -> Any:
    """The module that rosbags unpacks with."""
    from rosbags.rosbag2 import storage_mcap

    return vars(storage_mcap)["zstd"]
