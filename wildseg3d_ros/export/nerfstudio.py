"""A scene as nerfstudio reads it: images, solved poses, depth, masks.

``mask_path`` of a frame is an image of 0 and 255: what the chosen objects are (nerfstudio trains
on the pixels that are not 0). The folder is a recording of ours, too: `wildseg3d build` and
`wildseg3d eval` read it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wildseg3d_ros.export.clouds import image_name, images, labels, write_json
from wildseg3d_ros.export.contents import Contents
from wildseg3d_ros.export.target import Plan
from wildseg3d_ros.io.clouds import write_ply
from wildseg3d_ros.io.images import write_image
from wildseg3d_ros.io.transforms import INTRINSICS, OPENCV_FROM_OPENGL, TRANSFORMS

_CLOUD = "points.ply"
_CENTER = 0.5
"""Of the first pixel, in nerfstudio as in COLMAP."""
_LARGEST = np.iinfo(np.uint16).max


def nerfstudio(contents: Contents) -> Plan:
    """``transforms.json`` and what it names.

    Depth is in the scene's unit, which nerfstudio takes for metres. ``ply_file_path`` is the cloud
    of all objects, from which splats may start.
    """
    unit = max([1e-4, *(_unit(contents, v) for v in range(len(contents.names)))])
    plan = {**images(contents), **labels(contents)}
    for view, name in enumerate(contents.names.values()):
        plan[f"masks/{name}.png"] = partial(_write_mask, contents, view)
        plan[f"depth/{name}.png"] = partial(_write_depth, contents, view, unit)
    plan[_CLOUD] = partial(_write_cloud, contents)
    plan[TRANSFORMS] = lambda path: write_json(path, _transforms(contents, unit))
    return plan


def _transforms(contents: Contents, unit: float) -> dict[str, Any]:
    scene, frames = contents.scene, []
    for view, name in enumerate(contents.names.values()):
        K = contents.intrinsics(view)
        height, width = scene.camera_size(view)
        values = K[0, 0], K[1, 1], K[0, 2] + _CENTER, K[1, 2] + _CENTER
        frame = {
            "file_path": image_name(contents, view),
            "mask_path": f"masks/{name}.png",
            "depth_file_path": f"depth/{name}.png",
            "object_mask_path": f"labels/{name}.png",
            "w": width,
            "h": height,
            **{key: float(value) for key, value in zip(INTRINSICS, values, strict=True)},
            "transform_matrix": (scene.world_from_cam[view] @ OPENCV_FROM_OPENGL).tolist(),
        }
        if scene.stamps_ns[view]:
            frame["stamp_ns"] = int(scene.stamps_ns[view])
        if scene.camera_frames[view]:
            frame["frame_id"] = scene.camera_frames[view]
        frames.append(frame)
    return {
        "camera_model": "PINHOLE",
        "pixel_center": _CENTER,
        "depth_unit_scale_factor": unit,
        "ply_file_path": _CLOUD,
        "frames": frames,
    }


def _write_mask(contents: Contents, view: int, path: Path) -> None:
    mask = np.zeros(contents.scene.camera_size(view), np.uint8)
    for each in contents.masks:
        if each.view == view:
            mask[each.mask] = 255
    write_image(path, mask)


def _write_depth(contents: Contents, view: int, unit: float, path: Path) -> None:
    steps = np.rint(contents.depth(view).astype(np.float64) / unit)
    write_image(path, np.minimum(steps, _LARGEST).astype(np.uint16))


def _write_cloud(contents: Contents, path: Path) -> None:
    index = contents.scene.index
    ids = [each.object_id for each in contents.objects]
    rows = index.rows(*ids) if ids else slice(0, 0)
    write_ply(path, index.points[rows], index.colors[rows])


def _unit(contents: Contents, view: int) -> float:
    """The power of ten by which the depth of a view fits into 16 bits."""
    farthest = float(contents.depth(view).max(initial=0.0)) / _LARGEST
    return 10.0 ** np.ceil(np.log10(farthest)) if farthest > 0 else 0.0
