"""Bags, written message by message."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import shown
from wildseg3d_ros.io.bags.reading import NEED

Storage = Literal["mcap", "sqlite3"]
_Found = TypeVar("_Found")


class BagWriter:
    """Writes a bag beside its place, to which it goes when it is closed. Safe in threads: one of
    its own does all the work, as SQLite wants it.

    Args:
        path: folder of the bag, which is not there yet.
        storage: as rosbag2 calls them.
        compress: each message, by zstd.

    Attributes:
        counts: messages that were written, by topic.

    Raises:
        FileError: the path is there, or cannot be written; or rosbags is not installed.
    """

    def __init__(self, path: Path, storage: Storage = "mcap", compress: bool = False) -> None:
        try:
            from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
            from rosbags.typesys import Stores, get_typestore
        except ModuleNotFoundError as error:
            raise FileError(f"cannot write bag '{shown(path)}': {NEED}") from error
        if path.exists():
            raise FileError(f"'{path}' is there already; give a bag another name")
        self.path, self.counts = path, Counter[str]()
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._thread = ThreadPoolExecutor(1, "bag")
        self._connections: dict[str, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._beside = Path(tempfile.mkdtemp(".part", f".{path.name}.", path.parent))
            self._writer = Writer(
                self._beside / path.name, version=9, storage_plugin=StoragePlugin[storage.upper()]
            )
            mode = CompressionMode.MESSAGE if compress else CompressionMode.NONE
            self._writer.set_compression(mode, CompressionFormat.ZSTD)
            self._run(self._writer.open)
        except OSError as error:
            raise self._failed(error) from error
        self._open = True

    def add_topic(self, topic: str, kind: str, latched: bool = False) -> None:
        """Makes a topic known.

        Args:
            topic: with its leading slash.
            kind: of its messages: "sensor_msgs/msg/Image".
            latched: whether players are to keep its last messages for late subscribers.
        """
        qos = [_latched()] if latched else []
        self._connections[topic] = self._run(
            lambda: self._writer.add_connection(
                topic, kind, typestore=self._types, offered_qos_profiles=qos
            )
        )

    def write(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Writes a message that is serialised, and the time when it was received; nothing where
        the bag is closed.

        Raises:
            FileError: the disk is full, or the like.
        """

        def work() -> None:
            if self._open:
                self._writer.write(self._connections[topic], stamp_ns, data)
                self.counts[topic] += 1

        self._run(work)

    def close(self) -> None:
        """Ends the bag and puts it into its place; one without messages is removed.

        Raises:
            FileError: it cannot be written.
        """

        def work() -> None:
            if self._open:
                self._open = False
                self._writer.close()
                if self.counts:
                    (self._beside / self.path.name).rename(self.path)

        try:
            self._run(work)
        finally:
            shutil.rmtree(self._beside, ignore_errors=True)

    def abort(self) -> None:
        """Removes what was written."""

        def work() -> None:
            if self._open:
                self._open = False
                self._writer.abort()

        with contextlib.suppress(FileError):
            self._run(work)
        shutil.rmtree(self._beside, ignore_errors=True)

    def _run(self, work: Callable[[], _Found]) -> _Found:
        try:
            return self._thread.submit(work).result()
        except Exception as error:  # of the storage: SQLite has its own
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> FileError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return FileError(f"cannot write bag '{shown(self.path)}': {reason}")


def _latched() -> Any:
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    never = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST,
        100,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        never,
        never,
        QosLiveliness.AUTOMATIC,
        never,
        avoid_ros_namespace_conventions=False,
    )
