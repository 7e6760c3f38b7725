"""Recordings as folders: nerfstudio's ``transforms.json``, other formats, or images alone.

With ``transforms.json`` (https://docs.nerf.studio/quickstart/data_conventions.html), its paths
relative to the folder::

    {
      "camera_model": "OPENCV",                 this default, PINHOLE or OPENCV_FISHEYE
      "fl_x": 615.2, "fl_y": 615.2,             pixels; each of these keys may stand in a frame too
      "cx": 298.4, "cy": 247.5,                 none of the four, or null: not calibrated, unless
      "camera_angle_x": 0.96,                   radians over the width; optional, of a pinhole
      "w": 640, "h": 480,                       optional, checked against the images
      "k1": 0.0, "k2": 0.0, "k3": 0.0, "k4": 0.0, "p1": 0.0, "p2": 0.0,          optional
      "depth_unit_scale_factor": 0.001,         metres per step of the depth images; this default
      "frames": [
        {
          "file_path": "images/left.png",       its stem names the view
          "transform_matrix": [[...], ...],     camera-to-world, OpenGL axes; may be left out
          "depth_file_path": "depth/left.png",  16-bit PNG or .npy, registered; optional; of the
                                                image's size or of its shape at another size
          "object_mask_path": "masks/left.png", ours: label image, see below; optional
          "stamp_ns": 1700000000000000000,      ours: time of the image; optional
          "frame_id": "left_optical_frame"      ours: the camera's optical frame in TF; optional
        }
      ],
      "object_names": {"1": "mug"}              ours: names of the labels; optional
    }

``object_mask_path`` is this project's addition, for evaluation: a single-channel 8- or 16-bit
image of the image's size, 0 = no object, 255 = not to be scored, any other value an object, with
the same value in all views. ``cx`` and ``cy`` have integer coordinates at pixel centres, as OpenCV
and ROS calibrations have them, unless ``pixel_center`` is 0.5, or nerfstudio has made the file of
a COLMAP model (``colmap_im_id``): they are then half a pixel less. Lens distortion is removed
here, and the OpenGL camera axes become OpenCV's here: nothing behind this module knows of either.

A folder without it is read by what else it holds (:mod:`wildseg3d_ros.io.formats`, COLMAP, BOP
and others); a folder of images alone gives one view per image, without calibration, pose or depth.

Frames that cannot be read are left out with a warning while they are fewer than half
(docs/reference/formats.md lists what is read).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.files.proportion import one_recording
from wildseg3d_ros.core.files.reading import is_regular, same_place, shown
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.formats.base import IGNORE as IGNORE
from wildseg3d_ros.io.formats.base import Format, natural_order
from wildseg3d_ros.io.formats.choosing import NERFSTUDIO, choose_format, unknown
from wildseg3d_ros.io.formats.foreign import foreign_file
from wildseg3d_ros.io.frames import (
    check_max_views,
    chosen_frames,
    evenly_spaced,
    read_each,
    unique_names,
)
from wildseg3d_ros.io.images import left_out_because, read_color, write_image
from wildseg3d_ros.io.recording import Recording
from wildseg3d_ros.io.transforms import (
    INTRINSICS,
    OPENCV_FROM_OPENGL,
    TRANSFORMS,
    load_transforms,
    read_transforms,
)

_EXPECTED = "expected a folder of images, or a bag (its folder, .mcap or .db3)"
_NAMED = 5
"""Files that are named where many were left out."""


@one_recording()
@np.errstate(all="ignore")  # what is not finite is named by an error, in one line
def load_folder(
    path: str | Path,
    max_views: int | None = None,
    progress: Progress | None = None,
    strict: bool = False,
    format_name: str = "",
) -> Recording:
    """Reads a recording.

    >>> [view.name for view in load_folder("recording").views]
    ['cam_0', 'cam_1', 'cam_2']

    Args:
        path: the folder, or the ``transforms.json`` in it.
        max_views: reads at most so many views, evenly spaced over the recording.
        progress: told of the fraction that is read.
        strict: whether a frame that cannot be read is an error where most others can.
        format_name: of :data:`wildseg3d_ros.io.formats.choosing.NAMES`; empty: by what the
            folder holds.

    Raises:
        FileError: a file that is missing, unreadable or not of the format; the text names it.
        InputError: calibration, poses or depth that cannot be used.
        ConfigError: a format that does not exist.
    """
    folder = Path(path)
    if folder.name == TRANSFORMS and is_regular(folder):
        folder = folder.parent
    _check_folder(folder, path)
    check_max_views(max_views)
    progress = progress or Progress()
    if format_name == NERFSTUDIO or (not format_name and os.path.lexists(folder / TRANSFORMS)):
        found = load_transforms(folder, max_views, progress, strict)
        return Recording(*found, format=NERFSTUDIO)
    chosen = choose_format(folder, format_name)
    if chosen is None:
        return _load_plain(folder, max_views, progress, strict)
    return _load_format(chosen, folder, max_views, progress, strict)


def _check_folder(folder: Path, path: str | Path) -> None:
    try:
        is_empty = not any(folder.iterdir())
    except NotADirectoryError:
        told = foreign_file(folder) or f"'{path}' is a file"
        raise FileError(f"{told}; {_EXPECTED}") from None
    except FileNotFoundError:
        scene = "; a scene's file is for `wildseg3d segment` and `view`"
        raise FileError(
            f"'{path}' does not exist; {_EXPECTED}{scene if folder.suffix == '.ws3d' else ''}"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FileError(f"cannot read folder '{shown(path)}': {reason}") from error
    if is_empty:
        raise FileError(
            f"folder '{folder}' is empty; expected {TRANSFORMS} or images",
            ErrorCode.NO_IMAGES,
        )


def _load_format(
    chosen: Format, folder: Path, max_views: int | None, progress: Progress, strict: bool
) -> Recording:
    listed = chosen.list_frames(folder)
    indices, passed = chosen_frames(listed.count, max_views, listed.check, strict)
    frames, left_out = read_each(indices, listed.read, progress, strict)
    views, masks = zip(*frames, strict=True)
    there = {int(label) for mask in masks if mask is not None for label in np.unique(mask)}
    names = {label: name for label, name in listed.object_names.items() if label in there}
    told = listed.warnings
    if not listed.metric:
        told += (f"lengths of {chosen.title} are of arbitrary scale: results are not in metres",)
    told += (*passed, *left_out)
    return Recording(views, masks, names, told, chosen.title, listed.metric)


def _load_plain(
    folder: Path, max_views: int | None, progress: Progress, strict: bool
) -> Recording:
    found = sorted((p for p in folder.iterdir() if p.name[0] != "."), key=natural_order)
    # Depth and mask images beside the colour images are not photographs of the scene.
    reasons = {p: left_out_because(p) for p in found if p.suffix or is_regular(p)}
    paths = [p for p in found if reasons.get(p) == ""]
    left_out = [f"{p.name} ({why})" for p, why in reasons.items() if why]
    rest = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
    listed = ", ".join(left_out[:_NAMED]) + rest
    if not paths:
        raise unknown(folder, listed)
    names = unique_names([p.name for p in paths])
    views, warnings = read_each(
        evenly_spaced(len(paths), max_views),
        lambda i: View(names[i], read_color(paths[i], upright=True)),
        progress,
        strict,
    )
    if left_out:
        warnings = (f"not read in '{folder}': {listed}", *warnings)
    return Recording(tuple(views), warnings=warnings, format="a plain folder of images")


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
            frame |= dict(zip(INTRINSICS, values, strict=True))
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
    source = source.parent if source.name == TRANSFORMS and is_regular(source) else source
    if target.name != TRANSFORMS or same_place(target, source / TRANSFORMS):
        raise FileError(
            f"poses of a recording are written as {TRANSFORMS} to another folder, got '{target}'"
        )
    if not is_regular(source / TRANSFORMS):
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
    meta = dict(read_transforms(source / TRANSFORMS))
    names = unique_names([frame["file_path"] for frame in meta["frames"]])
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
