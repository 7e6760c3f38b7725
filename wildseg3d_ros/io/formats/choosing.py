"""Which format a folder has, by what it holds."""

from __future__ import annotations

import itertools
from pathlib import Path

from wildseg3d_ros.core.errors import ConfigError, ErrorCode, FileError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.io.formats import (
    apc,
    blender,
    bop,
    colmap,
    dtu,
    llff,
    middlebury,
    mvsnet,
    scannet,
    tum,
)
from wildseg3d_ros.io.formats.base import Format, named
from wildseg3d_ros.io.formats.foreign import foreign_folder
from wildseg3d_ros.io.images import SUFFIXES

NERFSTUDIO, PLAIN = "nerfstudio", "plain"
FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (colmap, llff, bop, scannet, tum, middlebury, mvsnet, dtu, apc, blender)
}
"""All formats but nerfstudio's and that of a plain folder of images."""
NAMES = (NERFSTUDIO, *FORMATS, PLAIN)


def choose_format(folder: Path, name: str = "") -> Format | None:
    """The format of a folder without ``transforms.json``; None for a plain one.

    Args:
        folder: to look into.
        name: of :data:`NAMES`, where the user knows.

    Raises:
        ConfigError: no such format. FileError: the folder may be of several.
    """
    if name:
        if name not in NAMES:
            raise ConfigError(f"no format '{name}'; the formats are {', '.join(NAMES)}")
        return FORMATS.get(name)
    found = {key: each for key, each in FORMATS.items() if each.found(folder)}
    before = {other for each in found.values() for other in each.before}
    left = [each for key, each in found.items() if key not in before]
    if len(left) > 1:
        either = " or ".join(f"{each.title} ({each.holds})" for each in left)
        raise FileError(
            f"folder '{folder}' may be {either}; say which with --format "
            f"{'|'.join(each.name for each in left)}"
        )
    return left[0] if left else None


def unknown(folder: Path, listed: str) -> FileError:
    """The error for a folder that is of no format."""
    return FileError(
        _inside(folder) or foreign_folder(folder) or _looked_for(folder, listed),
        ErrorCode.NO_IMAGES,
    )


def _inside(folder: Path) -> str:
    """That a folder within is what is meant, where one is of a format."""
    for place in itertools.islice(itertools.chain(folder.glob("*/"), folder.glob("*/*/")), 200):
        titles = [each.title for each in FORMATS.values() if each.found(place)]
        titles += ["a recording of nerfstudio's layout"] * is_regular(place / "transforms.json")
        if titles:
            return f"folder '{folder}' is no recording; give '{place}', which is {titles[0]}"
    return ""


def _looked_for(folder: Path, listed: str) -> str:
    looked = "; ".join(f"{each.holds} ({each.title})" for each in FORMATS.values())
    there = listed or named(sorted(p.name for p in folder.iterdir()))
    return (
        f"folder '{folder}' holds neither images ({', '.join(SUFFIXES)}) nor what a known format "
        f"has: transforms.json (nerfstudio); {looked}; it holds: {there}"
    )
