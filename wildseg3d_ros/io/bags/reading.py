"""The messages of a bag in the order of their arrival, one at a time."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.errors import FileError, WildSeg3DError
from wildseg3d_ros.core.files.reading import (
    MIB,
    bytes_on_disk,
    is_folder,
    is_regular,
    opened,
    shown,
)
from wildseg3d_ros.io.bags.mcap import Mcap
from wildseg3d_ros.io.bags.metadata import METADATA, bag_files
from wildseg3d_ros.io.bags.sqlite import Sqlite
from wildseg3d_ros.io.bags.storage import (
    LARGEST_MESSAGE,
    Channel,
    Storage,
    TooLarge,
    check_topics,
    check_unpacked,
    most_messages,
    unpack_file,
    unpacked,
)

STORAGES = (".mcap", ".db3")
LARGEST = 1 << 50
_STORAGES: dict[str, Callable[[Path], Storage]] = {"mcap": Mcap, "sqlite3": Sqlite}
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_LARGEST_OTHER = 8 * MIB
"""Bytes of a message that is no image: 80,000 transforms, which take a hundred times as much in
memory."""
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

    def __init__(
        self, path: Path, storages: Sequence[Storage], types: Any, packed: bool, size: int
    ) -> None:
        self.path, self._storages, self._types = path, storages, types
        self._packed, self._size = packed, size
        self.topics: Mapping[str, Topic] = _topics(storages)
        check_topics(len(self.topics))
        starts = [each.start_ns for each in storages if each.start_ns is not None]
        ends = [each.end_ns for each in storages if each.end_ns is not None]
        self._start_ns = min(starts, default=0)
        self._duration_ns = max(ends) - self._start_ns + 1 if starts and ends else 0

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        return self._duration_ns / 1e9

    def messages(self, topics: Mapping[str, Any]) -> Iterator[tuple[float, Message]]:
        """The messages of some topics, and the share of the time up to each.

        Raises:
            FileError: a bag that is truncated or damaged.
        """
        found = self._found(topics)
        while True:
            # What is raised for damaged bytes is of many kinds; nothing else is in here.
            try:
                channel, stamp_ns, data = next(found)
                value = self._types.deserialize_cdr(data, channel.kind)
            except StopIteration:
                return
            except Exception as error:
                raise damaged(self.path, error) from error
            share = (stamp_ns - self._start_ns) / max(self._duration_ns, 1)
            yield share, Message(channel.topic, value)

    def _found(self, topics: Mapping[str, Any]) -> Iterator[tuple[Channel, int, bytes]]:
        """The messages as they were written, each of a size that its kind may have."""
        left, size = most_messages(self._size), 0
        for storage in self._storages:
            chosen = {each.number: each for each in storage.channels if each.topic in topics}
            for number, stamp_ns, data in storage.messages(chosen) if chosen else ():
                channel = chosen[number]
                most = LARGEST_MESSAGE if channel.kind in _IMAGES else _LARGEST_OTHER
                if self._packed:
                    data = unpacked(data, "zstd", most)
                left -= 1
                if left < 0:
                    raise TooLarge(f"it holds more than {most_messages(self._size)} messages")
                size += len(data)
                check_unpacked(size, self._size)
                if len(data) > most:
                    raise TooLarge(f"{channel.topic} has a message of {len(data) / 1e6:.0f} MB")
                yield channel, stamp_ns, data


@contextmanager
def opened_bag(path: Path) -> Iterator[Bag]:
    """A bag, whose folder or file is given.

    Raises:
        FileError: missing, no bag, truncated or damaged; or rosbags is not installed.
    """
    try:
        from rosbags.typesys import Stores, get_typestore
    except ModuleNotFoundError as error:
        raise FileError(f"cannot read bag '{shown(path)}': {NEED}") from error
    types = get_typestore(Stores.ROS2_JAZZY)
    with ExitStack() as stack:
        try:
            bag = _opened(path, types, stack)
        except WildSeg3DError:
            raise
        except Exception as error:  # as many kinds as there are kinds of damage
            raise damaged(path, error) from error
        yield bag


def _opened(path: Path, types: Any, stack: ExitStack) -> Bag:
    bag = bag_files(_place(path))
    storages: list[Storage] = []
    for file in bag.files:
        with opened(file, "bag", LARGEST):  # nothing that a reader would wait for
            pass
        if bag.compression == "file":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            unpack_file(file, folder / file.stem)
            file = folder / file.stem
        storage = _STORAGES[bag.storage](file)
        stack.callback(storage.close)
        storages.append(storage)
    size = sum(bytes_on_disk(file.stat()) for file in bag.files)
    return Bag(path, storages, types, bag.compression == "message", size)


def _topics(storages: Sequence[Storage]) -> dict[str, Topic]:
    kinds: dict[str, set[str]] = {}
    counts = Counter[str]()
    for channel in (channel for storage in storages for channel in storage.channels):
        kinds.setdefault(channel.topic, set()).add(channel.kind)
        counts[channel.topic] += channel.count
    return {
        name: Topic(name, found.pop() if len(found) == 1 else "several types", counts[name])
        for name, found in sorted(kinds.items())
    }


def damaged(path: Path, error: Exception) -> FileError:
    """The error for a bag that cannot be read on."""
    said = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
    if isinstance(error, TooLarge):
        return FileError(f"bag '{shown(path)}' is larger than what is read: {said}")
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
