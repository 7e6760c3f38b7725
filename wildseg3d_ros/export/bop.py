"""A scene in the layout of the BOP benchmark.

After https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md: the folder
``bop`` is a dataset with one scene in its split ``test``. What our objects have no source for is
left out: silhouettes behind what hides them (``mask``), visible shares (``scene_gt_info.json``).
Boxes in ``scene_gt_coco.json`` are therefore those of the visible parts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.export.clouds import write_json
from wildseg3d_ros.export.coco import annotation, image_entry, info
from wildseg3d_ros.export.contents import Contents, ViewMaskOf
from wildseg3d_ros.export.target import Plan
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.io.clouds import write_ply
from wildseg3d_ros.io.images import write_image

_SCENE = "bop/test/000000"
_MM = 1000.0
_STEPS = (0.1, 1.0, 10.0)
"""Millimetres that a step of the depth images may be."""


def bop(contents: Contents) -> Plan:
    """A dataset whose objects are the whole objects that have points.

    The frame of an object's model is that of its box, with the origin in the middle.

    Raises:
        ConfigError: a scene without a known scale: the benchmark's lengths are millimetres.
    """
    if not contents.scene.alignment.metric:
        raise ConfigError(
            "bop needs lengths in millimetres, and the scale of this scene is not known; build it "
            "with depth or with camera poses, or export coco, which needs no scale"
        )
    masks = tuple(e for e in contents.masks if e.each.level == LEVELS[0] and e.each.box)
    by_view = [[e for e in masks if e.view == v] for v in range(len(contents.names))]
    plan: Plan = {
        "bop/test_targets_bop19.json": partial(_write, lambda: _targets19(by_view)),
        "bop/test_targets_bop24.json": partial(_write, lambda: _targets24(by_view)),
        "bop/models/models_info.json": partial(_write, lambda: _models_info(contents)),
        f"{_SCENE}/scene_camera.json": partial(_write, lambda: _cameras(contents)),
        f"{_SCENE}/scene_gt.json": partial(_write, lambda: _truth(contents, by_view)),
        f"{_SCENE}/scene_gt_coco.json": partial(
            _write, lambda: _coco(contents, by_view), compact=True
        ),
    }
    for view, found in enumerate(by_view):
        plan[f"{_SCENE}/rgb/{view:06d}.png"] = partial(_write_rgb, contents, view)
        plan[f"{_SCENE}/depth/{view:06d}.png"] = partial(_write_depth, contents, view)
        for number, each in enumerate(found):
            name = f"{_SCENE}/mask_visib/{view:06d}_{number:06d}.png"
            plan[name] = partial(_write_mask, each)
    for each in _modelled(contents):
        plan[f"bop/models/obj_{each.object_id:06d}.ply"] = partial(_write_model, contents, each)
    return plan


def _write(make: Callable[[], Any], path: Path, compact: bool = False) -> None:
    write_json(path, make(), compact)


def _modelled(contents: Contents) -> list[SceneObject]:
    return [each for each in contents.objects if each.level == LEVELS[0] and each.box]


def _targets19(by_view: list[list[ViewMaskOf]]) -> list[dict[str, int]]:
    return [
        {"im_id": view, "inst_count": 1, "obj_id": each.each.object_id, "scene_id": 0}
        for view, found in enumerate(by_view)
        for each in found
    ]


def _targets24(by_view: list[list[ViewMaskOf]]) -> list[dict[str, int]]:
    return [{"im_id": view, "scene_id": 0} for view, found in enumerate(by_view) if found]


def _cameras(contents: Contents) -> dict[str, Any]:
    scene, made = contents.scene, {}
    for view, pose in enumerate(scene.world_from_cam):
        cam_from_world = invert(pose)
        made[str(view)] = {
            "cam_K": contents.intrinsics(view).ravel().tolist(),
            "depth_scale": _step(contents.depth(view)),
            "cam_R_w2c": cam_from_world[:3, :3].ravel().tolist(),
            "cam_t_w2c": (_MM * cam_from_world[:3, 3]).tolist(),
        }
    return made


def _truth(contents: Contents, by_view: list[list[ViewMaskOf]]) -> dict[str, Any]:
    made = {}
    for view, found in enumerate(by_view):
        cam_from_world = invert(contents.scene.world_from_cam[view])
        made[str(view)] = [
            {
                "obj_id": each.each.object_id,
                "cam_R_m2c": pose[:3, :3].ravel().tolist(),
                "cam_t_m2c": (_MM * pose[:3, 3]).tolist(),
            }
            for each in found
            if each.each.box is not None
            for pose in [cam_from_world @ each.each.box.frame_from_box]
        ]
    return made


def _coco(contents: Contents, by_view: list[list[ViewMaskOf]]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for view, found in enumerate(by_view):
        for each in found:
            made = annotation(len(annotations) + 1, view, each.each.object_id, each)
            height, width = each.mask.shape
            annotations.append(made | {"ignore": False, "width": width, "height": height})
    return {
        "info": info(contents),
        "licenses": [],
        "categories": [
            {"id": each.object_id, "name": str(each.object_id), "supercategory": "wildseg3d"}
            for each in _modelled(contents)
        ],
        "images": [
            image_entry(view, f"rgb/{view:06d}.png", contents.scene.camera_size(view))
            for view in range(len(contents.names))
        ],
        "annotations": annotations,
    }


def _model_points(contents: Contents, each: SceneObject) -> NDArray[np.float64]:
    """(M, 3) the object's points in its box's frame, in millimetres."""
    assert each.box is not None
    points = contents.cloud(each).points.astype(np.float64)
    return _MM * apply(invert(each.box.frame_from_box), points)


def _models_info(contents: Contents) -> dict[str, Any]:
    made = {}
    for each in _modelled(contents):
        points = _model_points(contents, each)
        low, high = points.min(axis=0), points.max(axis=0)
        # Of the box: the farthest two of thousands of points would take minutes to find.
        values = {"diameter": float(np.linalg.norm(high - low))}
        for axis, name in enumerate("xyz"):
            values |= {f"min_{name}": low[axis], f"size_{name}": high[axis] - low[axis]}
        made[str(each.object_id)] = {key: float(value) for key, value in values.items()}
    return made


def _write_model(contents: Contents, each: SceneObject, path: Path) -> None:
    assert each.box is not None
    colors = contents.cloud(each).colors
    normals = contents.graspable.normals((each.object_id,))
    turned = normals @ each.box.frame_from_box[:3, :3]
    write_ply(path, _model_points(contents, each), colors, turned)


def _write_rgb(contents: Contents, view: int, path: Path) -> None:
    write_image(path, contents.image(view))


def _write_depth(contents: Contents, view: int, path: Path) -> None:
    depth = contents.depth(view)
    steps = np.rint(_MM * depth.astype(np.float64) / _step(depth))
    write_image(path, np.minimum(steps, np.iinfo(np.uint16).max).astype(np.uint16))


def _write_mask(each: ViewMaskOf, path: Path) -> None:
    write_image(path, each.mask.astype(np.uint8) * 255)


def _step(depth: NDArray[np.float32]) -> float:
    """Millimetres per step that the depth of a view fits into 16 bits with."""
    farthest = _MM * float(depth.max(initial=0.0)) / np.iinfo(np.uint16).max
    return next((step for step in _STEPS if farthest <= step), _STEPS[-1])
