"""Descriptions of recordings that cannot be used, and what their errors say."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.io.folder import load_folder


def test_load_folder_malformed_json(folder):
    folder.load()
    for text, message in (("{", "not readable JSON"), ("[1]", "holds a list")):
        (folder.path / "transforms.json").write_text(text)
        with pytest.raises(FileError, match=message):
            load_folder(folder.path)


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        (lambda m: m.pop("frames"), "needs a list 'frames'", ErrorCode.BAD_FILE),
        (lambda m: m.update(frames={}), "needs a list 'frames'", ErrorCode.BAD_FILE),
        (lambda m: m.update(frames=[]), "lists no frames", ErrorCode.NO_IMAGES),
        (lambda m: m["frames"][1].pop("file_path"), "frame 1 has no 'file_path'",
         ErrorCode.BAD_FILE),
        (lambda m: m["frames"][1].update(file_path="images/lost.png"),
         "names 'images/lost.png', which does not exist", ErrorCode.BAD_FILE),
        (lambda m: m["frames"][1].update(file_path="images/left.png"),
         "two frames give the camera name 'images_left'", ErrorCode.BAD_IMAGE),
        (lambda m: m.pop("fl_x"), "has no fl_x, neither for this frame nor for all",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(fl_x=0), "positive focal lengths", ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(fl_x="70"), "'fl_x' must be a number, got '70'", ErrorCode.BAD_FILE),
        (lambda m: m.update(cx=None), "has no cx, neither.*all four intrinsics.*or none of them",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: [m.update(dict.fromkeys(("fl_x", "fl_y", "cx", "cy"))), m.update(k1=0.1)],
         r"lens is said to distort \(OPENCV\), but has no intrinsics", ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(w=1280, h=960), "are for 1280x960 pixels but the image is 64x48",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(camera_model="EQUIRECTANGULAR"),
         "unknown camera_model 'EQUIRECTANGULAR'", ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(k4=0.1), "camera_model OPENCV has no coefficient k4",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(transform_matrix=[[1, 0], [0, 1]]), "must be 4x4 numbers",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(transform_matrix="here"), "must be 4x4 numbers",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()),
         "not a rotation", ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(stamp_ns=1.5), "must be integer nanoseconds",
         ErrorCode.BAD_FILE),
        (lambda m: m.update(object_names=["mug"]), "object_names maps labels to names",
         ErrorCode.BAD_FILE),
        (lambda m: m.update(depth_unit_scale_factor=0), "must be positive, got 0",
         ErrorCode.BAD_DEPTH),
    ],
)  # fmt: skip
def test_load_folder_names_bad_metadata(folder, change, message, code):
    change(folder.meta)
    with pytest.raises((FileError, InputError), match=message) as caught:
        folder.load()
    assert caught.value.code == code
