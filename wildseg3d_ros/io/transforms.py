"""``transforms.json`` of a recording: cameras, frames, and the images that it names."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.files.reading import is_regular, shown
from wildseg3d_ros.core.files.text import read_json
from wildseg3d_ros.core.geometry.lens import Lens, resampled
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.core.types.views import check_pose
from wildseg3d_ros.io.formats.base import IGNORE, Frames, alike
from wildseg3d_ros.io.frames import chosen_frames, read_each, unique_names
from wildseg3d_ros.io.images import SUFFIXES, ImageFile, read_depth, read_labels

TRANSFORMS = "transforms.json"
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Camera axes: OpenGL looks along -z with y up. The matrix is its own inverse."""

INTRINSICS = ("fl_x", "fl_y", "cx", "cy")
_ROUNDED = 2e-3
"""By which R R^T of a rotation that was written with three decimals differs from 1: up to
2 sqrt(3) 0.0005."""

# In nerfstudio every perspective model may carry coefficients; the name does not limit them.
_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE")
_FISHEYE = ("OPENCV_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_RADIAL_FISHEYE")
_COEFFICIENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_PERSPECTIVE, ("k1", "k2", "p1", "p2", "k3")),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    **dict.fromkeys(_FISHEYE, ("k1", "k2", "k3", "k4")),
}
"""Distortion coefficients of each camera model, in OpenCV's order."""

_LENS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_READ = (
    *INTRINSICS, "pixel_center", "colmap_im_id", "camera_model", "is_fisheye", "camera_angle_x",
    "camera_angle_y", "w", "h", *_LENS, "depth_unit_scale_factor", "frames", "object_names",
    "file_path", "transform_matrix", "depth_file_path", "object_mask_path", "stamp_ns", "frame_id",
)  # fmt: skip
_HARMLESS = (
    "aabb", "aabb_scale", "applied_scale", "applied_transform", "auto_scale_poses_override",
    "fps", "mask_path", "offset", "orientation_override", "ply_file_path", "scale",
    "sharpness", "test_filenames", "train_filenames", "val_filenames",
)  # fmt: skip
"""Keys of nerfstudio and instant-ngp that say nothing of views."""
_MEANT = {
    "depth_unit_scale_factor": (
        "depth_scale",
        "depth_unit",
        "depth_factor",
        "integer_depth_scale",
    ),
    "depth_file_path": ("depth", "depth_path", "depth_file"),
    "transform_matrix": (
        "pose",
        "c2w",
        "cam2world",
        "camera_to_world",
        "extrinsics",
        "transform",
        "quaternion",
        "rotation",
        "qvec",
    ),
    "fl_x": (
        "intrinsics",
        "intrinsic_matrix",
        "K",
        "camera_matrix",
        "focal",
        "focal_length",
        "fl",
        "fx",
        "focal_length_x",
        "f_x",
    ),
    "fl_y": ("fy", "focal_length_y", "f_y"),
    "cx": ("principal_point_x", "ppx"),
    "cy": ("principal_point_y", "ppy"),
    "camera_angle_x": ("fov", "hfov", "fov_x", "fovx"),
    "camera_angle_y": ("vfov", "fov_y", "fovy"),
    "k1": ("distortion", "distortion_params", "distortion_coefficients"),
    "w": ("width",),
    "h": ("height",),
    "file_path": ("image", "image_path", "file_name", "filename"),
}
"""Keys of other conventions, by the key that says it here."""
_ALIKE = {
    "depth_unit_scale_factor": "depth.*(scale|factor|multiplier|unit)",
    "depth_file_path": "depth",
    "transform_matrix": "pose|extrinsic|worldfromcam|cam(era)?(to|2)world|^(twc|wtc|rt)$",
    "fl_x": "focal|intrinsic|(camera|k|cam)(matrix|mtx)",
    "camera_angle_x": "fov|fieldofview|angleofview",
    "k1": "distort",
    "object_mask_path": "instancemask|labelmask|segmentation",
}
"""What keys of still others have in them."""
_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""How a path begins that only the machine has which wrote it: a drive, or a share."""
_MOST_KEYS, _LONGEST_KEY = 50, 60
"""Keys that are looked at, and characters of one: of what is not read there may be any number."""


def load_transforms(
    folder: Path, max_views: int | None, progress: Progress, strict: bool
) -> tuple[tuple[View, ...], tuple[NDArray | None, ...], dict[int, str], tuple[str, ...]]:
    """Views, label images, names of labels and warnings of a folder: see
    :func:`wildseg3d_ros.io.folder.load_folder`."""
    told: list[str] = []
    listed = list_transforms(folder / TRANSFORMS, told)
    chosen, passed = chosen_frames(listed.count, max_views, listed.check, strict)
    loaded, left_out = read_each(chosen, listed.read, progress, strict)
    views, masks = zip(*loaded, strict=True)
    return views, masks, dict(listed.object_names), (*listed.warnings, *told, *passed, *left_out)


def list_transforms(file: Path, told: list[str]) -> Frames:
    """The frames that a file lists, none of them read yet.

    Args:
        file: ``transforms.json``, or another of its kind.
        told: gets warnings while frames are read.
    """
    meta = read_transforms(file)
    frames = meta["frames"]
    depth_unit = _number(meta, "depth_unit_scale_factor", file, 0.001)
    if depth_unit <= 0:
        raise InputError(
            f"'{file}': depth_unit_scale_factor is metres per step of the depth "
            f"images and must be positive, got {depth_unit}",
            ErrorCode.BAD_DEPTH,
        )
    names = unique_names([frame["file_path"] for frame in frames])
    read = partial(_load_frame, file, names, meta, depth_unit, told)
    unread = _unread_keys({key for part in (meta, *frames) for key in part})
    check = partial(_check_frame, file, names, frames)
    labels = _object_names(meta, file)
    return Frames(len(frames), read, labels, tuple(unread), check=check)


def read_transforms(path: Path) -> Mapping[str, Any]:
    """What the file says, its paths with the slashes of this system.

    Raises:
        FileError: it cannot be read, or has no frames with a path each (NO_IMAGES for none).
    """
    meta = read_json(path, "recording")
    if not isinstance(meta, Mapping):
        raise FileError(
            f"'{path}' holds a {type(meta).__name__}, expected an object with 'frames'"
        )
    frames = meta.get("frames")
    if not isinstance(frames, list) or not all(isinstance(f, Mapping) for f in frames):
        raise FileError(f"'{path}' needs a list 'frames' with one object per image")
    if not frames:
        raise FileError(f"'{path}' lists no frames", ErrorCode.NO_IMAGES)
    for i, frame in enumerate(frames):
        if not isinstance(frame.get("file_path"), str):
            hint = "".join(_unread_keys(frame.keys()))
            raise FileError(f"'{path}': frame {i} has no 'file_path'{hint and f': {hint}'}")
    return {**meta, "frames": [_slashed(path, frame) for frame in frames]}


def _slashed(file: Path, frame: Mapping[str, Any]) -> Mapping[str, Any]:
    """The frame with the paths of a Windows export as they are here."""
    changed = {
        key: path.replace("\\", "/")
        for key in ("file_path", "depth_file_path", "object_mask_path")
        if isinstance(path := frame.get(key), str)
        and "\\" in path
        and not _OF_WINDOWS.match(path)
        and not is_regular(file.parent / path)
    }
    return {**frame, **changed}


def _unread_keys(keys: Iterable[str]) -> list[str]:
    """Warnings of keys that are not read and whose meaning another key has."""
    keys, warnings = set(keys), []
    unread = sorted(keys - {*_READ, *_HARMLESS})
    for key in unread[:_MOST_KEYS]:
        meant = _meant(key)
        if meant and meant not in keys:
            hint = f"which is not read (did you mean '{meant}'?)"
            warnings.append(f"{TRANSFORMS} has a key '{shown(key)}', {hint}")
    if len(unread) > _MOST_KEYS:
        warnings.append(f"{TRANSFORMS} has {len(unread)} keys that are not read")
    return warnings


def _meant(key: str) -> str | None:
    """The key that says here what a key of another convention says, whatever its case and
    dashes."""
    if len(key) > _LONGEST_KEY:
        return None
    plain = _plain(key)
    exact = (known for known, others in _MEANT.items() if plain in map(_plain, (known, *others)))
    same = (known for known in _READ if plain == _plain(known))
    misspelt = difflib.get_close_matches(key.lower(), _READ, 1, 0.8)
    alike = (known for known, part in _ALIKE.items() if re.search(part, plain))
    return next((known for found in (exact, same, misspelt, alike) for known in found), None)


def _plain(key: str) -> str:
    return re.sub(r"[\W_]", "", key.lower())


def _check_frame(file: Path, names: list[str], frames: list[Mapping], i: int) -> None:
    for key in ("file_path", "depth_file_path", "object_mask_path"):
        if frames[i].get(key):
            _resolve(file, frames[i][key])
    pose = frames[i].get("transform_matrix")
    if pose is not None:
        _pose(file, names[i], pose)


def _load_frame(
    file: Path, names: list[str], meta: Mapping, depth_unit: float, told: list[str], i: int
) -> tuple[View, NDArray | None]:
    name, frame = names[i], meta["frames"][i]
    values = {**meta, **frame}
    image = _read_image(file, name, frame["file_path"], values, told)
    lens = _lens(file, name, values, image)
    depth = mask = None
    if frame.get("depth_file_path"):
        depth = read_depth(_resolve(file, frame["depth_file_path"]), depth_unit)
        depth = resampled(depth, image.shape[:2])
        _check_size(name, "depth", depth, image, ErrorCode.BAD_DEPTH)
        depth = lens.undistort_labels(depth, outside=0)
    if frame.get("object_mask_path"):
        mask = read_labels(_resolve(file, frame["object_mask_path"]))
        _check_size(name, "object mask", mask, image, ErrorCode.BAD_IMAGE)
        mask = lens.undistort_labels(mask, outside=IGNORE)
    pose = frame.get("transform_matrix")
    view = View(
        name,
        lens.undistort_color(image),
        K=lens.K,
        depth=depth,
        world_from_cam_prior=None if pose is None else _pose(file, name, pose),
        stamp_ns=_stamp(file, name, frame),
        frame_id=str(frame.get("frame_id", "")),
    )
    return view, mask


def _read_image(
    file: Path, name: str, path: str, values: Mapping, told: list[str]
) -> NDArray[np.uint8]:
    """The image as its intrinsics have it: as stored, or rotated as EXIF says where only that
    has their size."""
    picture = ImageFile.read(_resolve(file, path))
    head, given = picture.head, (values.get("w"), values.get("h"))
    stored, turned = (head.width, head.height), (head.height, head.width)
    upright = head.orientation >= 5 and given == turned != stored
    if head.orientation > 1 and not upright and (head.orientation < 5 or given != stored):
        told.append(
            f"camera '{name}': EXIF orientation {head.orientation} of its image is not applied: "
            "intrinsics and depth are taken to be of the image as it is stored"
        )
    return picture.color(upright)


def _lens(file: Path, name: str, values: Mapping, image: NDArray) -> Lens:
    """The lens; without K where no intrinsics are given, which some back ends do without."""
    height, width = image.shape[:2]
    for key, actual in (("w", width), ("h", height)):
        if key in values and _number(values, key, file) != actual:
            raise InputError(
                f"camera '{name}': the intrinsics are for {values.get('w')}x{values.get('h')} "
                f"pixels but the image is {width}x{height}; scale them to the image",
                ErrorCode.BAD_CALIBRATION,
            )
    center = _pixel_center(file, name, values)
    values = _with_angle(file, values, width, height, center)
    missing = [key for key in INTRINSICS if values.get(key) is None]
    given = {k: _number(values, k, file, 0.0) for k in _LENS}
    model = _model(name, values)
    K = None
    if not missing:
        fx, fy, cx, cy = (_number(values, key, file) for key in INTRINSICS)
        K = np.array([[fx, 0.0, cx - center], [0.0, fy, cy - center], [0.0, 0.0, 1.0]])
        # View's own check words the error, before the lens divides by the focal length.
        View(name, image, K=K)
    elif len(missing) < len(INTRINSICS):
        raise InputError(
            f"camera '{name}': '{file}' has no {', '.join(missing)}, neither for "
            f"this frame nor for all{_instead(values, missing)}; give all four intrinsics in "
            "pixels, or none of them",
            ErrorCode.BAD_CALIBRATION,
        )
    if model not in _COEFFICIENTS:
        raise InputError(
            f"camera '{name}': unknown camera_model '{shown(model)}'; known are "
            f"{', '.join(_COEFFICIENTS)}",
            ErrorCode.BAD_CALIBRATION,
        )
    order = _COEFFICIENTS[model]
    for coefficient, value in given.items():
        if value and coefficient not in order:
            raise InputError(
                f"camera '{name}': camera_model {model} has no coefficient {coefficient}, got "
                f"{value}; choose the model that fits, or undistort",
                ErrorCode.BAD_CALIBRATION,
            )
    distortion = np.array([given[key] for key in order])
    fisheye = model in _FISHEYE
    if not (fisheye or distortion.any()):
        return Lens(K, (height, width))
    if K is None:
        raise InputError(
            f"camera '{name}': its lens is said to distort ({model}), but has no "
            "intrinsics to undistort the image with; give fl_x, fl_y, cx, cy as well, or "
            "an undistorted image",
            ErrorCode.BAD_CALIBRATION,
        )
    return Lens(K, (height, width), distortion, fisheye)


def _instead(values: Mapping, missing: list[str]) -> str:
    """Which unread keys may be those that are missing."""
    unread = sorted(values.keys() - {*_READ, *_HARMLESS})[:_MOST_KEYS]
    found = [f"'{shown(key)}' for '{_meant(key)}'" for key in unread if _meant(key) in missing]
    return f" (did you write {', '.join(found)}?)" if found else ""


def _model(name: str, values: Mapping) -> str:
    """The camera model, by its name or by instant-ngp's ``is_fisheye``."""
    model, is_fisheye = values.get("camera_model"), values.get("is_fisheye")
    model = None if model is None else str(model).upper()
    if is_fisheye not in (None, True, False):  # 1 and 0 are these as well
        raise InputError(
            f"camera '{name}': is_fisheye must be true or false, got {shown(repr(is_fisheye))}",
            ErrorCode.BAD_CALIBRATION,
        )
    if is_fisheye and model not in (None, *_FISHEYE):
        raise InputError(
            f"camera '{name}': is_fisheye contradicts camera_model '{shown(model)}'; give one of "
            "them",
            ErrorCode.BAD_CALIBRATION,
        )
    return model or ("OPENCV_FISHEYE" if is_fisheye else "OPENCV")


def _pixel_center(file: Path, name: str, values: Mapping) -> float:
    """Coordinates of the first pixel's centre in which ``cx`` and ``cy`` are: 0 in OpenCV and ROS,
    0.5 in COLMAP and in what nerfstudio makes of its models."""
    center = _number(values, "pixel_center", file, 0.5 if "colmap_im_id" in values else 0.0)
    if center not in (0.0, 0.5):
        raise InputError(
            f"camera '{name}': pixel_center in '{file}' must be 0 (OpenCV, ROS) or 0.5 (COLMAP), "
            f"got {center:g}",
            ErrorCode.BAD_CALIBRATION,
        )
    return center


def _with_angle(file: Path, values: Mapping, width: int, height: int, center: float) -> Mapping:
    """The values with intrinsics of a pinhole from its angle of view, where that is all there is:
    as Blender writes them, the optical axis through the middle of the image."""
    if any(values.get(key) is not None for key in INTRINSICS):
        return values
    angles = [
        None if values.get(key) is None else _number(values, key, file)
        for key in ("camera_angle_x", "camera_angle_y")
    ]
    for angle in angles:
        if angle is not None and not 0 < angle < math.pi:
            raise FileError(
                f"'{file}': camera_angle_x and camera_angle_y are the angles of "
                f"view in radians, between 0 and pi; got {angle:g}"
            )
    fl_x, fl_y = (
        None if angle is None else size / 2 / math.tan(angle / 2)
        for angle, size in zip(angles, (width, height), strict=True)
    )
    if fl_x is None and fl_y is None:
        return values
    middle = {"cx": (width - 1) / 2 + center, "cy": (height - 1) / 2 + center}
    return {**values, "fl_x": fl_x or fl_y, "fl_y": fl_y or fl_x, **middle}


def _pose(file: Path, name: str, matrix: Any) -> NDArray[np.float64]:
    try:
        world_from_opengl = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        world_from_opengl = np.empty(0)
    if world_from_opengl.shape == (3, 4):
        world_from_opengl = np.vstack([world_from_opengl, [0, 0, 0, 1]])
    what = f"camera '{name}': transform_matrix in '{file}'"
    if world_from_opengl.shape != (4, 4):
        raise InputError(
            f"{what} must be 4x4 numbers, got {str(matrix)[:80]}", ErrorCode.BAD_CALIBRATION
        )
    rotation = world_from_opengl[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if 1e-6 < off <= _ROUNDED:  # else it is a rotation, or View says that it is none
        left, _, right = np.linalg.svd(rotation)
        world_from_opengl[:3, :3] = left @ right
    return check_pose(world_from_opengl, what) @ OPENCV_FROM_OPENGL


def _stamp(file: Path, name: str, frame: Mapping) -> int:
    stamp = frame.get("stamp_ns", 0)
    if isinstance(stamp, bool) or not isinstance(stamp, int) or abs(stamp) >= 2**63:
        raise FileError(
            f"'{file}': stamp_ns of frame '{name}' must be integer nanoseconds, got {stamp!r}"
        )
    return stamp


def _object_names(meta: Mapping, file: Path) -> dict[int, str]:
    names = meta.get("object_names", {})
    try:
        return {int(label): str(name) for label, name in names.items()}
    except (AttributeError, ValueError):
        raise FileError(
            f"'{file}': object_names maps labels to names, like "
            f'{{"1": "mug"}}; got {str(names)[:80]}'
        ) from None


def _number(values: Mapping, key: str, file: Path, default: float | None = None) -> float:
    value = values.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise FileError(f"'{file}': '{key}' must be a number, got {shown(repr(value))}")
    return float(value)


def _check_size(name: str, what: str, array: NDArray, image: NDArray, code: ErrorCode) -> None:
    if array.shape != image.shape[:2]:
        raise InputError(
            f"camera '{name}': {what} is {array.shape[1]}x{array.shape[0]} but the image is "
            f"{image.shape[1]}x{image.shape[0]}; they must be registered pixel by pixel",
            code,
        )


def _resolve(file: Path, relative: Any) -> Path:
    path = file.parent / str(relative)
    if path.suffix.lower() not in SUFFIXES and path.name and not is_regular(path):
        # Blender's exports leave the suffix out.
        suffixes = (*SUFFIXES, *map(str.upper, SUFFIXES))
        named = (path.with_name(path.name + suffix) for suffix in suffixes)
        path = next(filter(is_regular, named), path)
    if not is_regular(path):
        try:
            there = path.exists()
        except OSError:
            there = False
        what = "which is no file" if there else "which does not exist"
        if other := alike(path):
            what += f"; '{shown(other.name)}' does: the case differs"
        elif _OF_WINDOWS.match(str(relative)):
            what += " here: it is of a Windows machine; make the paths relative to this file"
        raise FileError(f"'{file}' names '{shown(relative)}', {what}")
    return path
