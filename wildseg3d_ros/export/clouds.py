"""Clouds, label images and what there is to say of a scene, as files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.export.contents import Contents
from wildseg3d_ros.export.target import Plan
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.io.clouds import write_cloud
from wildseg3d_ros.io.images import write_image

_HIGHEST_LABEL = np.iinfo(np.uint16).max


def object_name(each: SceneObject) -> str:
    """Of an object's files."""
    return f"object_{each.object_id:04d}"


def clouds(contents: Contents, suffix: str) -> Plan:
    """A cloud for each object that has points, in the format of the suffix."""

    def write(each: SceneObject, path: Path) -> None:
        write_cloud(path, contents.cloud(each))

    return {
        f"clouds/{object_name(each)}{suffix}": partial(write, each)
        for each in contents.objects
        if each.points
    }


def labels(contents: Contents) -> Plan:
    """A 16-bit image per view and level whose pixels are the objects' ids, 0 = none.

    Raises:
        ConfigError: an id that 16 bits do not hold.
    """
    highest = max((each.object_id for each in contents.objects), default=0)
    if highest > _HIGHEST_LABEL:
        raise ConfigError(
            f"object {highest} does not fit into a label image of 16 bits; export masks as coco "
            "or build the scene again, which gives new ids"
        )
    known = {each.level for each in contents.objects} | {LEVELS[0]}

    def write(view: int, level: str, path: Path) -> None:
        write_image(path, contents.labels(view, level).astype(np.uint16))

    return {
        f"{'labels' if level == LEVELS[0] else f'labels_{level}'}/{contents.names[name]}.png": (
            partial(write, view, level)
        )
        for level in LEVELS
        if level in known
        for view, name in enumerate(contents.scene.view_names)
    }


def images(contents: Contents) -> Plan:
    """The image of each view."""

    def write(view: int, path: Path) -> None:
        write_image(path, contents.image(view))

    return {
        image_name(contents, view): partial(write, view)
        for view in range(len(contents.scene.view_names))
    }


def image_name(contents: Contents, view: int) -> str:
    """Of the image of a view."""
    return f"images/{contents.names[contents.scene.view_names[view]]}.png"


def figures(contents: Contents) -> dict[str, Any]:
    """Cameras and objects of a scene as JSON has them.

    Lengths are metres where ``metric`` says so. ``world_from_cam`` takes points of a camera, whose
    axes are OpenCV's, to the frame ``frame_id``; ``frame_from_box`` those of a box.
    """
    scene = contents.scene
    cameras = [
        {
            "name": name,
            "width": scene.camera_size(view)[1],
            "height": scene.camera_size(view)[0],
            "K": contents.intrinsics(view).tolist(),
            "world_from_cam": pose.tolist(),
            "frame_id": frame,
            "stamp_ns": int(stamp),
        }
        for view, (name, pose, frame, stamp) in enumerate(
            zip(
                scene.view_names,
                scene.world_from_cam,
                scene.camera_frames,
                scene.stamps_ns,
                strict=True,
            )
        )
    ]
    masks: dict[int, dict[str, Any]] = {}
    for each in contents.masks:
        name = scene.view_names[each.view]
        said = {"box": list(each.box), "area": int(each.mask.sum())}
        masks.setdefault(each.each.object_id, {})[name] = said
    return {
        "scene_id": scene.scene_id,
        "frame_id": scene.frame_id,
        "stamp_ns": int(scene.stamp_ns),
        "metric": bool(scene.alignment.metric),
        "cameras": cameras,
        "objects": [
            {**each.to_dict(), "masks": masks.get(each.object_id, {})} for each in contents.objects
        ],
        "warnings": list(scene.warnings),
    }


def summary(contents: Contents) -> Plan:
    """``scene.json``: see :func:`figures`."""
    return {"scene.json": lambda path: write_json(path, figures(contents))}


def write_json(path: Path, value: Any, compact: bool = False) -> None:
    """Writes a value as JSON; ``compact`` for one of many numbers."""
    form: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    write_bytes(path, (json.dumps(value, allow_nan=False, **form) + "\n").encode())
