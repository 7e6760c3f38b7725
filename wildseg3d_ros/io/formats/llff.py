"""``poses_bounds.npy`` of LLFF (Mildenhall et al., SIGGRAPH 2019), beside ``images/``.

One row of 17 numbers for each image, in the order of the images' names: a 3x5 matrix, row by row,
of which the first four columns are camera-to-world with the axes down, right, backwards, and the
last is height, width and focal length in pixels; then the nearest and the farthest depth. Images
may be in ``images_4/`` or the like, too, resized, and named otherwise there. Those of ``images_4``
are taken where they are: a quarter of the edge, which the papers use, and a sixteenth of the
memory. The scale is arbitrary: that of COLMAP.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.arrays import read_npy
from wildseg3d_ros.core.files.reading import is_folder, is_regular
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.resizing import rescaled
from wildseg3d_ros.core.geometry.transforms import make_transform, nearest_rotation
from wildseg3d_ros.core.types.views import check_pose
from wildseg3d_ros.io.formats.base import (
    Format,
    Frame,
    Frames,
    frame_of,
    images_in,
    natural_order,
    pinhole,
)
from wildseg3d_ros.io.images import read_color

_TITLE = "an LLFF scene"
_POSES = "poses_bounds.npy"


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    table = read_npy(folder / _POSES, "poses")
    if table.ndim != 2 or table.shape[1] != 17 or table.dtype.kind != "f":
        raise FileError(
            f"'{folder / _POSES}' must hold 17 floats for each image, got shape {table.shape} of "
            f"{table.dtype}"
        )
    smaller = sorted(folder.glob("images_*"), key=natural_order)
    places = (folder / "images_4", folder / "images", *smaller)
    place = next((p for p in places if p.is_dir()), folder / "images")
    images = list(images_in(place, f"the image folder of {_TITLE}").values())
    names = [path.stem for path in images]
    if is_folder(folder / "images"):
        own = [path.stem for path in images_in(folder / "images", "the image folder").values()]
        names = own if len(own) == len(names) else names
    if len(images) != len(table):
        raise FileError(
            f"'{folder / _POSES}' has poses of {len(table)} images, but '{place}' holds "
            f"{len(images)}; they belong together in the order of their names"
        )

    def read(i: int) -> Frame:
        matrix = table[i, :15].astype(np.float64).reshape(3, 5)
        down, right, backwards, position = matrix.T[:4]
        height, width, focal = matrix[:, 4]
        who = f"'{folder / _POSES}', row {i}"
        pose = make_transform(np.stack([right, down, -backwards], axis=1), position)
        check_pose(pose, who)
        pose[:3, :3] = nearest_rotation(pose[:3, :3])
        if not (np.isfinite(matrix[:, 4]).all() and height >= 1 and width >= 1 and focal > 0):
            raise FileError(f"{who}: height, width and focal length are {matrix[:, 4].tolist()}")
        image = read_color(images[i], upright=False)
        size, stored = (round(height), round(width)), image.shape[:2]
        K = pinhole(focal, focal, (width - 1) / 2, (height - 1) / 2)
        return frame_of(names[i], image, Lens(rescaled(K, size, stored), stored), pose)

    return Frames(len(images), read, metric=False)


FORMAT = Format(
    "llff",
    _TITLE,
    _POSES,
    lambda folder: is_regular(folder / _POSES),
    list_frames,
    before=("colmap",),  # which its poses are taken from, and which it is distributed with
)
