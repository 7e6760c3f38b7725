"""The messages of a bag in an SQLite database: its tables alone, none of its programs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from wildseg3d_ros.io.bags.storage import (
    LARGEST_MESSAGE,
    MOST_TOPICS,
    Channel,
    check_encoding,
    check_topics,
    name_of,
)

_TABLES = 1000
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
        try:
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_MESSAGE)
            self._check_tables()
            self.channels = self._channels()
            self.start_ns, self.end_ns = self._end("min"), self._end("max")
        except BaseException:
            self.close()
            raise

    def messages(self, numbers: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """See Storage."""
        chosen = ",".join(str(int(number)) for number in numbers)
        rows = self._database.execute(
            "SELECT topic_id, timestamp, data FROM messages "
            f"WHERE topic_id IN ({chosen}) ORDER BY timestamp"
        )
        for number, stamp_ns, data in rows:
            _check(isinstance(stamp_ns, int), "a time that is no whole number")
            _check(isinstance(data, bytes), "a message that is no bytes")
            yield number, stamp_ns, data

    def close(self) -> None:
        """See Storage."""
        self._database.close()

    def _end(self, which: str) -> int | None:
        query = f"SELECT {which}(timestamp) FROM messages"
        (time,) = self._database.execute(query).fetchone()
        _check(time is None or isinstance(time, int), "a time that is no whole number")
        return time

    def _check_tables(self) -> None:
        """Raises ValueError where the database holds more than tables and their indices: a view
        may be endless, and a column that is computed as large as it likes."""
        query = f"SELECT type, name, sql FROM sqlite_master LIMIT {_TABLES}"
        rows = self._database.execute(query).fetchall()
        _check(len(rows) < _TABLES, f"a database of {_TABLES} tables")
        for kind, _, sql in rows:
            _check(
                kind in ("table", "index") and not _PROGRAM.search(str(sql or "")),
                "a database with views or computed columns, which no recorder writes",
            )
        tables = {name for kind, name, _ in rows if kind == "table"}
        _check({"messages", "topics"} <= tables, "a database without messages and topics")

    def _channels(self) -> tuple[Channel, ...]:
        rows = self._database.execute(
            f"SELECT id, name, type, serialization_format FROM topics LIMIT {MOST_TOPICS + 1}"
        ).fetchall()
        check_topics(len(rows))
        counts = dict.fromkeys((row[0] for row in rows), 0)
        _check(len(counts) == len(rows), "two topics of one number")
        groups = "SELECT topic_id, count(*) FROM messages GROUP BY topic_id"
        for number, count in self._database.execute(groups):
            if number in counts:
                counts[number] = count
        for number, topic, _, encoding in rows:
            _check(isinstance(number, int), "a topic whose number is none")
            check_encoding(name_of(topic), encoding)
        return tuple(
            Channel(number, topic, name_of(kind), counts[number])
            for number, topic, kind, _ in rows
        )


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
