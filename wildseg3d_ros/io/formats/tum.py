"""Sequences of TUM RGB-D (Sturm et al., IROS 2012).

``rgb.txt`` and ``depth.txt`` list a stamp in seconds and a file on each line, ``groundtruth.txt``
a stamp, position and quaternion (x y z w) of the colour camera in the world, OpenCV's axes. Depth
is registered to colour, 5000 to the metre. Images and depth belong together by stamp, and poses
are interpolated between their neighbours. The folder has no intrinsics: ``calibration.txt`` beside
the lists may hold fx fy cx cy, and k1 k2 p1 p2 k3 after them; else those are taken that the data
set recommends for its registered depth.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import (
    interpolate,
    make_transform,
    rotation_from_quaternion,
)
from wildseg3d_ros.io.formats.base import (
    Format,
    Frame,
    Frames,
    frame_of,
    pinhole,
    read_matrix,
    required,
)
from wildseg3d_ros.io.images import read_color, read_depth

_TITLE = "a TUM RGB-D sequence"
_PARTS = ("rgb", "depth", "groundtruth")
_DEPTH_UNIT = 1 / 5000
_SLOP_NS = 20_000_000
"""Between an image and its depth: that of the data set's associate.py."""
_GAP_NS = 100_000_000
"""Between two poses of which one in the middle is made; they come 100 times a second."""
_LATEST = 2**33
"""Seconds that a stamp may have: nanoseconds of 64 bits."""
_RECOMMENDED = (525.0, 525.0, 319.5, 239.5), (480, 640)
"""fx fy cx cy and (height, width): vision.in.tum.de/data/datasets/rgbd-dataset/file_formats."""


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    paths = {part: required(folder / f"{part}.txt", _TITLE) for part in _PARTS}
    colors, depths = (_rows(paths[part], 1) for part in ("rgb", "depth"))
    truth = [(stamp, _pose(words)) for stamp, words in _rows(paths["groundtruth"], 7)]
    stamps = np.array([stamp for stamp, _ in truth], np.int64)
    if not truth:
        raise FileError(f"'{paths['groundtruth']}' has no poses")
    pairs = _associated([s for s, _ in colors], [s for s, _ in depths])
    if not pairs:
        raise FileError(
            f"no image of '{paths['rgb']}' ({len(colors)}) and depth of '{paths['depth']}' "
            f"({len(depths)}) are stamped within 20 ms of each other",
            ErrorCode.NO_IMAGES,
        )
    (*pinhole_values, k1, k2, p1, p2, k3), told = _intrinsics(folder)
    K, distortion = pinhole(*pinhole_values), np.array([k1, k2, p1, p2, k3])
    distortion = distortion[: 5 * bool(distortion.any())]

    def pose_of(i: int) -> NDArray[np.float64]:
        stamp_ns, color = colors[pairs[i][0]]
        return _pose_at(truth, stamps, stamp_ns, Path(color[0]).stem)

    def read(i: int) -> Frame:
        (stamp_ns, color), (_, depth_file) = colors[pairs[i][0]], depths[pairs[i][1]]
        name, pose = Path(color[0]).stem, pose_of(i)
        image = read_color(folder / color[0], upright=False)
        size = image.shape[:2]
        if told and size != _RECOMMENDED[1]:
            raise FileError(
                f"'{folder}' has no calibration.txt (fx fy cx cy), and its images of "
                f"{size[1]}x{size[0]} are not those that the data set's intrinsics are for"
            )
        depth = read_depth(folder / depth_file[0], _DEPTH_UNIT)
        view, _ = frame_of(name, image, Lens(K, size, distortion), pose, depth)
        return replace(view, stamp_ns=stamp_ns), None

    return Frames(len(pairs), read, warnings=told, check=pose_of)


def _intrinsics(folder: Path) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """fx fy cx cy k1 k2 p1 p2 k3, and what is to be told of them."""
    path = folder / "calibration.txt"
    if is_regular(path):
        what = "intrinsics (fx fy cx cy, and of a lens k1 k2 p1 p2 k3)"
        found = read_matrix(path, what, (1, 4), (1, 9))[0]
        return (*found, *[0.0] * (9 - len(found))), ()
    values = (*_RECOMMENDED[0], *[0.0] * 5)
    text = ", ".join(f"{value:g}" for value in _RECOMMENDED[0])
    told = (
        f"'{folder}' has no calibration.txt (fx fy cx cy): the intrinsics are those that TUM "
        f"recommends, {text}"
    )
    return values, (told,)


def _rows(path: Path, least: int) -> list[tuple[int, list[str]]]:
    """Nanoseconds and words of each line, by time."""
    rows = []
    for number, line in enumerate(read_text(path, "list").splitlines(), start=1):
        stamp, *words = line.replace(",", " ").split() or ["#"]
        if stamp.startswith("#"):
            continue
        try:
            seconds = Decimal(stamp)
            if not abs(seconds) < _LATEST:
                raise ValueError
            rows.append((int(seconds * 10**9), words))
        except (InvalidOperation, ValueError):
            raise FileError(f"'{path}', line {number}: '{stamp[:40]}' is no stamp") from None
        if len(words) < least:
            raise FileError(
                f"'{path}', line {number}: expected a stamp and {least} more, got {len(words)}"
            )
    return sorted(rows, key=lambda row: row[0])


def _associated(stamps: list[int], others: list[int]) -> list[tuple[int, int]]:
    """Pairs of indices that belong together, each used once, the closest first."""
    if not stamps or not others:
        return []
    times = np.array(others)
    after = np.searchsorted(times, stamps)
    near = [
        (abs(int(times[j]) - stamp), i, j)
        for i, (stamp, at) in enumerate(zip(stamps, after, strict=True))
        for j in (at - 1, at)
        if 0 <= j < len(times) and abs(int(times[j]) - stamp) <= _SLOP_NS
    ]
    used: set[int] = set()
    found: dict[int, int] = {}
    for _, i, j in sorted(near):
        if i not in found and j not in used:
            found[i] = int(j)
            used.add(j)
    return sorted(found.items())


def _pose(words: list[str]) -> NDArray[np.float64]:
    try:
        x, y, z, *quat_xyzw = (float(word) for word in words[:7])
        return make_transform(rotation_from_quaternion(quat_xyzw), [x, y, z])
    except ValueError as error:
        raise FileError(f"groundtruth.txt: no pose in '{' '.join(words)[:80]}': {error}") from None


def _pose_at(
    truth: list[tuple[int, NDArray[np.float64]]],
    stamps: NDArray[np.int64],
    stamp_ns: int,
    name: str,
) -> NDArray[np.float64]:
    at = int(np.searchsorted(stamps, stamp_ns))
    before, after = truth[max(at - 1, 0)], truth[min(at, len(truth) - 1)]
    if after[0] == stamp_ns:
        return after[1]
    if not before[0] < stamp_ns < after[0] or after[0] - before[0] > _GAP_NS:
        raise InputError(
            f"camera '{name}': groundtruth.txt has no poses about its time",
            ErrorCode.BAD_CALIBRATION,
        )
    share = (stamp_ns - before[0]) / (after[0] - before[0])
    return interpolate(before[1], after[1], share)


def _found(folder: Path) -> bool:
    return sum(is_regular(folder / f"{part}.txt") for part in _PARTS) >= 2


FORMAT = Format("tum", _TITLE, "rgb.txt, depth.txt, groundtruth.txt", _found, list_frames)
