"""The messages of a bag in MCAP, https://mcap.dev/spec: an index at the end, or none.

A file says of each record how long it is, and of each chunk what it unpacks to; nothing is read or
unpacked before that was compared with what is there.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wildseg3d_ros.core.files.reading import MIB, bytes_on_disk
from wildseg3d_ros.io.bags.storage import (
    LARGEST_MESSAGE,
    Channel,
    TooLarge,
    check_encoding,
    check_topics,
    check_unpacked,
    most_messages,
    name_of,
    unpacked,
)

_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _STATISTICS = (
    1, 2, 3, 4, 5, 6, 8, 11
)  # fmt: skip
_RECORD, _STAMPED = struct.Struct("<BQ"), struct.Struct("<HIQQ")
_FOOTER_SIZE = _RECORD.size + 20 + len(_MAGIC)
_LARGEST_INDEX = 64 * MIB
_LARGEST_RECORD = 4 * MIB
"""Bytes of what describes messages."""
_AT_ONCE = 256 * MIB
"""Bytes of chunks whose times overlap, all of which are unpacked together."""


@dataclass(frozen=True)
class _Chunk:
    """Attributes: where its record begins and how long it is; what it unpacks to; the channels
    that are said to be in it, where that is said."""

    start_ns: int
    end_ns: int
    at: int
    length: int
    unpacked: int
    numbers: array[int]


class _Fields:
    """The fields of a record, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data, self.at = data, 0

    def numbers(self, format_: str) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{format_}", self._data, self.at)
        self.at += struct.calcsize(f"<{format_}")
        return found

    def bytes(self) -> memoryview:
        (length,) = self.numbers("I")
        found = self._data[self.at : self.at + length]
        if len(found) < length:
            raise ValueError("a record ends early")
        self.at += length
        return found

    def text(self) -> str:
        found = self.bytes()
        return str(found, "utf-8") if len(found) < MIB else name_of(None)


class Mcap:
    """See :class:`wildseg3d_ros.io.bags.storage.Storage`.

    Raises:
        ValueError, struct.error and others: no MCAP file, cut, damaged, or with claims beyond all.
    """

    def __init__(self, path: Path) -> None:
        found = path.stat()
        self._size, self._on_disk = found.st_size, bytes_on_disk(found)
        self._schemas: dict[int, str] = {}
        self._found: dict[int, Channel] = {}
        self._chunks: list[_Chunk] = []
        self._counts: Counter[int] | None = None
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        self._file = path.open("rb")
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See Storage."""
        self._file.close()

    def messages(self, numbers: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """See Storage."""
        chosen, before = frozenset(numbers), 0
        if self._chunks:
            yield from self._merged(chosen)
            return
        for number, stamp_ns, data in self._scanned(chosen):
            if stamp_ns < before:
                raise ValueError("its messages have no index and are not in the order of time")
            before = stamp_ns
            yield number, stamp_ns, data

    # ---- what there is -----------------------------------------------------------------------

    def _open(self) -> None:
        start = self._file.read(len(_MAGIC) + _RECORD.size)
        if start[: len(_MAGIC)] != _MAGIC:
            raise ValueError("it is no MCAP file")
        code, length = _RECORD.unpack_from(start, len(_MAGIC))
        if code != _HEADER or length > _LARGEST_RECORD:
            raise ValueError("its header is missing")
        if _Fields(memoryview(self._file.read(length))).text() != "ros2":
            raise ValueError("its profile is not ros2")
        self._start = len(_MAGIC) + _RECORD.size + length
        self._end = self._size - _FOOTER_SIZE
        summary = self._footer()
        if summary:
            self._read_index(summary)
            self._end = summary
        if self._counts is None or (not self._found and any(self._counts.values())):
            self._scan()
        self._check_chunks()
        check_topics(len(self._found))
        counts = self._counts or {}
        self.channels = tuple(replace(c, count=counts.get(k, 0)) for k, c in self._found.items())

    def _footer(self) -> int:
        """Where the summary begins; 0: there is none."""
        if self._end < self._start:
            raise ValueError("it ends early")
        self._file.seek(self._end)
        footer = self._file.read(_FOOTER_SIZE)
        if footer[-len(_MAGIC) :] != _MAGIC or _RECORD.unpack_from(footer) != (_FOOTER, 20):
            raise ValueError("its end is missing")
        (summary,) = struct.unpack_from("<Q", footer, _RECORD.size)
        if summary and not self._start <= summary <= self._end:
            raise ValueError("its summary lies outside of it")
        return summary

    def _read_index(self, summary: int) -> None:
        if self._end - summary > _LARGEST_INDEX:
            raise ValueError(f"its index has {(self._end - summary) / 1e6:.0f} MB")
        self._file.seek(summary)
        count_record = self._counter()
        for code, data in _records(memoryview(self._file.read(self._end - summary))):
            count_record()
            if code == _INDEX:
                self._chunks.append(_chunk_of(_Fields(data)))
            elif code == _STATISTICS:
                fields = _Fields(data)
                count, *_, start_ns, end_ns = fields.numbers("QHIIIIQQ")
                self._counts = Counter(dict(struct.iter_unpack("<HQ", fields.bytes())))
                if count:
                    self.start_ns, self.end_ns = start_ns, end_ns
            else:
                self._describe(code, data)

    def _describe(self, code: int, data: memoryview) -> None:
        """Notes a schema or channel."""
        if code not in (_SCHEMA, _CHANNEL):
            return
        if len(data) > _LARGEST_RECORD:
            raise ValueError(f"a record of {len(data) / 1e6:.0f} MB")
        fields = _Fields(data)
        if code == _SCHEMA:
            (number,) = fields.numbers("H")
            self._schemas[number] = name_of(fields.text())
            return
        number, schema = fields.numbers("HH")
        topic, encoding = name_of(fields.text()), fields.text()
        check_encoding(topic, encoding)
        self._found.setdefault(number, Channel(number, topic, self._schemas.get(schema, "none")))

    def _scan(self) -> None:
        """Counts the messages of a file whose index does not."""
        counts, first, last = Counter[int](), None, 0
        for number, stamp_ns, _ in self._scanned(None):
            counts[number] += 1
            first, last = min(stamp_ns, stamp_ns if first is None else first), max(last, stamp_ns)
        self._counts, self.start_ns = counts, first
        self.end_ns = None if first is None else last

    def _check_chunks(self) -> None:
        """Raises ValueError where chunks share bytes, or say that they unpack to too much."""
        ends = 0
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.at):
            if chunk.at < ends or chunk.at < self._start:
                raise ValueError("its index names chunks that share bytes")
            ends = chunk.at + chunk.length
        check_unpacked(sum(chunk.unpacked for chunk in self._chunks), self._on_disk)
        steps = [(chunk.start_ns, chunk.unpacked) for chunk in self._chunks]
        steps += [(chunk.end_ns + 1, -chunk.unpacked) for chunk in self._chunks]
        together = 0
        for _, step in sorted(steps):
            together += step
            if together > _AT_ONCE:
                raise TooLarge(
                    f"chunks of one time unpack to {together / 1e6:.0f} MB, and at most "
                    f"{_AT_ONCE / 1e6:.0f} MB are unpacked at once; record with smaller chunks"
                )

    # ---- messages ----------------------------------------------------------------------------

    def _counter(self) -> Callable[[], None]:
        """To be called for each record, of whatever kind: ends what says far more than it has
        bytes."""
        left = most = most_messages(self._on_disk)

        def count() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise TooLarge(f"it holds more than {most} messages and other records")

        return count

    def _merged(self, chosen: frozenset[int]) -> Iterator[tuple[int, int, bytes]]:
        """By the index: chunks are unpacked when their time has come."""
        count = self._counter()
        waiting = deque(
            sorted(
                (c for c in self._chunks if not c.numbers or not chosen.isdisjoint(c.numbers)),
                key=lambda chunk: (chunk.start_ns, chunk.at),
            )
        )
        heads: list[tuple[int, int, tuple[int, int, bytes], Iterator]] = []
        while waiting or heads:
            if waiting and (not heads or waiting[0].start_ns <= heads[0][0]):
                chunk = waiting.popleft()
                place, rest = chunk.at, self._of_chunk(chunk, chosen, count)
            else:
                _, place, message, rest = heapq.heappop(heads)
                yield message
            if (following := next(rest, None)) is not None:
                heapq.heappush(heads, (following[1], place, following, rest))

    def _of_chunk(
        self, chunk: _Chunk, chosen: frozenset[int], count: Callable[[], None]
    ) -> Iterator[tuple[int, int, bytes]]:
        self._file.seek(chunk.at)
        code, length = _RECORD.unpack(self._file.read(_RECORD.size))
        if code != _CHUNK or length + _RECORD.size != chunk.length:
            raise ValueError("its index names a chunk that is none")
        data = memoryview(self._unpacked_chunk(length, chunk.unpacked))
        stamps, places = array("Q"), array("Q")
        at = 0
        for code, record in _records(data):
            at += _RECORD.size
            count()
            if code == _MESSAGE:
                number, _, stamp_ns, _ = _STAMPED.unpack_from(record)
                if number in chosen:
                    stamps.append(stamp_ns)
                    places.append(at)
            at += len(record)
        for k in np.argsort(np.frombuffer(stamps, np.uint64), kind="stable"):
            at = places[k]
            (length,) = struct.unpack_from("<Q", data, at - 8)
            (number,) = struct.unpack_from("<H", data, at)
            yield number, stamps[k], bytes(data[at + _STAMPED.size : at + length])

    def _unpacked_chunk(self, length: int, most: int | None = None) -> bytes:
        """The records of the chunk whose record begins here and has this length."""
        begin = self._file.tell()
        head = memoryview(self._file.read(min(length, 100)))
        fields = _Fields(head)
        _, _, size, checksum = fields.numbers("QQQI")
        compression = fields.text()
        (packed,) = fields.numbers("Q")
        if packed > min(length - fields.at, LARGEST_MESSAGE):
            raise ValueError("a chunk holds more than its record")
        if most is not None and size != most:
            raise ValueError("its index and a chunk differ")
        if not compression and packed != size:
            raise ValueError("a chunk's sizes differ")
        self._file.seek(begin + fields.at)
        found = unpacked(self._file.read(packed), compression, size)
        if len(found) != size or (checksum and zlib.crc32(found) != checksum):
            raise ValueError("a chunk differs from its size or checksum")
        return found

    def _scanned(self, chosen: frozenset[int] | None) -> Iterator[tuple[int, int, bytes]]:
        """As the file has them; notes what is described. None: of all, without their bytes."""
        count, at, claimed = self._counter(), self._start, 0
        while at < self._end:
            self._file.seek(at)
            code, length = _RECORD.unpack(self._file.read(_RECORD.size))
            at += _RECORD.size + length
            if at > self._end:
                raise ValueError("a record ends beyond its file")
            count()
            if code == _MESSAGE:
                yield from self._of_file(length, chosen)
            elif code == _CHUNK:
                claimed += self._claim()
                check_unpacked(claimed, self._on_disk)
                yield from self._of_scanned(self._unpacked_chunk(length), chosen, count)
            elif code in (_SCHEMA, _CHANNEL):
                if length > _LARGEST_RECORD:
                    raise ValueError(f"a record of {length / 1e6:.0f} MB")
                self._describe(code, memoryview(self._file.read(length)))

    def _claim(self) -> int:
        """What the chunk whose record begins here says that it unpacks to."""
        begin = self._file.tell()
        _, _, size = struct.unpack("<QQQ", self._file.read(24))
        self._file.seek(begin)
        return size

    def _of_file(
        self, length: int, chosen: frozenset[int] | None
    ) -> Iterator[tuple[int, int, bytes]]:
        number, _, stamp_ns, _ = _STAMPED.unpack(self._file.read(_STAMPED.size))
        if length < _STAMPED.size:
            raise ValueError("a message ends early")
        if chosen is None:
            yield number, stamp_ns, b""
        elif number in chosen:
            if length > LARGEST_MESSAGE:
                raise ValueError(f"a message of {length / 1e6:.0f} MB")
            yield number, stamp_ns, self._file.read(length - _STAMPED.size)

    def _of_scanned(
        self, data: bytes, chosen: frozenset[int] | None, count: Callable[[], None]
    ) -> Iterator[tuple[int, int, bytes]]:
        for code, record in _records(memoryview(data)):
            count()
            if code == _MESSAGE:
                number, _, stamp_ns, _ = _STAMPED.unpack_from(record)
                if chosen is None or number in chosen:
                    yield number, stamp_ns, b"" if chosen is None else bytes(record[22:])
            else:
                self._describe(code, record)


def _records(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """What kind each record is of, and its content."""
    at = 0
    while at < len(data):
        code, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if length > len(data) - at:
            raise ValueError("a record ends early")
        yield code, data[at : at + length]
        at += length


def _chunk_of(fields: _Fields) -> _Chunk:
    start_ns, end_ns, at, length = fields.numbers("QQQQ")
    # Of tens of millions of bytes, a set would take a gigabyte.
    numbers = array("H", (number for number, _ in struct.iter_unpack("<HQ", fields.bytes())))
    fields.numbers("Q")
    fields.text()
    _, size = fields.numbers("QQ")
    return _Chunk(start_ns, end_ns, at, length, size, numbers)
