"""Scenes of the BOP benchmark (https://github.com/thodan/bop_toolkit/blob/master/docs/).

``scene_camera.json`` and ``scene_gt.json``, both by the number of the image, with ``rgb/`` or
``gray/``, ``depth/`` (ITODD: TIFF) and ``mask_visib/000000_000001.png`` (image, place in the list
of ``scene_gt``). Lengths are millimetres; a depth image holds steps of ``depth_scale`` of them.
Camera poses are world to camera, where the data set has them.

Each instance becomes a label that is the same in all views. The place in the lists does not say
which is which: a kind of object that is there once is told by its number, others by where the
camera poses put them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform, nearest_rotation
from wildseg3d_ros.core.types.views import check_pose
from wildseg3d_ros.io.formats.base import Format, Frame, Frames, frame_of, images_in, required
from wildseg3d_ros.io.images import read_color, read_depth, read_labels

_TITLE = "a BOP scene"
_CAMERA, _TRUTH = "scene_camera.json", "scene_gt.json"
_METRES = 0.001
_MOST = 500
"""Objects of a scene."""
_SAME = 0.02
"""Metres within which an instance is the same one in another image."""


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    cameras = _mapping(required(folder / _CAMERA, _TITLE))
    place = next((p for n in ("rgb", "gray") if (p := folder / n).is_dir()), folder / "rgb")
    images = images_in(place, f"the image folder of {_TITLE}")
    folders = folder / "depth", folder / "mask_visib"
    has_truth, has_depth, has_masks = is_regular(folder / _TRUTH), *map(Path.is_dir, folders)
    depths = images_in(folders[0], f"the depth folder of {_TITLE}") if has_depth else {}
    truth = _mapping(folder / _TRUTH) if has_truth and has_masks else {}
    numbers = [stem for stem in images if str(int(stem)) in cameras] if _numbered(images) else []
    if not numbers:
        raise FileError(f"'{folder / _CAMERA}' names none of the images in '{place}'")
    told = tuple(
        f"{_TITLE} has no {what}, and gives no {lacks}"
        for what, there, lacks in (
            (_TRUTH, has_truth, "object masks"),
            ("mask_visib/", has_masks or not has_truth, "object masks"),
            ("depth/", has_depth, "depth"),
        )
        if not there
    )
    poses = {n: _pose(cameras[str(int(n))], f"'{folder / _CAMERA}', image {n}") for n in numbers}
    labels, names = _instances({n: truth.get(str(int(n)), []) for n in numbers}, poses, folder)

    def read(i: int) -> Frame:
        number = numbers[i]
        entry = cameras[str(int(number))]
        image = read_color(images[number], upright=False)
        K = _numbers(entry, "cam_K", (3, 3), f"'{folder / _CAMERA}', image {number}")
        depth = None
        if has_depth:
            where = f"'{folder / _CAMERA}', image {number}"
            scale = float(_numbers({"depth_scale": 1.0} | entry, "depth_scale", (), where))
            path = depths.get(number, folders[0] / f"{number}.png")
            depth = read_depth(path, scale * _METRES)
        mask = _mask(folder, number, labels[number], image.shape[:2]) if truth else None
        return frame_of(number, image, Lens(K, image.shape[:2]), poses[number], depth, mask)

    return Frames(len(numbers), read, names, told)


def _numbered(images: Mapping[str, Path]) -> bool:
    return all(stem.isdecimal() for stem in images)


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path, _TITLE)
    if not isinstance(value, dict):
        raise FileError(f"'{path}' holds a {type(value).__name__}, expected images by number")
    return value


def _numbers(entry: Any, key: str, shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    try:
        return np.array(entry[key], dtype=np.float64).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{where}: '{key}' must be {int(np.prod(shape))} numbers: {error!r}",
            ErrorCode.BAD_CALIBRATION,
        ) from None


def _whole(entry: Any, key: str, where: str) -> int:
    value = float(_numbers(entry, key, (), where))
    if not abs(value) < 1e9:
        raise FileError(f"{where}: '{key}' must be a whole number, got {value}")
    return int(value)


def _pose(entry: Any, where: str) -> NDArray[np.float64] | None:
    if not isinstance(entry, dict):
        raise FileError(f"{where}: expected an object with cam_K")
    if "cam_R_w2c" not in entry:
        return None
    rotation = _numbers(entry, "cam_R_w2c", (3, 3), where)
    position = _numbers(entry, "cam_t_w2c", (3,), where) * _METRES
    cam_from_world = check_pose(make_transform(rotation, position), where)
    return invert(make_transform(nearest_rotation(rotation), cam_from_world[:3, 3]))


def _instances(
    truth: Mapping[str, Any], poses: Mapping[str, NDArray[np.float64] | None], folder: Path
) -> tuple[dict[str, list[int]], dict[int, str]]:
    """Labels of each image's list, and names of the labels."""
    path = folder / _TRUTH
    known: dict[int, list[tuple[int, NDArray[np.float64] | None]]] = defaultdict(list)
    labels: dict[str, list[int]] = {}
    names: dict[int, str] = {}
    for number, listed in truth.items():
        labels[number], used = [], set()
        where = f"'{path}', image {number}"
        if not isinstance(listed, list) or len(listed) > _MOST or len(names) > _MOST:
            raise FileError(f"{where}: expected a list of objects, at most {_MOST} in all images")
        for entry in listed:
            kind = _whole(entry, "obj_id", where)
            position, pose = _numbers(entry, "cam_t_m2c", (3,), where) * _METRES, poses[number]
            world = None if pose is None else apply(pose, position)
            label = next(
                (each for each, at in known[kind] if each not in used and _same(at, world)), 0
            )
            if not label:
                label = len(names) + 1 + (len(names) >= 254)  # 255 is not scored
                known[kind].append((label, world))
                names[label] = f"object {kind}" + (
                    f" ({n})" if (n := len(known[kind])) > 1 else ""
                )
            used.add(label)
            labels[number].append(label)
    return labels, names


def _same(at: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> bool:
    """Whether two places may be one; without camera poses nothing speaks against it."""
    return at is None or other is None or float(np.linalg.norm(at - other)) < _SAME


def _mask(folder: Path, number: str, labels: list[int], size: tuple[int, int]) -> NDArray:
    mask = np.zeros(size, np.uint16)
    for place, label in enumerate(labels):
        path = folder / "mask_visib" / f"{number}_{place:06d}.png"
        visible = read_labels(required(path, _TITLE), keeps=0 if place else mask.itemsize)
        if visible.shape != size:
            raise FileError(
                f"mask '{path}' is {visible.shape[1]}x{visible.shape[0]}, its image "
                f"{size[1]}x{size[0]}"
            )
        mask[visible > 0] = label
    return mask


FORMAT = Format(
    "bop",
    _TITLE,
    f"{_CAMERA}, {_TRUTH}",
    lambda folder: any(is_regular(folder / name) for name in (_CAMERA, _TRUTH)),
    list_frames,
)
