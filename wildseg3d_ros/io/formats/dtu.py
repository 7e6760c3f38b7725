"""DTU's multi-view data (Jensen et al., CVPR 2014), as its authors and as MVSNet's distribute it.

Images of a scan are in ``Rectified/scan1/``: ``rect_001_3_r5000.png`` is the first view by light 3
of 7, ``rect_001_max.png`` by all. One light of each view is read. Cameras are of all scans:
``Calibration/cal18/pos_001.txt``, a 3x4 matrix world to pixel, or ``Cameras/00000000_cam.txt`` of
MVSNet's layout, whose numbers begin at 0. Lengths are millimetres.

MVSNet's images to train on (``scan1_train``) are 640x512: half of the 1600x1200 that the cameras
are of, without 80 and 44 pixels of each side.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_folder
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.resizing import rescaled
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
    read_matrix,
)
from wildseg3d_ros.io.formats.mvsnet import read_camera
from wildseg3d_ros.io.images import read_color

_TITLE = "a scan of DTU's multi-view data"
_IMAGES, _CAMERAS = "Rectified", ("Calibration", "Cameras")
_NAME = re.compile(r"(?P<view>[a-z]+_(?P<number>\d+))_(?P<light>.+)")
_LIGHT = "3_r5000"
"""That is taken where there are several: MVSNet's."""
_CALIBRATED, _TRAINED = (1200, 1600), (512, 640)


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    scan = _scan(folder)
    root = scan.parent.parent
    images = images_in(scan, f"the image folder of {_TITLE}")
    matched = [(match, path) for stem, path in images.items() if (match := _NAME.fullmatch(stem))]
    views = []
    for name, lit in groupby(matched, key=lambda each: each[0]["view"]):
        lights = {match["light"]: path for match, path in lit}
        path = lights.get(_LIGHT) or next(iter(lights.values()))
        views.append((name, int(name.rpartition("_")[2]), path))
    files = _cameras(root)

    def camera_of(i: int) -> Path:
        name, number, _ = views[i]
        if number not in files:
            where = " or ".join(f"'{root / each}'" for each in _CAMERAS)
            raise FileError(f"{_TITLE} has no camera {number} of '{name}' in {where}")
        return files[number]

    def read(i: int) -> Frame:
        name, _, path = views[i]
        K, pose = _camera(camera_of(i))
        image = read_color(path, upright=False)
        if image.shape[:2] == _TRAINED and K[0, 2] > _TRAINED[1]:
            K = rescaled(K, _CALIBRATED, (_CALIBRATED[0] // 2, _CALIBRATED[1] // 2))
            K[:2, 2] -= 80, 44
        return frame_of(name, image, Lens(K, image.shape[:2]), pose)

    read_here = {path for _, _, path in views}
    others = [path.name for path in images.values() if path not in read_here]
    told = f"{len(others)} of the images in '{scan}' are not read, as others of their views are"
    warnings = (f"{told}: {named(others)}",) if others else ()
    return Frames(len(views), read, warnings=warnings, check=camera_of)


def _scan(folder: Path) -> Path:
    """The folder of a scan's images: the one given, or the only one in it."""
    if not is_folder(folder / _IMAGES):
        return folder
    scans = sorted(filter(is_folder, (folder / _IMAGES).iterdir()), key=natural_order)
    if len(scans) == 1:
        return scans[0]
    there = named([f"{_IMAGES}/{scan.name}" for scan in scans])
    raise FileError(f"'{folder}' has {len(scans)} scans, give one of them: {there}")


def _cameras(root: Path) -> dict[int, Path]:
    """Camera files by the number of the view, from 1."""
    files = sorted(root.glob("Calibration/*/pos_*.txt"), key=lambda path: path.parts, reverse=True)
    found = {int(path.stem[4:]): path for path in files if path.stem[4:].isdecimal()}
    if found:  # of several calibrations the first by name
        return found
    files = [path for path in root.glob("Cameras/*_cam.txt") if path.name[:-8].isdecimal()]
    return {int(path.name[:-8]) + 1: path for path in files}


def _camera(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K and ``world_from_cam`` of a file, in metres."""
    if path.name.endswith("_cam.txt"):
        K, pose = read_camera(path)
    else:
        K, pose = _decomposed(read_matrix(path, "projection matrix", (3, 4)), path)
    pose[:3, 3] /= 1000
    return K, pose


def _decomposed(
    matrix: NDArray[np.float64], path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K and ``world_from_cam`` of K [R t], known up to a factor."""
    if not np.isfinite(matrix).all() or not np.linalg.det(matrix[:, :3]):
        raise FileError(f"'{path}' is no projection matrix")
    matrix = matrix * np.sign(np.linalg.det(matrix[:, :3]))
    # RQ by QR: of the matrix turned upside down and transposed.
    q, r = np.linalg.qr(matrix[::-1, :3].T)
    K, rotation = r.T[::-1, ::-1], q.T[::-1]
    signs = np.sign(np.diag(K))
    K, rotation = K * signs, signs[:, None] * rotation
    translation = np.linalg.solve(K, matrix[:, 3])
    K = K / K[2, 2]
    K[0, 1] = 0.0  # of rounding: these pixels are rectangular
    pose = make_transform(nearest_rotation(rotation), translation)
    check_pose(pose, f"'{path}'")
    return K, invert(pose)


def _found(folder: Path) -> bool:
    root = folder if is_folder(folder / _IMAGES) else folder.parent.parent
    scanned = root == folder or folder.parent.name == _IMAGES
    return scanned and any(is_folder(root / each) for each in _CAMERAS)


FORMAT = Format(
    "dtu",
    _TITLE,
    f"{_IMAGES}/scan*/ beside {' or '.join(each + '/' for each in _CAMERAS)}",
    _found,
    list_frames,
)
