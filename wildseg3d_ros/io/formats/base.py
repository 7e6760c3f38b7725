"""What an adapter of a folder's format is, and what adapters share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.files.reading import is_regular, shown
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.images import SUFFIXES

IGNORE = 255
"""Label of mask pixels that are not scored."""

Frame = tuple[View, NDArray | None]
"""A view, and its label image where there is one."""
_NAMED = 6
"""Files that an error names of many."""
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Frames:
    """The frames that a folder lists, none of them read yet.

    Attributes:
        count: of the frames.
        read: reads one, by its index; poses are ``world_from_cam`` with OpenCV's camera axes.
        check: raises what reading one would, as far as its pose and its files' names tell: some
            are chosen of thousands that are looked at so.
        object_names: name by label.
        warnings: what of the folder is not read.
        metric: whether lengths are metres.
    """

    count: int
    read: Callable[[int], Frame]
    object_names: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    metric: bool = True
    check: Callable[[int], object] = lambda i: None


@dataclass(frozen=True)
class Format:
    """A folder's format.

    Attributes:
        name: for ``--format``.
        title: for messages.
        holds: what tells a folder of this format, for messages.
        found: whether a folder has it, complete or not.
        list_frames: what a folder that has it lists; FileError names a part that is missing.
        before: names of formats that this one is made from: in a folder of both it is read.
    """

    name: str
    title: str
    holds: str
    found: Callable[[Path], bool]
    list_frames: Callable[[Path], Frames]
    before: tuple[str, ...] = ()


def frame_of(
    name: str,
    image: NDArray[np.uint8],
    lens: Lens,
    pose: NDArray[np.float64] | None,
    depth: NDArray[np.float32] | None = None,
    mask: NDArray | None = None,
) -> Frame:
    """A frame without lens distortion, of images as they are stored.

    Raises:
        InputError: of another size than the lens is of, or what a View refuses.
    """
    for what, array, code in (
        ("image", image, ErrorCode.BAD_CALIBRATION),
        ("depth", depth, ErrorCode.BAD_DEPTH),
        ("object mask", mask, ErrorCode.BAD_IMAGE),
    ):
        if array is not None and array.shape[:2] != lens.size:
            (height, width), (rows, columns) = lens.size, array.shape[:2]
            raise InputError(
                f"camera '{name}': its {what} is {columns}x{rows} but its camera is of "
                f"{width}x{height}; give images of the size that was calibrated",
                code,
            )
    if depth is not None:
        depth = lens.undistort_labels(depth, outside=0)
    if mask is not None:
        mask = lens.undistort_labels(mask, outside=IGNORE)
    return View(name, lens.undistort_color(image), lens.K, depth, pose), mask


def pinhole(fx: float, fy: float, cx: float, cy: float) -> NDArray[np.float64]:
    """(3, 3) intrinsics."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def read_matrix(path: Path, what: str, *shapes: tuple[int, int]) -> NDArray[np.float64]:
    """A matrix of a text file of numbers alone, of one of some shapes.

    Raises:
        FileError: missing, or not of so many numbers.
    """
    text = read_text(path, what)
    try:
        numbers = np.array([float(word) for word in text.split()])
        by_count = {rows * columns: (rows, columns) for rows, columns in shapes}
        return numbers.reshape(by_count.get(numbers.size, shapes[0]))
    except ValueError:
        expected = " or ".join(f"{rows}x{columns}" for rows, columns in shapes)
        raise FileError(
            f"{what} '{path}' must hold {expected} numbers, got '{shown(text[:60])}'"
        ) from None


def images_in(folder: Path, what: str) -> dict[str, Path]:
    """Images of a folder by stem, in natural order.

    Raises:
        FileError: the folder is missing or holds none (NO_IMAGES).
    """
    try:
        files = sorted(folder.iterdir(), key=natural_order)
    except OSError:
        raise FileError(f"{what} '{folder}' is missing", ErrorCode.NO_IMAGES) from None
    found = {p.stem: p for p in files if p.suffix.lower() in SUFFIXES and p.name[0] != "."}
    if not found:
        raise FileError(
            f"{what} '{folder}' holds no images ({', '.join(SUFFIXES)}); it holds "
            f"{named([p.name for p in files])}",
            ErrorCode.NO_IMAGES,
        )
    return found


def alike(path: Path) -> Path | None:
    """A file beside a missing one whose name is the same but for its case; None where none is."""
    name = path.name.lower()
    try:
        others = (p for p in path.parent.iterdir() if p.name != path.name)
        return next((p for p in others if p.name.lower() == name), None)
    except (OSError, ValueError):
        return None


def natural_order(path: Path) -> list[int | str]:
    """Sorts view2 before view10."""
    return [int(s) if s.isdecimal() else s for s in re.split(r"(\d+)", path.name)]


def required(path: Path, title: str) -> Path:
    """A file or folder that a format has; FileError where it is missing, naming what is there."""
    if is_regular(path) or path.is_dir():
        return path
    if other := alike(path):
        raise FileError(
            f"{title} lacks '{path.name}': it is named '{other.name}' there; rename it"
        )
    there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    place = f"'{path.parent}' holds {named(there)}" if there else f"'{path.parent}' is not there"
    raise FileError(f"{title} lacks '{path.name}': {place}")


def named(names: Sequence[str]) -> str:
    """The first of some names, for messages."""
    if not names:
        return "nothing"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in names[:_NAMED]) + more
