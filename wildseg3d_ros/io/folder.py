"""Recordings as folders: nerfstudio's ``transforms.json``, or a plain folder of images.

With ``transforms.json`` (https://docs.nerf.studio/quickstart/data_conventions.html), its paths
relative to the folder::

    {
      "camera_model": "OPENCV",                 this default, PINHOLE or OPENCV_FISHEYE
      "fl_x": 615.2, "fl_y": 615.2,             pixels; each of these keys may stand in a frame too
      "cx": 298.4, "cy": 247.5,                 none of the four, or null: not calibrated
      "w": 640, "h": 480,                       optional, checked against the images
      "k1": 0.0, "k2": 0.0, "k3": 0.0, "k4": 0.0, "p1": 0.0, "p2": 0.0,          optional
      "depth_unit_scale_factor": 0.001,         metres per step of the depth images; this default
      "frames": [
        {
          "file_path": "images/left.png",       its stem names the view
          "transform_matrix": [[...], ...],     camera-to-world, OpenGL axes; may be left out
          "depth_file_path": "depth/left.png",  16-bit PNG or .npy, registered; optional
          "object_mask_path": "masks/left.png", ours: label image, see below; optional
          "stamp_ns": 1700000000000000000,      ours: time of the image; optional
          "frame_id": "left_optical_frame"      ours: the camera's optical frame in TF; optional
        }
      ],
      "object_names": {"1": "mug"}              ours: names of the labels; optional
    }

``object_mask_path`` is this project's addition, for evaluation: a single-channel 8- or 16-bit
image of the image's size, 0 = no object, 255 = not to be scored, any other value an object, with
the same value in all views. ``cx`` and ``cy`` are read as written, with integer coordinates at
pixel centres, as OpenCV and ROS calibrations have them. Lens distortion is removed here, and the
OpenGL camera axes become OpenCV's here: nothing behind this module knows of either.

A folder without ``transforms.json`` gives one view per image, without calibration, pose or depth.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.images import (
    SUFFIXES,
    is_depth_image,
    read_color,
    read_depth,
    read_labels,
    write_bytes,
    write_image,
)

TRANSFORMS = "transforms.json"
IGNORE = 255
"""Label of mask pixels that are not scored."""

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Camera axes: OpenGL looks along -z with y up. The matrix is its own inverse."""

_INTRINSICS = ("fl_x", "fl_y", "cx", "cy")

# In nerfstudio every perspective model may carry coefficients; the name does not limit them.
_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_COEFFICIENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_PERSPECTIVE, ("k1", "k2", "p1", "p2", "k3")),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
}
"""Distortion coefficients of each camera model, in OpenCV's order."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What a folder holds.

    Attributes:
        views: images with what is known of their cameras, without lens distortion.
        object_masks: per view (H, W) uint8 or uint16 labels, 0 = none, 255 = not scored; or None.
        object_names: name by label, for those labels that have one.
    """

    views: tuple[View, ...]
    object_masks: tuple[NDArray | None, ...] = ()
    object_names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        masks = tuple(self.object_masks) or (None,) * len(self.views)
        if len(masks) != len(self.views):
            raise InputError(f"{len(self.views)} views but {len(masks)} object masks")
        object.__setattr__(self, "object_masks", masks)

    def name_of(self, label: int) -> str:
        """The name of a label, or the label in words."""
        return self.object_names.get(label, f"object {label}")


def load_folder(
    path: str | Path, max_views: int | None = None, progress: Progress | None = None
) -> Recording:
    """Reads a recording.

    Args:
        path: the folder, or the ``transforms.json`` in it.
        max_views: reads at most so many views, evenly spaced over the recording.
        progress: told of the fraction that is read.

    Raises:
        FileError: a file that is missing, unreadable or not of the format; the text names it.
        InputError: calibration, poses or depth that cannot be used.
    """
    folder = Path(path)
    if folder.name == TRANSFORMS and folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FileError(f"'{path}' {what}; expected a folder of images")
    if max_views is not None and max_views < 1:
        raise InputError(f"max_views must be 1 or more, got {max_views}", ErrorCode.BAD_REQUEST)
    if not any(folder.iterdir()):
        raise FileError(
            f"folder '{folder}' is empty; expected {TRANSFORMS} or images",
            ErrorCode.NO_IMAGES,
        )
    if (folder / TRANSFORMS).is_file():
        return _load_transforms(folder, max_views, progress or Progress())
    return _load_plain(folder, max_views, progress or Progress())


def evenly_spaced(count: int, max_views: int | None) -> list[int]:
    """Indices of at most ``max_views`` of ``count`` items, evenly spaced, both ends included."""
    if max_views is None or count <= max_views:
        return list(range(count))
    if max_views == 1:
        return [count // 2]
    return [round(i * (count - 1) / (max_views - 1)) for i in range(max_views)]


# ---- plain folders ---------------------------------------------------------------------------


def _load_plain(folder: Path, max_views: int | None, progress: Progress) -> Recording:
    paths = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."),
        key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)],
    )
    # Depth and mask images beside the colour images are not photographs of the scene.
    paths = [p for p in paths if not is_depth_image(p)]
    if not paths:
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:5])
        raise FileError(
            f"folder '{folder}' holds neither {TRANSFORMS} nor images "
            f"({', '.join(SUFFIXES)}); it holds: {inside}",
            ErrorCode.NO_IMAGES,
        )
    chosen = evenly_spaced(len(paths), max_views)
    names = _unique_names([p.name for p in paths])
    views = []
    for done, i in enumerate(chosen):
        views.append(View(names[i], read_color(paths[i], upright=True)))
        progress.update((done + 1) / len(chosen))
    return Recording(tuple(views))


# ---- transforms.json -------------------------------------------------------------------------


def _load_transforms(folder: Path, max_views: int | None, progress: Progress) -> Recording:
    meta = _read_json(folder / TRANSFORMS)
    frames = meta.get("frames")
    if not isinstance(frames, list) or not all(isinstance(f, Mapping) for f in frames):
        raise FileError(f"'{folder / TRANSFORMS}' needs a list 'frames' with one object per image")
    if not frames:
        raise FileError(f"'{folder / TRANSFORMS}' lists no frames", ErrorCode.NO_IMAGES)
    for i, frame in enumerate(frames):
        if not isinstance(frame.get("file_path"), str):
            raise FileError(f"'{folder / TRANSFORMS}': frame {i} has no 'file_path'")
    depth_unit = _number(meta, "depth_unit_scale_factor", folder, 0.001)
    if depth_unit <= 0:
        raise InputError(
            f"'{folder / TRANSFORMS}': depth_unit_scale_factor is metres per step of the depth "
            f"images and must be positive, got {depth_unit}",
            ErrorCode.BAD_DEPTH,
        )
    names = _unique_names([frame["file_path"] for frame in frames])
    chosen = evenly_spaced(len(frames), max_views)
    views, masks = [], []
    for done, i in enumerate(chosen):
        view, mask = _load_frame(folder, names[i], meta, frames[i], depth_unit)
        views.append(view)
        masks.append(mask)
        progress.update((done + 1) / len(chosen))
    return Recording(tuple(views), tuple(masks), _object_names(meta, folder))


def _load_frame(
    folder: Path, name: str, meta: Mapping, frame: Mapping, depth_unit: float
) -> tuple[View, NDArray | None]:
    image = read_color(_resolve(folder, frame["file_path"]), upright=False)
    lens = _lens(folder, name, {**meta, **frame}, image)
    depth = mask = None
    if frame.get("depth_file_path"):
        depth = read_depth(_resolve(folder, frame["depth_file_path"]), depth_unit)
        _check_size(name, "depth", depth, image, ErrorCode.BAD_DEPTH)
        depth = lens.undistort_labels(depth, outside=0)
    if frame.get("object_mask_path"):
        mask = read_labels(_resolve(folder, frame["object_mask_path"]))
        _check_size(name, "object mask", mask, image, ErrorCode.BAD_IMAGE)
        mask = lens.undistort_labels(mask, outside=IGNORE)
    pose = frame.get("transform_matrix")
    view = View(
        name,
        lens.undistort_color(image),
        K=lens.K,
        depth=depth,
        world_from_cam_prior=None if pose is None else _pose(folder, name, pose),
        stamp_ns=_stamp(folder, name, frame),
        frame_id=str(frame.get("frame_id", "")),
    )
    return view, mask


def _lens(folder: Path, name: str, values: Mapping, image: NDArray) -> Lens:
    """The lens; without K where no intrinsics are given, which some back ends do without."""
    height, width = image.shape[:2]
    for key, actual in (("w", width), ("h", height)):
        if key in values and _number(values, key, folder) != actual:
            raise InputError(
                f"camera '{name}': the intrinsics are for {values.get('w')}x{values.get('h')} "
                f"pixels but the image is {width}x{height}; scale them to the image",
                ErrorCode.BAD_CALIBRATION,
            )
    missing = [key for key in _INTRINSICS if values.get(key) is None]
    given = {k: _number(values, k, folder, 0.0) for k in ("k1", "k2", "k3", "k4", "p1", "p2")}
    model = str(values.get("camera_model", "OPENCV"))
    K = None
    if not missing:
        fx, fy, cx, cy = (_number(values, key, folder) for key in _INTRINSICS)
        K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        # View's own check words the error, before the lens divides by the focal length.
        View(name, image, K=K)
    elif len(missing) < len(_INTRINSICS):
        raise InputError(
            f"camera '{name}': '{folder / TRANSFORMS}' has no {', '.join(missing)}, neither for "
            "this frame nor for all; give all four intrinsics in pixels, or none of them",
            ErrorCode.BAD_CALIBRATION,
        )
    if model not in _COEFFICIENTS:
        raise InputError(
            f"camera '{name}': unknown camera_model '{model}'; known are "
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
    fisheye = model == "OPENCV_FISHEYE"
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


def _pose(folder: Path, name: str, matrix: Any) -> NDArray[np.float64]:
    try:
        world_from_opengl = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        world_from_opengl = np.empty(0)
    if world_from_opengl.shape == (3, 4):
        world_from_opengl = np.vstack([world_from_opengl, [0, 0, 0, 1]])
    if world_from_opengl.shape != (4, 4):
        raise InputError(
            f"camera '{name}': transform_matrix in '{folder / TRANSFORMS}' must be 4x4 numbers, "
            f"got {str(matrix)[:80]}",
            ErrorCode.BAD_CALIBRATION,
        )
    return world_from_opengl @ OPENCV_FROM_OPENGL


def _stamp(folder: Path, name: str, frame: Mapping) -> int:
    stamp = frame.get("stamp_ns", 0)
    if isinstance(stamp, bool) or not isinstance(stamp, int):
        raise FileError(
            f"'{folder / TRANSFORMS}': stamp_ns of frame '{name}' must be integer nanoseconds, "
            f"got {stamp!r}"
        )
    return stamp


def _object_names(meta: Mapping, folder: Path) -> dict[int, str]:
    names = meta.get("object_names", {})
    try:
        return {int(label): str(name) for label, name in names.items()}
    except (AttributeError, ValueError):
        raise FileError(
            f"'{folder / TRANSFORMS}': object_names maps labels to names, like "
            f'{{"1": "mug"}}; got {str(names)[:80]}'
        ) from None


def _number(values: Mapping, key: str, folder: Path, default: float | None = None) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FileError(f"'{folder / TRANSFORMS}': '{key}' must be a number, got {value!r}")
    return float(value)


def _unique_names(paths: Sequence[str]) -> list[str]:
    """Stems; where stems repeat (left/0001.png, right/0001.png), the whole path without suffix."""
    stems = [Path(p).stem for p in paths]
    twice = {stem for stem, count in Counter(stems).items() if count > 1}
    names = [
        "_".join(x for x in Path(p).with_suffix("").parts if x != ".") if stem in twice else stem
        for stem, p in zip(stems, paths, strict=True)
    ]
    again = sorted(name for name, count in Counter(names).items() if count > 1)
    if again:
        raise InputError(
            f"two frames give the camera name {', '.join(map(repr, again))}; each image needs a "
            "path of its own"
        )
    return names


def _check_size(name: str, what: str, array: NDArray, image: NDArray, code: ErrorCode) -> None:
    if array.shape != image.shape[:2]:
        raise InputError(
            f"camera '{name}': {what} is {array.shape[1]}x{array.shape[0]} but the image is "
            f"{image.shape[1]}x{image.shape[0]}; they must be registered pixel by pixel",
            code,
        )


# ---- files -----------------------------------------------------------------------------------


def _read_json(path: Path) -> Mapping:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"'{path}' is not readable JSON: {error}") from error
    if not isinstance(meta, Mapping):
        raise FileError(
            f"'{path}' holds a {type(meta).__name__}, expected an object with 'frames'"
        )
    return meta


def _resolve(folder: Path, relative: Any) -> Path:
    path = folder / str(relative)
    if not path.suffix:  # Blender's exports leave the suffix out
        path = next((p for s in SUFFIXES if (p := path.with_suffix(s)).is_file()), path)
    if not path.is_file():
        raise FileError(f"'{folder / TRANSFORMS}' names '{relative}', which does not exist")
    return path


# ---- writing ---------------------------------------------------------------------------------


def write_folder(
    path: str | Path,
    recording: Recording,
    depth_unit: float | None = None,
    jpeg_quality: int | None = None,
) -> None:
    """Writes a recording so that :func:`load_folder` reads the same back.

    Images and masks are exact (images not, when ``jpeg_quality`` is given); depth is rounded to
    ``depth_unit``.

    Args:
        path: folder, made if need be; files of the same names in it are replaced.
        depth_unit: metres per step of the 16-bit depth images; None for 0.1 mm, or more where
            the largest depth needs it.
        jpeg_quality: None for PNG images; 1 to 100 for JPEG, which is many times smaller.

    Raises:
        FileError: a file cannot be written. InputError: depth does not fit into 16 bits of the
            given unit.
    """
    folder = Path(path)
    unit = _depth_unit(recording.views, depth_unit)
    frames = []
    for view, mask in zip(recording.views, recording.object_masks, strict=True):
        suffix = "png" if jpeg_quality is None else "jpg"
        frame: dict[str, Any] = {"file_path": f"images/{view.name}.{suffix}"}
        write_image(folder / frame["file_path"], view.image, jpeg_quality)
        frame |= {"w": view.size[1], "h": view.size[0]}
        if view.K is not None:
            values = view.K[0, 0], view.K[1, 1], view.K[0, 2], view.K[1, 2]
            frame |= dict(zip(_INTRINSICS, values, strict=True))
        if view.world_from_cam_prior is not None:
            frame["transform_matrix"] = (view.world_from_cam_prior @ OPENCV_FROM_OPENGL).tolist()
        if view.depth is not None:
            frame["depth_file_path"] = f"depth/{view.name}.png"
            steps = np.rint(view.depth.astype(np.float64) / unit).astype(np.uint16)
            write_image(folder / frame["depth_file_path"], steps)
        if mask is not None:
            frame["object_mask_path"] = f"masks/{view.name}.png"
            write_image(folder / frame["object_mask_path"], mask)
        if view.stamp_ns:
            frame["stamp_ns"] = int(view.stamp_ns)
        if view.frame_id:
            frame["frame_id"] = view.frame_id
        frames.append(frame)
    meta = {
        "camera_model": "PINHOLE",
        "depth_unit_scale_factor": unit,
        "object_names": {str(k): v for k, v in recording.object_names.items()},
        "frames": frames,
    }
    write_bytes(folder / TRANSFORMS, (json.dumps(meta, indent=1) + "\n").encode())


def check_posed_target(folder: str | Path, target: Path) -> Path:
    """The folder whose ``transforms.json`` can be written with other poses to a target.

    Raises:
        FileError: there is no file to copy, or the target is not of that name in another folder.
    """
    source = Path(folder)
    source = source.parent if source.name == TRANSFORMS and source.is_file() else source
    if target.name != TRANSFORMS or target.resolve() == (source / TRANSFORMS).resolve():
        raise FileError(
            f"poses of a recording are written as {TRANSFORMS} to another folder, got '{target}'"
        )
    if not (source / TRANSFORMS).is_file():
        raise FileError(f"'{source}' has no {TRANSFORMS} that could be written with other poses")
    return source


def write_posed(
    folder: str | Path, target: Path, world_from_cam: Mapping[str, NDArray[np.float64]]
) -> None:
    """Writes a copy of a recording's ``transforms.json`` with other poses.

    The images stay where they are: their paths are made relative to the new file's folder.

    Args:
        folder: of the recording.
        target: a file of that name in another folder.
        world_from_cam: (4, 4) by the name of the view; frames of others keep theirs.

    Raises:
        FileError: as of :func:`check_posed_target`, or the target cannot be written.
    """
    source = check_posed_target(folder, target)
    meta = dict(_read_json(source / TRANSFORMS))
    names = _unique_names([frame["file_path"] for frame in meta["frames"]])
    meta["frames"] = frames = [dict(frame) for frame in meta["frames"]]
    for name, frame in zip(names, frames, strict=True):
        if name in world_from_cam:
            frame["transform_matrix"] = (world_from_cam[name] @ OPENCV_FROM_OPENGL).tolist()
        for key in frame.keys() & {"file_path", "depth_file_path", "object_mask_path"}:
            frame[key] = os.path.relpath(source / frame[key], target.parent)
    write_bytes(target, (json.dumps(meta, indent=1) + "\n").encode())


def _depth_unit(views: Sequence[View], unit: float | None) -> float:
    largest = max((float(v.depth.max()) for v in views if v.depth is not None), default=0.0)
    candidates = [unit] if unit is not None else [1e-4, 1e-3, 1e-2]
    for candidate in candidates:
        if largest / candidate <= np.iinfo(np.uint16).max:
            return candidate
    raise InputError(
        f"depth of {largest:.1f} m does not fit into 16 bits of {candidates[-1]} m; give a "
        "larger depth_unit",
        ErrorCode.BAD_DEPTH,
    )
