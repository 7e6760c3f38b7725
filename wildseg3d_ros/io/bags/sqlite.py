"""The messages of a bag in an SQLite database: its tables alone, none of its programs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from wildseg3d_ros.core.files.reading import bytes_on_disk
from wildseg3d_ros.io.bags.storage import (
    LARGEST_MESSAGE,
    MOST_TOPICS,
    Channel,
    check_encoding,
    check_topics,
    most_messages,
    name_of,
)

_TABLES = 1000
_LONGEST_TEXT = 1 << 20
"""Bytes of a name or of a table's declaration, and of the qualities of service beside a name."""
_STEPS = 40
"""Of SQLite's machine, for each message that a file of that size may hold: recorders' rows take
20 and have bytes for ten. Pages that share their children make rows without end."""
_BETWEEN = 10_000
"""Steps between two looks at how many were taken."""
_PROGRAM = re.compile(r"\b(AS|VIRTUAL)\b", re.IGNORECASE)
"""What computed columns and virtual tables are declared with."""


class Sqlite:
    """See :class:`wildseg3d_ros.io.bags.storage.Storage`.

    Raises:
        ValueError, sqlite3.Error: no bag, damaged, or with views or computed columns.
    """

    def __init__(self, path: Path) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        found = path.stat()
        self._size, self._steps = found.st_size, 0
        self._most_steps = _STEPS * most_messages(bytes_on_disk(found))
        try:
            self._database.set_progress_handler(self._goes_on_for_ever, _BETWEEN)
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_TEXT)
            self._check_tables()
            topics = self._topics()
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_MESSAGE)
            self._check_messages()
            self.channels = self._channels(topics)
            self.start_ns, self.end_ns = self._end("min"), self._end("max")
        except BaseException:
            self.close()
            raise

    def messages(self, numbers: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """See Storage."""
        chosen = ",".join(str(int(number)) for number in numbers)
        yield from self._rows(
            "SELECT topic_id, timestamp, data FROM messages "
            f"WHERE topic_id IN ({chosen}) ORDER BY timestamp"
        )

    def close(self) -> None:
        """See Storage."""
        self._database.close()

    def _rows(self, query: str) -> sqlite3.Cursor:
        self._steps = 0
        return self._database.execute(query)

    def _goes_on_for_ever(self) -> bool:
        """Whether a query takes more steps than a file of this size can need; it is ended."""
        self._steps += _BETWEEN
        return self._steps > self._most_steps

    def _end(self, which: str) -> int | None:
        return self._rows(f"SELECT {which}(timestamp) FROM messages").fetchone()[0]

    def _check_tables(self) -> None:
        """Raises ValueError where the database holds more than tables and their indices: a view
        may be endless, and a column that is computed as large as it likes."""
        tables: set[str] = set()
        rows = self._rows(f"SELECT type, name, sql FROM sqlite_master LIMIT {_TABLES}")
        for count, (kind, name, sql) in enumerate(rows):
            _check(count + 1 < _TABLES, f"a database of {_TABLES} tables")
            _check(
                kind in ("table", "index") and not _PROGRAM.search(str(sql or "")),
                "a database with views or computed columns, which no recorder writes",
            )
            if kind == "table":
                tables.add(name)
        _check({"messages", "topics"} <= tables, "a database without messages and topics")

    def _check_messages(self) -> None:
        """Raises ValueError where messages are not what they must be, or larger than the file:
        none of them is loaded for that, since records may share the pages that they are on."""
        odd, size = self._rows(
            "SELECT max(typeof(topic_id) != 'integer' OR typeof(timestamp) != 'integer' "
            "OR typeof(data) != 'blob'), "
            "total(CASE typeof(data) WHEN 'blob' THEN length(data) END) FROM messages"
        ).fetchone()
        _check(not odd, "a message that is no bytes, or whose topic or time is no whole number")
        _check(size <= self._size, f"messages of {size / 1e6:.0f} MB in {self._size / 1e6:.1f} MB")

    def _topics(self) -> list[tuple[int, str, str]]:
        found = []
        for number, topic, kind, encoding in self._rows(
            f"SELECT id, name, type, serialization_format FROM topics LIMIT {MOST_TOPICS + 1}"
        ):
            _check(isinstance(number, int), "a topic whose number is none")
            check_encoding(name_of(topic), encoding)
            found.append((number, topic, name_of(kind)))
        check_topics(len(found))
        _check(len({row[0] for row in found}) == len(found), "two topics of one number")
        return found

    def _channels(self, topics: list[tuple[int, str, str]]) -> tuple[Channel, ...]:
        counts = dict(self._rows("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        return tuple(
            Channel(number, topic, kind, counts.get(number, 0)) for number, topic, kind in topics
        )


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
