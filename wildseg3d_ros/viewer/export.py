"""What is selected, or all objects, as files to download."""

from __future__ import annotations

import io
import json
import math
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.types import ObjectCloud
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.grasping.objects import known
from wildseg3d_ros.io.clouds import FORMATS, write_cloud
from wildseg3d_ros.viewer.source import Answer, ShownScene

KINDS = {
    ".ply": "Cloud (PLY)",
    ".pcd": "Cloud (PCD)",
    ".npz": "Cloud (NPZ)",
    ".masks.zip": "Masks (PNG)",
    ".box.json": "Box (JSON)",
}
"""What an answer is written as, by the end of the file's name."""


def exported(
    cloud: ObjectCloud,
    box: OrientedBox | None,
    kind: str,
    name_of: Callable[[int], str] = lambda _: "",
) -> bytes:
    """An answer as a file.

    Args:
        kind: one of KINDS.
        name_of: name that somebody gave an object.

    Raises:
        ConfigError: another kind.
    """
    if kind in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"object{kind}"
            write_cloud(path, cloud)
            return path.read_bytes()
    if kind == ".box.json":
        return (json.dumps(box_figures(cloud, box, name_of), indent=1) + "\n").encode()
    if kind != ".masks.zip":
        raise ConfigError(f"cannot export '{kind}'; there are {', '.join(KINDS)}")
    return _zipped({f"{name}.png": _png(mask) for name, mask in cloud.masks.items()})


def all_exported(
    answers: Mapping[int, Answer],
    shown: ShownScene,
    kind: str,
    name_of: Callable[[int], str] = lambda _: "",
) -> bytes:
    """A zip with one file, or a folder of masks, for each object."""
    if kind == ".box.json":
        boxes = [box_figures(each.cloud, each.box, name_of) for each in answers.values()]
        figures = {"scene_id": shown.scene_id, "frame_id": shown.frame_id, "objects": boxes}
        return (json.dumps(figures, indent=1) + "\n").encode()
    files: dict[str, bytes] = {}
    for object_id, each in answers.items():
        if kind == ".masks.zip":
            for name, mask in each.cloud.masks.items():
                files[f"object_{object_id}/{name}.png"] = _png(mask)
        else:
            files[f"object_{object_id}{kind}"] = exported(each.cloud, each.box, kind)
    return _zipped(files)


def box_figures(
    cloud: ObjectCloud, box: OrientedBox | None, name_of: Callable[[int], str] = lambda _: ""
) -> dict[str, Any]:
    """Pose and size of a box, in the scene's frame and unit, as JSON has them."""
    return {
        "object_ids": list(cloud.object_ids),
        "names": [name_of(each) for each in cloud.object_ids],
        "scene_id": cloud.scene_id,
        "frame_id": cloud.frame_id,
        "stamp_ns": cloud.stamp_ns,
        "points": len(cloud),
        "score": None if math.isnan(cloud.score) else cloud.score,
        "frame_from_box": None if box is None else box.frame_from_box.tolist(),
        "size": None if box is None else box.size.tolist(),
        "coverage": None if box is None else known(box.coverage),
    }


def _png(mask: np.ndarray) -> bytes:
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()
