"""Camera files of MVSNet (Yao et al., ECCV 2018), in which DTU and BlendedMVS are distributed.

``cams/00000000_cam.txt`` for each image: the word ``extrinsic`` and a 4x4 world-to-camera matrix
with OpenCV's axes, the word ``intrinsic`` and a 3x3 matrix, and the least depth and its step. The
images are in ``images/`` or ``blended_images/``, by the same number. The files say no unit: DTU's
is the millimetre, that of others is arbitrary.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, nearest_rotation
from wildseg3d_ros.core.types.views import check_pose
from wildseg3d_ros.io.formats.base import (
    Format,
    Frame,
    Frames,
    frame_of,
    images_in,
    named,
    natural_order,
)
from wildseg3d_ros.io.images import read_color

_TITLE = "a scene of MVSNet's layout (DTU, BlendedMVS)"
_FOLDERS = ("images", "blended_images", "image")
_SUFFIX = "_cam.txt"


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    files = sorted((folder / "cams").glob(f"*{_SUFFIX}"), key=natural_order)
    place = next((p for name in _FOLDERS if (p := folder / name).is_dir()), folder / _FOLDERS[0])
    images = images_in(place, f"the image folder of {_TITLE}")

    names = [file.name.removesuffix(_SUFFIX) for file in files]

    def image_of(i: int) -> Path:
        if names[i] not in images:
            raise FileError(f"'{files[i]}' has no image '{names[i]}' in '{place}'")
        return images[names[i]]

    def read(i: int) -> Frame:
        path = image_of(i)
        K, pose = read_camera(files[i])
        image = read_color(path, upright=False)
        return frame_of(names[i], image, Lens(K, image.shape[:2]), pose)

    # BlendedMVS has each image without its background, too.
    known = {*names, *(f"{name}_masked" for name in names)}
    others = [path.name for stem, path in images.items() if stem not in known]
    told = f"{len(others)} of the images in '{place}' are not read, as 'cams' has no file "
    told += f"NAME{_SUFFIX} of them: {named(others)}"
    warnings = (told,) if others else ()
    return Frames(len(files), read, warnings=warnings, metric=False, check=image_of)


def read_camera(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K and ``world_from_cam`` of a file."""
    words = read_text(path, "camera file").split()
    try:
        at, then = words.index("extrinsic") + 1, words.index("intrinsic") + 1
        cam_from_world = np.array([float(w) for w in words[at : at + 16]]).reshape(4, 4)
        K = np.array([float(w) for w in words[then : then + 9]]).reshape(3, 3)
    except ValueError as error:
        raise FileError(
            f"camera file '{path}' must hold 'extrinsic' and 16 numbers, then 'intrinsic' and 9: "
            f"{error}"
        ) from error
    check_pose(cam_from_world, f"'{path}': extrinsic")
    # Written with six decimals or fewer.
    rotation = nearest_rotation(cam_from_world[:3, :3])
    return K, invert(make_transform(rotation, cam_from_world[:3, 3]))


FORMAT = Format(
    "mvsnet",
    _TITLE,
    f"cams/*{_SUFFIX}",
    lambda folder: any((folder / "cams").glob(f"*{_SUFFIX}")),
    list_frames,
)
