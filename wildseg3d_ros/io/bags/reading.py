"""The messages of a bag in the order of their arrival, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.errors import FileError, WildSeg3DError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, shown
from wildseg3d_ros.io.bags.claims import (
    METADATA,
    bound_chunks,
    check_files,
    check_opened,
    unpacked_message,
)

STORAGES = (".mcap", ".db3")
_WAY_OUT = "`ros2 bag reindex` or `mcap recover` may repair it"
NEED = (
    "reading bags needs the extra 'bags': `make setup EXTRAS=bags` in a clone, else "
    "`pip install 'wildseg3d[bags]'`"
)


@dataclass(frozen=True)
class Topic:
    """What a bag has of a topic.

    Attributes:
        name: with its leading slash.
        kind: of its messages: "sensor_msgs/msg/Image".
        count: of its messages.
    """

    name: str
    kind: str
    count: int

    def __str__(self) -> str:
        return f"{self.name} ({self.kind.replace('/msg/', '/')}, {self.count})"


@dataclass(frozen=True)
class Message:
    """A message and the topic that it came on."""

    topic: str
    value: Any


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: its folder, or a file of its storage."""
    if is_folder(path):
        return is_regular(path / METADATA) or bool(_storages(path))
    name = path.name.lower()
    return is_regular(path) and any(name.endswith((s, f"{s}.zstd")) for s in STORAGES)


class Bag:
    """An opened bag: see :func:`opened_bag`.

    Attributes:
        path: as given.
        topics: by name.
    """

    def __init__(self, path: Path, reader: Any, types: Any) -> None:
        self.path, self._reader, self._types = path, reader, types
        storage = reader.storage
        self._is_packed = storage.metadata.compression_mode == "message"
        if self._is_packed:  # and unpacked here, within bounds
            storage.metadata = storage.metadata._replace(compression_mode=None)
        self.topics: Mapping[str, Topic] = {
            name: Topic(name, info.msgtype or "several types", info.msgcount)
            for name, info in reader.topics.items()
        }

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        return self._reader.duration / 1e9

    def messages(self, topics: Mapping[str, Any]) -> Iterator[tuple[float, Message]]:
        """The messages of some topics, and the share of the time up to each.

        Raises:
            FileError: a bag that is truncated or damaged.
        """
        chosen = [each for each in self._reader.connections if each.topic in topics]
        if not chosen:
            return
        start, duration = self._reader.start_time, max(self._reader.duration, 1)
        found = iter(self._reader.messages(chosen))
        while True:
            # What rosbags raises for damaged bytes is of many kinds; nothing else is in here.
            try:
                connection, stamp_ns, data = next(found)
                data = unpacked_message(data) if self._is_packed else data
                value = self._types.deserialize_cdr(data, connection.msgtype)
            except StopIteration:
                return
            except Exception as error:
                raise damaged(self.path, error) from error
            yield (stamp_ns - start) / duration, Message(connection.topic, value)


@contextmanager
def opened_bag(path: Path) -> Iterator[Bag]:
    """A bag, whose folder or file is given.

    Raises:
        FileError: missing, no bag, truncated or damaged; or rosbags is not installed.
    """
    try:
        from rosbags.rosbag2 import Reader
        from rosbags.typesys import Stores, get_typestore
    except ModuleNotFoundError as error:
        raise FileError(f"cannot read bag '{shown(path)}': {NEED}") from error
    place = _place(path)
    bound_chunks()
    try:
        check_files(place)
        reader = Reader(place)
        reader.open()
    except WildSeg3DError:
        raise
    except Exception as error:  # as many kinds as there are kinds of damage
        raise damaged(path, error) from error
    try:
        try:
            bag = Bag(path, reader, get_typestore(Stores.ROS2_JAZZY))
            check_opened(getattr(reader.storage, "storages", [reader.storage]), len(bag.topics))
        except Exception as error:
            raise damaged(path, error) from error
        yield bag
    finally:
        with suppress(Exception):  # of a bag that says odd things, rosbags cannot close all
            reader.close()


def damaged(path: Path, error: Exception) -> FileError:
    """The error for a bag that cannot be read on."""
    said = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return FileError(
        f"bag '{shown(path)}' is truncated, damaged or no bag: {said.rstrip('.')}; {_WAY_OUT}"
    )


def _storages(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix in STORAGES)
    except OSError:
        return []


def _place(path: Path) -> Path:
    """What rosbags is to open."""
    if not is_folder(path):
        if path.suffix != ".zstd":
            return path
        if is_regular(path.parent / METADATA):
            return path.parent
        raise FileError(f"'{path}' is a compressed file of a bag: give the bag's folder")
    if is_regular(path / METADATA):
        return path
    files = _storages(path)
    if len(files) == 1:
        return files[0]
    raise FileError(
        f"bag '{shown(path)}' has no {METADATA} and {len(files)} files of messages: "
        "`ros2 bag reindex` writes one"
    )
