"""docs/reference/formats.md says what is so of messages."""

from __future__ import annotations

import array

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.streams.camera_info import lens_from_info
from wildseg3d_ros.streams.images import (
    COLOR_ENCODINGS,
    DEPTH_ENCODINGS,
    depth_from_image,
    rgb_from_image,
)
from wildseg3d_testing.formats_page import rows_of_page

ROWS = rows_of_page()


def listed(section: str, refused: bool) -> list[str]:
    """What the rows of a section name, those of messages alone."""
    rows = [row for row in ROWS if row.section == section and row.refused == refused]
    names = [name for row in rows for name in row.names if " " not in name and ":" not in name]
    return [name for name in names if name not in ("rectified", "frame_id")]


@pytest.mark.parametrize(
    ("section", "read", "encodings"),
    [
        ("Colour over ROS", rgb_from_image, COLOR_ENCODINGS),
        ("Depth over ROS", depth_from_image, DEPTH_ENCODINGS),
    ],
)
def test_formats_page_lists_the_encodings_that_are_read(section, read, encodings):
    def message(encoding: str) -> Image:
        data = array.array("B", bytes(1000))
        return Image(height=4, width=6, step=48, encoding=encoding, data=data)

    for encoding in listed(section, refused=False):
        assert read(message(encoding), "it").shape[:2] == (4, 6)
    for encoding in listed(section, refused=True):
        with pytest.raises(InputError, match=r"supported are") as said:
            read(message(encoding), "it")
        assert encoding in str(said.value)
        assert len(str(said.value).splitlines()) == 1
    assert set(encodings) <= set(listed(section, refused=False))


def test_formats_page_lists_the_lenses_that_are_read():
    def lens(model: str):
        info = CameraInfo(
            height=48, width=64, distortion_model=model, k=np.diag([50.0, 50.0, 1.0]).ravel(),
            d=[0.01, 0.02, 0.01, 0.01],
        )  # fmt: skip
        return lens_from_info(info, (48, 64), "it", "info")

    models = listed("Lenses over ROS", refused=False)
    assert all(lens(model).distorted for model in models)
    for model in listed("Lenses over ROS", refused=True):
        with pytest.raises(InputError, match=f"unknown distortion model '{model}'") as said:
            lens(model)
    known = str(said.value).partition("known are ")[2].partition(";")[0].split(", ")
    assert set(known) == set(models)
