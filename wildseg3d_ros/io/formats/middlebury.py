"""Multi-view scenes of Middlebury (https://vision.middlebury.edu/mview/data): temple, dino.

Images, and one ``*_par.txt``: the number of images, then for each of them its name, K, R and t of
``K [R t]`` (world to camera, OpenCV's axes), row by row. Lengths of these scenes are metres.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, nearest_rotation
from wildseg3d_ros.core.types.views import check_pose
from wildseg3d_ros.io.formats.base import Format, Frame, Frames, frame_of
from wildseg3d_ros.io.frames import unique_names
from wildseg3d_ros.io.images import read_color

_TITLE = "a scene of Middlebury's multi-view data"


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    listed = sorted(folder.glob("*_par.txt"))
    if len(listed) != 1:
        raise FileError(f"'{folder}' holds {len(listed)} files named *_par.txt, expected one")
    cameras = []
    lines = read_text(listed[0], "camera file").split("\n")
    for number, line in enumerate(lines[1:], start=2):
        name, *texts = line.split() or [""]
        if name:
            cameras.append((name, *_camera(texts, f"'{listed[0]}', line {number}")))
    if not cameras:
        raise FileError(f"'{listed[0]}' names no image", ErrorCode.NO_IMAGES)
    names = unique_names([file for file, _, _ in cameras])

    def read(i: int) -> Frame:
        file, K, pose = cameras[i]
        image = read_color(folder / file, upright=False)
        return frame_of(names[i], image, Lens(K, image.shape[:2]), pose)

    return Frames(len(names), read)


def _camera(texts: list[str], where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K and ``world_from_cam`` of the numbers of a line."""
    try:
        values = np.array([float(text) for text in texts])
        K, rotation = values[:9].reshape(3, 3), values[9:18].reshape(3, 3)
        given = make_transform(rotation, values[18:].reshape(3))
    except ValueError as error:
        raise FileError(
            f"{where}: expected a name and 21 numbers, got {len(texts)}: {error}"
        ) from error
    check_pose(given, where)
    return K, invert(make_transform(nearest_rotation(rotation), given[:3, 3]))


FORMAT = Format(
    "middlebury",
    _TITLE,
    "*_par.txt",
    lambda folder: any(folder.glob("*_par.txt")),
    list_frames,
)
