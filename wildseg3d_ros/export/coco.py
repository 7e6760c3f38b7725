"""Masks in the format of COCO (https://cocodataset.org/#format-data), as run-length codes.

Beside COCO's own fields an annotation has ``track_id``: the object's id, which is the same in all
images, and ``score`` where one is known.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.export.clouds import image_name, images, write_json
from wildseg3d_ros.export.contents import Contents, ViewMaskOf
from wildseg3d_ros.export.target import Plan
from wildseg3d_ros.grasping.objects import known

_CATEGORIES = {level: number for number, level in enumerate(LEVELS, 1)}


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of a mask (H, W), column by column; the first run is of False."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def annotation(number: int, image: int, category: int, each: ViewMaskOf) -> dict[str, Any]:
    """A mask as COCO has it.

    Args:
        number: of the annotation.
        image, category: their ids.
        each: the mask.
    """
    height, width = each.mask.shape
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": [height, width], "counts": run_lengths(each.mask)},
        "area": int(each.mask.sum()),
        "bbox": list(each.box),
        "iscrowd": 0,
    }


def image_entry(number: int, file: str, size: tuple[int, int]) -> dict[str, Any]:
    """An image of that (height, width) as COCO has it."""
    return {"id": number, "file_name": file, "width": size[1], "height": size[0]}


def info(contents: Contents) -> dict[str, Any]:
    """Where masks come from, as COCO has it; the date is that of the scene's newest image."""
    made = dt.datetime.fromtimestamp(contents.scene.stamp_ns * 1e-9, dt.UTC)
    return {
        "description": f"wildseg3d scene {contents.scene.scene_id}",
        "version": "1.0",
        "year": made.year,
        "contributor": "",
        "url": "",
        "date_created": made.isoformat(" "),
    }


def coco(contents: Contents) -> Plan:
    """``coco.json`` and the images that it names; the first image and annotation are number 1."""
    return {**images(contents), "coco.json": lambda path: _write(contents, path)}


def _write(contents: Contents, path: Path) -> None:
    annotations = []
    for number, each in enumerate(contents.masks, 1):
        made = annotation(number, each.view + 1, _CATEGORIES[each.each.level], each)
        score = known(each.each.score)
        made |= {"track_id": each.each.object_id}
        annotations.append(made if score is None else {**made, "score": score})
    used = {each.each.level for each in contents.masks} | {LEVELS[0]}
    write_json(
        path,
        {
            "info": info(contents),
            "licenses": [],
            "images": [
                image_entry(view + 1, image_name(contents, view), contents.scene.camera_size(view))
                for view in range(len(contents.names))
            ],
            "categories": [
                {"id": number, "name": level, "supercategory": "object"}
                for level, number in _CATEGORIES.items()
                if level in used
            ],
            "annotations": annotations,
        },
        compact=True,
    )
