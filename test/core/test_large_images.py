"""Scenes of images larger than what is worked on: all that a user sees is in the camera's own
pixels."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

import wildseg3d_ros as ws
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.resizing import size_within, smaller_mask
from wildseg3d_ros.core.types import Box, Point, View, ViewMask
from wildseg3d_ros.core.types.working import at_working_size
from wildseg3d_ros.evaluation import evaluate, most_interior_pixel
from wildseg3d_ros.export.formats import export_scene
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.pipeline import build_scene, update_scene
from wildseg3d_ros.scene.nearest import click_at_point
from wildseg3d_testing.scenes import construct_scene

CONFIG = SceneConfig(max_megapixels=0.0123)
"""Of 256x192 pixels, 128x96 are worked on."""
SIZE, WORKED = (192, 256), (96, 128)


@pytest.fixture(scope="module")
def truth():
    return construct_scene(3, 256, 192, 3, seed=4)


@pytest.fixture(scope="module")
def recording(truth):
    return truth.recording()


@pytest.fixture(scope="module")
def snapshot(recording):
    return build_scene(recording.views, CONFIG)


@pytest.fixture(scope="module")
def scene(snapshot, tmp_path_factory):
    """As a file has it."""
    path = tmp_path_factory.mktemp("large") / "scene.ws3d"
    ws.Scene(snapshot).save(path)
    return ws.load(path)


def test_depth_of_a_smaller_view_is_measured_and_lies_where_it_was(recording):
    view = recording.views[0]
    small = at_working_size(view, CONFIG.max_megapixels)
    assert small.size == WORKED and small.full_size == SIZE
    rows, columns = np.nonzero(small.depth > 0)
    # Working pixel (0, 0) covers pixels 0 and 1; its value is that of pixel 1.
    np.testing.assert_array_equal(
        small.depth[rows, columns], view.depth[2 * rows + 1, 2 * columns + 1]
    )
    for axis, at in ((0, columns), (1, rows)):
        ray = (at - small.K[axis, 2]) / small.K[axis, axis]
        own = (2 * at + 0.5 - view.K[axis, 2]) / view.K[axis, axis]
        np.testing.assert_allclose(ray, own, atol=1e-12)


def test_usual_sizes_are_worked_on_whole():
    default = SceneConfig().max_megapixels
    for size in ((480, 640), (960, 1280), (1080, 1920)):
        assert size_within(size, default) == size
    height, width = size_within((3000, 4000), default)
    assert 2.0e6 < height * width <= 2.1e6 and abs(width / height - 4 / 3) < 1e-3
    view = View("a", np.zeros((2000, 2000, 3), np.uint8))
    assert at_working_size(view, 0.0) is view


def test_clicks_boxes_and_masks_are_in_the_cameras_pixels(scene, recording):
    assert scene.snapshot.images[0].shape[:2] == WORKED
    labels = recording.object_masks[0]
    for label in np.unique(labels[labels > 0]).tolist():
        true = labels == label
        u, v = most_interior_pixel(true)
        cloud = scene.segment(("cam_0", u, v))
        for name, own in zip(scene.views, recording.object_masks, strict=True):
            mask, expected = cloud.masks[name], own == label
            assert mask.shape == SIZE
            assert (mask & expected).sum() > 0.75 * (mask | expected).sum()
        rows, columns = np.nonzero(true)
        box = Box("cam_0", columns.min(), rows.min(), columns.max(), rows.max())
        for prompt in (box, ViewMask("cam_0", true)):
            mask = scene.segment(prompt).masks["cam_0"]
            assert (mask & true).sum() > 0.75 * (mask | true).sum()


def test_points_lie_on_what_the_cameras_pixels_show(scene, recording):
    """The click at a point is the pixel that shows it."""
    for point in scene.snapshot.index.points[::500].astype(np.float64):
        click = click_at_point(scene.snapshot, Point(*point))
        view = recording.views[scene.views.index(click.view)]
        seen = np.linalg.inv(view.world_from_cam_prior) @ [*point, 1.0]
        uv = (view.K @ seen[:3])[:2] / seen[2]
        assert np.abs(uv - [click.u, click.v]).max() < 1.5


def test_errors_name_the_cameras_pixels(scene):
    with pytest.raises(PromptError, match=r"which is 256x192: u from 0 to 255"):
        scene.segment(("cam_0", 256, 3))
    with pytest.raises(PromptError, match=r"its images are 256x192"):
        scene.segment(ViewMask("cam_0", np.ones(WORKED, bool)))
    corner = next(
        (u, v)
        for u, v in ((2, 2), (253, 2), (2, 189), (253, 189))
        if not scene.labels("cam_0")[max(v - 24, 0) : v + 24, max(u - 24, 0) : u + 24].any()
    )
    with pytest.raises(PromptError, match="within 12 px") as error:
        scene.segment(("cam_0", *corner))
    assert "pixel ({}, {}):".format(*corner) in str(error.value)
    u, v = map(int, str(error.value).split("begins at pixel (")[1].split(")")[0].split(","))
    assert scene.labels("cam_0")[v, u]


def test_exports_and_organized_clouds_have_the_cameras_size(scene, recording, tmp_path):
    export_scene(scene.snapshot, tmp_path, ("labels", "coco", "json", "nerfstudio"))
    labels = cv2.imread(str(tmp_path / "labels/cam_0.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == scene.labels("cam_0").shape == SIZE
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert {(i["width"], i["height"]) for i in coco["images"]} == {(256, 192)}
    assert all(a["segmentation"]["size"] == [192, 256] for a in coco["annotations"])
    camera = json.loads((tmp_path / "scene.json").read_text())["cameras"][0]
    assert (camera["width"], camera["height"]) == (256, 192)
    np.testing.assert_allclose(camera["K"], recording.views[0].K, atol=1e-9)
    depth = cv2.imread(str(tmp_path / "depth/cam_0.png"), cv2.IMREAD_UNCHANGED)
    assert depth.shape == scene.image("cam_0").shape[:2] == SIZE
    points, image = GraspableScene(scene.snapshot).organized((1,), 0)
    assert points.shape == image.shape == (*SIZE, 3)


def test_a_file_keeps_the_cameras_sizes(scene, snapshot, tmp_path):
    assert scene.snapshot.camera_sizes == snapshot.camera_sizes == (SIZE,) * 3
    wrong = dataclasses.replace(snapshot, camera_sizes=((3, 5), SIZE, SIZE))
    with pytest.raises(
        ws.InvalidScene if hasattr(ws, "InvalidScene") else Exception, match="edge"
    ):
        ws.Scene(wrong).save(tmp_path / "wrong.ws3d")


def test_an_update_takes_images_of_the_cameras_size(snapshot, recording):
    updated = update_scene(snapshot, recording.views, "cam_1")
    assert updated.camera_sizes == snapshot.camera_sizes
    assert updated.images[1].shape[:2] == WORKED
    assert updated.object_ids == snapshot.object_ids


def test_evaluate_compares_at_the_cameras_size(snapshot, recording):
    assert evaluate(recording, snapshot).miou > 0.8


def test_a_mask_of_less_than_half_a_pixel_is_not_lost():
    mask = np.zeros((40, 40), bool)
    mask[8, 9] = True
    small = smaller_mask(mask, (10, 10))
    assert small.sum() == 1 and small[2, 2]
