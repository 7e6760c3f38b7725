"""What the storages of bags have in common: what is read of them, and its bounds."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wildseg3d_ros.core.files.reading import MIB, bytes_on_disk

LARGEST_MESSAGE = 256 * MIB
"""Bytes of a chunk or message: as of an image."""
MOST_TOPICS = 2000
UNPACKED_RATIO = 256
"""Bytes of images for each of a bag; simulated ones have about 50."""
_CHUNKS_RATIO, _CHUNKS_ANYWAY = 2048, 4096 * MIB
"""Bytes that a file's chunks may unpack to, one after the other, which takes time alone: for each
of its bytes, and anyway. Drawn images of few colours have 1200."""
_FILE_RATIO, _FILE_ANYWAY = 256, 1024 * MIB
"""Likewise for a file that is packed as a whole, and unpacked to the disk."""
_MESSAGES = 100_000
"""Records of a bag, beside one for each four of its bytes; clocks, packed, take eight."""
_LONGEST_NAME = 1000


@dataclass(frozen=True)
class Channel:
    """Messages of one kind on one topic, in one file.

    Attributes:
        number: of it, in the file.
        topic: with its leading slash.
        kind: of its messages: "sensor_msgs/msg/Image".
        count: of its messages.
    """

    number: int
    topic: str
    kind: str
    count: int = 0


class Storage(Protocol):
    """One file of a bag, opened.

    Attributes:
        channels: all that it has.
        start_ns, end_ns: times of its first and last message; None where it has none.
    """

    channels: tuple[Channel, ...]
    start_ns: int | None
    end_ns: int | None

    def messages(self, numbers: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Number of the channel, time and bytes of each message of some channels, by time.

        Raises:
            ValueError and others: it is damaged, or says more than is there.
        """
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class TooLarge(ValueError):
    """A bag that says more than is read of any, and need not be damaged for that."""


def check_unpacked(claimed: int, size: int) -> None:
    """Raises TooLarge where what is in some bytes on the disk unpacks to more than is read."""
    most = _CHUNKS_ANYWAY + _CHUNKS_RATIO * size
    if claimed > most:
        raise TooLarge(
            f"its chunks or messages unpack to {claimed / 1e6:.0f} MB, and of {size / 1e6:.3g} MB "
            f"at most {most / 1e6:.0f} MB are unpacked; record less, or without compression"
        )


def most_messages(size: int) -> int:
    """Records that a file of some bytes on the disk may hold."""
    return _MESSAGES + size // 4


def name_of(value: object) -> str:
    """The name of a topic or type, if it is one.

    Raises:
        ValueError: no text, or one that is too long.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise ValueError("the name of a topic or type is no text, or too long")
    return value


def check_encoding(topic: str, encoding: object) -> None:
    """Raises ValueError where messages are not serialised as ROS 2 does it."""
    if encoding != "cdr":
        raise ValueError(f"the messages of '{topic}' are in '{str(encoding)[:40]}', not in CDR")


def check_topics(count: int) -> None:
    """Raises ValueError for more topics than any robot has."""
    if count > MOST_TOPICS:
        raise ValueError(f"it has more than {MOST_TOPICS} topics")


def zstd() -> Any:
    """The module that unpacks zstd: Python's own, or its backport."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return module


def unpacked(data: bytes, compression: str, most: int) -> bytes:
    """What a chunk or a message holds.

    Args:
        data: as stored.
        compression: "zstd", "lz4" or "".
        most: bytes that it may have.

    Raises:
        ValueError and others: damaged, cut, or larger.
    """
    if most > LARGEST_MESSAGE:
        raise TooLarge(
            f"a chunk or message unpacks to {most / 1e6:.0f} MB, and at most "
            f"{LARGEST_MESSAGE / 1e6:.0f} MB are unpacked at once; record with smaller chunks"
        )
    if not compression:
        return data
    if compression == "zstd":
        decompressor = zstd().ZstdDecompressor()
    elif compression == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        decompressor = LZ4FrameDecompressor()
    else:
        raise ValueError(f"a chunk is packed by '{compression[:40]}'; zstd and lz4 are read")
    found = decompressor.decompress(data, max_length=most + 1)
    if len(found) > most:
        raise ValueError(f"a chunk or message unpacks to more than {most / 1e6:.0f} MB")
    if not decompressor.eof:
        raise ValueError("a chunk or message ends early")
    return found


def unpack_file(path: Path, into: Path) -> None:
    """Unpacks a file of zstd.

    Raises:
        ValueError and others: damaged, or out of proportion to its size (TooLarge).
    """
    most, found = _FILE_ANYWAY + _FILE_RATIO * bytes_on_disk(path.stat()), 0
    with zstd().open(path, "rb") as packed, into.open("wb") as out:
        while block := packed.read(MIB):
            found += len(block)
            if found > most:
                raise TooLarge(
                    f"'{path.name}' unpacks to more than {most / 1e6:.0f} MB; unpack it with "
                    "`zstd -d`, or record with compressed messages"
                )
            out.write(block)
