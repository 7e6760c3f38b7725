"""What is unlikely about a view by itself, and what is not."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig.judge import judge
from wildseg3d_ros.rig.plausible import of_geometry, of_image

RNG = np.random.default_rng(0)
SIZE = (120, 160)
VIEW = View(
    "front",
    RNG.integers(0, 255, (*SIZE, 3), np.uint8),
    np.array([[140.0, 0, 79.5], [0, 141.0, 59.5], [0, 0, 1]]),
    RNG.uniform(0.5, 0.9, SIZE).astype(np.float32),
)


def with_K(fx=140.0, fy=140.0, cx=79.5, cy=59.5):
    return {"K": np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])}


@pytest.mark.parametrize("changes", [{}, {"depth": None}, with_K(110, 115, 90, 50)])
def test_doubts_none_of_what_a_camera_gives(changes):
    view = dataclasses.replace(VIEW, **changes)
    assert of_image(view) == of_geometry(view) == []


def test_dark_image_with_something_bright_is_none_that_shows_nothing():
    image = np.zeros((*SIZE, 3), np.uint8)
    image[50:60, 50:80] = 200
    assert of_image(dataclasses.replace(VIEW, image=image)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": np.zeros((*SIZE, 3), np.uint8)}, "its image is black"),
        ({"image": np.full((*SIZE, 3), 90, np.uint8)}, "all pixels of its image have one value"),
        ({"K": None}, "it has no intrinsics"),
        (with_K(2800, 2800), "sees 3 degrees across"),
        (with_K(14, 14), "sees 160 degrees across"),
        (with_K(140, 105), "focal lengths differ, fx 140 and fy 105"),
        (with_K(cx=159.5, cy=119.5), "far from the middle of an image of 160x120"),
        ({"depth": VIEW.depth * 1000}, "the median of its depth is .* m; is it in another unit"),
        ({"depth": VIEW.depth / 1000}, "in another unit"),
        ({"depth": np.zeros(SIZE, np.float32)}, "only 0.0% of its pixels have depth"),
    ],
)
def test_doubts_says_what_is_odd(changes, says):
    (text,) = judge([dataclasses.replace(VIEW, **changes)]).doubts
    assert text.startswith("camera 'front': ")
    assert re.search(says, text)
