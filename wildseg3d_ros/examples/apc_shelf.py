"""Converts a scene of the Amazon Picking Challenge 2016 recordings to the project's folder format.

    python examples/apc_shelf.py SRC DST

SRC is laid out as https://github.com/andyzeng/apc-vision-toolbox publishes its scenes:
``cam.info.txt`` (intrinsics and camera-to-world poses, OpenCV axes, metres),
``frame-*.color.png``, ``frame-*.depth.png`` registered to colour and, where there are any, label
images in ``segm/frame-*.segm.png``. Its depth is stored with the bits of each value rotated left
by three, in steps of 0.1 mm (``rgbd-utils/matlab/readDepth.m`` there).
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, WildSeg3DError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.io.images import read_color, read_labels

DEPTH_UNIT = 1e-4
"""Metres per step of the depth images."""

OBJECT_NAMES = {
    48: "chenille stems",
    114: "bunny book",
    132: "kleenex box",
    144: "joke book",
}
"""Labels of the masks that come with the sample scene."""


def is_apc_scene(folder: str | Path) -> bool:
    """Whether a folder is laid out as this module reads it."""
    return (Path(folder) / "cam.info.txt").is_file()


def load_apc_scene(folder: str | Path) -> Recording:
    """Reads a scene.

    Raises:
        FileError: a file is missing or not as described above.
    """
    folder = Path(folder)
    matrices = _read_matrices(folder / "cam.info.txt")
    K = matrices.get("color camera intrinsic matrix")
    if K is None or K.shape != (3, 3):
        raise FileError(f"'{folder / 'cam.info.txt'}' has no 3x3 colour camera intrinsic matrix")
    views, masks = [], []
    for color in sorted(folder.glob("frame-*.color.png")):
        name = color.name.removesuffix(".color.png")
        pose = matrices.get(f"camera-to-world extrinsic matrix (camera pose) for {name}")
        if pose is None:
            raise FileError(f"'{folder / 'cam.info.txt'}' has no camera pose for {name}")
        depth = decode_depth(read_labels(folder / f"{name}.depth.png"))
        views.append(View(name, read_color(color, upright=False), K, depth, pose))
        mask = folder / "segm" / f"{name}.segm.png"
        masks.append(read_labels(mask) if mask.is_file() else None)
    if not views:
        raise FileError(f"'{folder}' holds no frame-*.color.png", ErrorCode.NO_IMAGES)
    found = {int(label) for mask in masks if mask is not None for label in np.unique(mask)}
    names = {label: name for label, name in OBJECT_NAMES.items() if label in found}
    return Recording(tuple(views), tuple(masks), names)


def decode_depth(stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Metres from stored values: rotated right by three bits, steps of 0.1 mm."""
    steps = (stored << np.uint16(13)) | (stored >> np.uint16(3))
    return steps.astype(np.float32) * np.float32(DEPTH_UNIT)


def convert(source: str | Path, target: str | Path) -> None:
    """Writes a scene in the project's folder format.

    Raises:
        FileError: the scene cannot be read or the folder not be written.
    """
    write_folder(target, load_apc_scene(source), depth_unit=DEPTH_UNIT)


def _read_matrices(path: Path) -> dict[str, NDArray[np.float64]]:
    """Matrices by the comment above them, in lower case."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read '{path}': {error}") from error
    matrices = {}
    for title, body in re.findall(
        r"^#\s*(.+)\n((?:[ \t]*[-+\d.][^\n]*(?:\n|$))+)", text, re.MULTILINE
    ):
        try:
            rows = [[float(x) for x in line.split()] for line in body.splitlines()]
            matrices[title.strip().lower()] = np.array(rows)
        except ValueError as error:
            raise FileError(f"'{path}': '{title}' is not a matrix: {error}") from error
    return matrices


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", help="folder with cam.info.txt")
    parser.add_argument("target", metavar="DST", help="folder to write")
    given = parser.parse_args(arguments)
    try:
        convert(given.source, given.target)
    except WildSeg3DError as error:
        print(f"apc_shelf: error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {given.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
