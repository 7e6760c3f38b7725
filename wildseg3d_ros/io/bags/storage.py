"""What the storages of bags have in common: what is read of them, and its bounds."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wildseg3d_ros.core.files.reading import MIB

LARGEST_MESSAGE = 256 * MIB
"""Bytes of a chunk or message: as of an image."""
MOST_TOPICS = 2000
UNPACKED_RATIO = 256
"""Bytes that a byte of a bag may stand for, beside ``_ANYWAY``; simulated images have about 50."""
_ANYWAY = 64 * MIB
_MESSAGES = 100_000
"""Messages of a bag, beside one for each four of its bytes; clocks, packed, take eight."""
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


def largest_unpacked(size: int) -> int:
    """Bytes that a file of some bytes may unpack to."""
    return _ANYWAY + UNPACKED_RATIO * size


def most_messages(size: int) -> int:
    """Messages that a file of some bytes may hold."""
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
        raise ValueError(f"a chunk of {most / 1e6:.0f} MB")
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
        ValueError and others: damaged, or out of proportion to its size.
    """
    most, found = largest_unpacked(path.stat().st_size), 0
    with zstd().open(path, "rb") as packed, into.open("wb") as out:
        while block := packed.read(MIB):
            found += len(block)
            if found > most:
                raise ValueError(f"'{path.name}' unpacks to more than {most / 1e6:.0f} MB")
            out.write(block)
