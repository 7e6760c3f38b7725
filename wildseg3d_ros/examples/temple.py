"""Converts a Middlebury multi-view scene (temple, dino) to the project's folder format.

    python examples/temple.py SRC DST

SRC is laid out as https://vision.middlebury.edu/mview/data publishes its scenes: images, and one
``*_par.txt`` with a line for each of them: name, K, R and t of ``K [R t]`` (world to camera,
OpenCV axes), row by row. Lengths of these scenes are metres.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from wildseg3d_ros.core.errors import ErrorCode, FileError, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, nearest_rotation
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.io.images import read_color


def load_middlebury_scene(folder: str | Path) -> Recording:
    """Reads a scene: RGB views with K and poses.

    Raises:
        FileError: a file is missing or not as described above.
    """
    folder = Path(folder)
    listed = sorted(folder.glob("*_par.txt"))
    if len(listed) != 1:
        raise FileError(f"'{folder}' holds {len(listed)} files named *_par.txt, expected one")
    try:
        lines = listed[0].read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read '{listed[0]}': {error}") from error
    views = []
    for number, line in enumerate(lines[1:], start=2):
        name, *texts = line.split() or [""]
        if not name:
            continue
        try:
            values = np.array([float(text) for text in texts])
            K, rotation = values[:9].reshape(3, 3), values[9:18].reshape(3, 3)
            cam_from_world = make_transform(nearest_rotation(rotation), values[18:].reshape(3))
        except ValueError as error:
            raise FileError(
                f"'{listed[0]}', line {number}: expected a name and 21 numbers, got {len(texts)}: "
                f"{error}"
            ) from error
        image = read_color(folder / name, upright=False)
        views.append(View(Path(name).stem, image, K, None, invert(cam_from_world)))
    if not views:
        raise FileError(f"'{listed[0]}' names no image", ErrorCode.NO_IMAGES)
    return Recording(tuple(views), (None,) * len(views), {})


def convert(source: str | Path, target: str | Path) -> None:
    """Writes a scene in the project's folder format.

    Raises:
        FileError: the scene cannot be read or the folder not be written.
    """
    write_folder(target, load_middlebury_scene(source))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", help="folder with images and *_par.txt")
    parser.add_argument("target", metavar="DST", help="folder to write")
    given = parser.parse_args(arguments)
    try:
        convert(given.source, given.target)
    except WildSeg3DError as error:
        print(f"temple: error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {given.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
