"""Scenes of the Amazon Picking Challenge 2016 (github.com/andyzeng/apc-vision-toolbox).

``cam.info.txt`` with the intrinsics and a camera-to-world pose for each frame,
``frame-*.color.png``, ``frame-*.depth.png`` registered to colour and, where there are any, label
images in ``segm/frame-*.segm.png``. Depth is stored with the bits of each value rotated left by
three, in steps of 0.1 mm (``rgbd-utils/matlab/readDepth.m`` there).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.io.formats.base import Format, Frame, Frames, frame_of
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
_INFO = "cam.info.txt"
_NUMBER = tuple("-+.0123456789")


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    matrices = _read_matrices(folder / _INFO)
    K = matrices.get("color camera intrinsic matrix")
    if K is None or K.shape != (3, 3):
        raise FileError(f"'{folder / _INFO}' has no 3x3 colour camera intrinsic matrix")
    colors = sorted(folder.glob("frame-*.color.png"))
    if not colors:
        raise FileError(f"'{folder}' holds no frame-*.color.png", ErrorCode.NO_IMAGES)
    names = [color.name.removesuffix(".color.png") for color in colors]

    def read(i: int) -> Frame:
        name = names[i]
        pose = matrices.get(f"camera-to-world extrinsic matrix (camera pose) for {name}")
        if pose is None:
            raise FileError(f"'{folder / _INFO}' has no camera pose for {name}")
        image = read_color(colors[i], upright=False)
        depth = decode_depth(read_labels(folder / f"{name}.depth.png"))
        path = folder / "segm" / f"{name}.segm.png"
        mask = read_labels(path) if is_regular(path) else None
        return frame_of(name, image, Lens(K, image.shape[:2]), pose, depth, mask)

    return Frames(len(names), read, OBJECT_NAMES)


def decode_depth(stored: NDArray) -> NDArray[np.float32]:
    """Metres from stored 16-bit values: rotated right by three bits, steps of 0.1 mm."""
    stored = stored.astype(np.uint16)
    steps = (stored << np.uint16(13)) | (stored >> np.uint16(3))
    return steps.astype(np.float32) * np.float32(DEPTH_UNIT)


def _read_matrices(path: Path) -> dict[str, NDArray[np.float64]]:
    """Matrices by the comment above them, in lower case."""
    matrices = {}
    title = ""
    for kind, group in itertools.groupby(read_text(path, "calibration").splitlines(), _kind):
        lines = list(group)
        if kind == "row" and title:
            try:
                matrices[title] = np.array([[float(x) for x in line.split()] for line in lines])
            except ValueError as error:
                raise FileError(f"'{path}': '{title}' is not a matrix: {error}") from error
        title = lines[-1][1:].strip().lower() if kind == "title" else ""
    return matrices


def _kind(line: str) -> str:
    if line.startswith("#"):
        return "title"
    return "row" if line.lstrip().startswith(_NUMBER) else ""


FORMAT = Format(
    "apc",
    "a scene of the Amazon Picking Challenge",
    _INFO,
    lambda folder: is_regular(folder / _INFO),
    list_frames,
)
