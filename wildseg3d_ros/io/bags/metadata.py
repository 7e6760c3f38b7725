"""What a bag's folder says of its files: its metadata.yaml, of which nothing else is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_folder
from wildseg3d_ros.core.files.text import read_yaml

METADATA = "metadata.yaml"
_NEWEST = 9
_COMPRESSIONS = ("", "file", "message")


@dataclass(frozen=True)
class BagFiles:
    """The files of a bag.

    Attributes:
        files: in the order of time.
        storage: "mcap" or "sqlite3".
        compression: "file", "message" or "": what is packed by zstd.
    """

    files: tuple[Path, ...]
    storage: str
    compression: str = ""


def bag_files(place: Path) -> BagFiles:
    """The files of a bag, whose folder or only file is given.

    Raises:
        ValueError: says what is wrong with what the folder says.
    """
    if not is_folder(place):
        suffixes = {".mcap": "mcap", ".db3": "sqlite3"}
        if place.suffix not in suffixes:
            raise ValueError("its name ends neither in .mcap nor in .db3")
        return BagFiles((place,), suffixes[place.suffix])
    told = _told(place / METADATA)
    version, storage = told.get("version"), told.get("storage_identifier")
    names = told.get("relative_file_paths")
    compression = str(told.get("compression_mode") or "").lower()
    compression = "" if compression == "none" else compression
    if not isinstance(version, int) or version > _NEWEST:
        raise ValueError(f"{METADATA} is of version {str(version)[:20]}; 1 to {_NEWEST} are read")
    if storage not in ("mcap", "sqlite3"):
        raise ValueError(f"its storage is {str(storage)[:40]!r}; mcap and sqlite3 are read")
    if compression not in _COMPRESSIONS or (compression and told["compression_format"] != "zstd"):
        raise ValueError("it is packed in another way than by zstd")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{METADATA} lists no relative_file_paths")
    # Older recorders write the folder's name before the file's; another folder is never meant.
    files = tuple(place / PurePath(name).name for name in names)
    if len(set(files)) < len(files):
        raise ValueError(f"{METADATA} lists a file twice")
    return BagFiles(files, storage, compression)


def _told(path: Path) -> dict[str, Any]:
    try:
        told = read_yaml(path, "bag")["rosbag2_bagfile_information"]
    except (FileError, KeyError, TypeError) as error:
        raise ValueError(f"{METADATA}: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{METADATA} tells nothing")
    return told
