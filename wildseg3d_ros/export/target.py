"""The folder that an export is written into.

What an export consists of is known before anything is written: a plan has the name of each file
and what writes it. The list of the files is written first, so that a folder whose export was
interrupted is still known as ours, and the files that an earlier export left are taken away last.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_folder, is_regular, shown
from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.files.writing import write_bytes

MANIFEST = "wildseg3d-export.json"
"""Lists the files of an export."""
_FORMAT = "wildseg3d-export"

Plan = dict[str, Callable[[Path], None]]
"""What writes each file, by its name relative to the folder."""


class Target:
    """A folder for an export.

    Args:
        folder: new, empty, or that of an earlier export.

    Raises:
        FileError: it holds what no export wrote, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        there = next(each for each in (folder, *folder.absolute().parents) if _exists(each))
        if not is_folder(there):
            raise FileError(f"cannot export into '{shown(folder)}': '{shown(there)}' is a file")
        if not os.access(there, os.W_OK):
            raise FileError(f"cannot export into '{shown(folder)}': '{shown(there)}' is read-only")
        self._before = set(_listed(folder)) if is_folder(folder) else set()

    def write(self, plan: Plan, about: Mapping[str, Any], tick: Callable[[float], None]) -> None:
        """Writes the files of a plan; those of an earlier export that are not among them go.

        Args:
            plan: the files.
            about: what is said of them in the list.
            tick: told of the fraction that is written.

        Raises:
            FileError: a file is there that no export wrote, or one cannot be written. Nothing is
                written in the first case.
        """
        foreign = [n for n in plan if n not in self._before and _exists(self.folder / n)]
        if foreign:
            raise FileError(
                f"'{shown(self.folder / foreign[0])}' is there and no export wrote it: move it "
                "away, or give another folder"
            )
        self._list({**about, "complete": False}, {*self._before, *plan})
        for done, (name, write) in enumerate(plan.items()):
            write(self.folder / name)
            tick((done + 1) / len(plan))
        for name in self._before - set(plan):
            self._remove(name)
        self._list({**about, "complete": True}, set(plan))
        self._before = set(plan)

    def _list(self, about: Mapping[str, Any], names: set[str]) -> None:
        text = {"format": _FORMAT, **about, "files": sorted(names)}
        write_bytes(self.folder / MANIFEST, (json.dumps(text, indent=1) + "\n").encode())

    def _remove(self, name: str) -> None:
        """Removes a file of an earlier export, and folders that this leaves empty."""
        root = Path(os.path.realpath(self.folder))
        path = root / name
        # A link among the folders may lead anywhere.
        if not is_regular(path) or Path(os.path.realpath(path.parent)) != path.parent:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            for parent in path.relative_to(root).parents[:-1]:
                (root / parent).rmdir()


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def exported_formats(folder: Path) -> tuple[str, ...]:
    """The formats of the export in a folder; none where there is no export."""
    formats = _manifest(folder).get("formats")
    return tuple(map(str, formats)) if isinstance(formats, list) else ()


def _manifest(folder: Path) -> dict[str, Any]:
    """What the list of an export says; nothing where there is none."""
    if not is_regular(folder / MANIFEST):
        return {}
    said = read_json(folder / MANIFEST, "list of an export")
    return said if isinstance(said, dict) and said.get("format") == _FORMAT else {}


def _listed(folder: Path) -> Iterator[str]:
    """The files of the export in a folder; none of an empty folder."""
    files = _manifest(folder).get("files")
    if isinstance(files, list):
        yield from (name for name in files if isinstance(name, str) and _inside(name))
        return
    if any(folder.iterdir()):
        raise FileError(
            f"cannot export into '{shown(folder)}': it holds files that no export wrote; give a "
            "new or empty folder, or that of an earlier export"
        )


def _inside(name: str) -> bool:
    """Whether a listed name can only mean a file within the folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def file_names(names: tuple[str, ...]) -> dict[str, str]:
    """A name for files of each view, by view: of letters, digits, "-", "_" and "." alone.

    Names of cameras may have slashes, and those of a scene's file may be anything.
    """
    made: dict[str, str] = {}
    for number, name in enumerate(names):
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".")[:100]
        taken = {each.casefold() for each in made.values()}
        made[name] = plain if plain and plain.casefold() not in taken else f"view_{number}"
    return made
