"""The frames of a recording: which are read, how they are named, and what becomes of bad ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TypeVar

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError, WildSeg3DError
from wildseg3d_ros.core.progress import Progress

_Frame = TypeVar("_Frame")
_Error = TypeVar("_Error", bound=WildSeg3DError)


def check_max_views(max_views: int | None) -> None:
    """Raises InputError unless it is a whole number above 0, or None."""
    if max_views is not None and (not isinstance(max_views, int) or max_views < 1):
        raise InputError(f"max_views must be 1 or more, got {max_views!r}", ErrorCode.BAD_REQUEST)


def evenly_spaced(count: int, max_views: int | None) -> list[int]:
    """Indices of at most ``max_views`` of ``count`` items, evenly spaced, both ends included."""
    if max_views is None or count <= max_views:
        return list(range(count))
    if max_views == 1:
        return [count // 2]
    return [round(i * (count - 1) / (max_views - 1)) for i in range(max_views)]


def chosen_frames(
    count: int, max_views: int | None, check: Callable[[int], object], strict: bool
) -> tuple[list[int], tuple[str, ...]]:
    """Indices of the frames to read, and a warning where some are not among those to choose from.

    Args:
        count: of all frames.
        max_views: at most so many, evenly spaced over those that can be used.
        check: raises FileError or InputError for one that cannot be used.
        strict: whether one that cannot be used is to be met.
    """
    if max_views is None or count <= max_views or strict:
        return evenly_spaced(count, max_views), ()
    usable: list[int] = []
    errors: list[FileError | InputError] = []
    for i in range(count):
        try:
            check(i)
            usable.append(i)
        except (FileError, InputError) as error:
            errors.append(_alone(error))
    if not errors or not usable:
        return evenly_spaced(count, max_views), ()
    told = f"{len(errors)} of {count} frames cannot be used, and none of them is chosen"
    chosen = [usable[i] for i in evenly_spaced(len(usable), max_views)]
    return chosen, (f"{told}: {errors[0]}",)


def read_each(
    chosen: Sequence[int], read: Callable[[int], _Frame], progress: Progress, strict: bool
) -> tuple[list[_Frame], tuple[str, ...]]:
    """The frames that can be read, and a warning for each other one.

    Args:
        chosen: indices of the frames.
        read: reads one.
        progress: told of the fraction that is read.
        strict: whether the first frame that cannot be read is an error.

    Raises:
        FileError, InputError: that of the first bad frame, where half of them or more are bad.
    """
    frames: list[_Frame] = []
    errors: list[FileError | InputError] = []
    for done, i in enumerate(chosen):
        try:
            frames.append(read(i))
        except (FileError, InputError) as error:
            errors.append(_alone(error))
            if strict or 2 * len(errors) >= len(chosen):
                raise errors[0] from None
        progress.update((done + 1) / len(chosen))
    return frames, tuple(f"one of {len(chosen)} frames was left out: {each}" for each in errors)


def _alone(error: _Error) -> _Error:
    """The error without what it was raised among, which holds the images of a bad frame."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def unique_names(paths: Sequence[str]) -> list[str]:
    """Stems; where stems repeat (left/0001.png, right/0001.png), the whole path without suffix.

    Raises:
        InputError: two paths that are the same.
    """
    stems = [PurePath(path).stem for path in paths]
    twice = {stem for stem, count in Counter(stems).items() if count > 1}
    names = [
        "_".join(x for x in (*PurePath(path).parent.parts, stem) if x != ".")
        if stem in twice
        else stem
        for stem, path in zip(stems, paths, strict=True)
    ]
    again = sorted(name for name, count in Counter(names).items() if count > 1)
    if again:
        raise InputError(
            f"two frames give the camera name {', '.join(map(repr, again[:5]))}; each image needs "
            "a path of its own"
        )
    return names
