"""Clicks in an image of a camera that is not one of the scene's: they mean what it would show."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.core.types import NEGATIVE, Click
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.scene.seen_from import click_seen_from
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene

LAST = 5


@pytest.fixture(scope="module")
def truth():
    """Six views of a table, of which the scene has five."""
    return construct_scene(views=6, width=240, height=180, objects=8, seed=11)


@pytest.fixture(scope="module")
def scene(truth):
    parts = {
        field.name: getattr(truth, field.name)[:LAST]
        for field in dataclasses.fields(truth)
        if isinstance(getattr(truth, field.name), (tuple, list, np.ndarray))
        and len(getattr(truth, field.name)) == LAST + 1
    }
    return exact_scene(dataclasses.replace(truth, **parts))


def seen(truth, scene, click):
    view = truth.views[LAST]
    return click_seen_from(scene, click, view.K, view.world_from_cam_prior)


def test_click_seen_from_means_what_the_other_camera_shows(truth, scene):
    """Truth: that camera's own exact labels and points."""
    labels = truth.labels[LAST]
    asked = [i for i in truth.object_ids if (labels == i).sum() > 60]
    assert len(asked) >= 6
    for object_id in asked:
        u, v = most_interior_pixel(labels == object_id)
        found = seen(truth, scene, Click("cam_5", u, v, NEGATIVE))
        view = scene.view_index(found.view)
        row, column = int(found.v), int(found.u)
        assert scene.labels[view][row, column] == object_id
        assert found.label == NEGATIVE
        true = truth.points[LAST][int(v), int(u)]
        assert np.linalg.norm(scene.world.points[view][row, column] - true) < 0.01


def test_click_seen_from_anywhere_in_the_image(truth, scene):
    """All over the image, also where things hide others: the same surface, nearly always, where
    the scene has it; at an outline, that on either side of it."""
    rng = np.random.default_rng(0)
    measured = cKDTree(np.concatenate([
        points[scene.world.valid(view)] for view, points in enumerate(scene.world.points)
    ]))  # fmt: skip
    right = total = 0
    for _ in range(150):
        row, column = int(rng.integers(5, 175)), int(rng.integers(5, 235))
        true = truth.points[LAST][row, column]
        if not np.isfinite(true).all() or measured.query(true)[0] > 0.01:
            continue
        found = seen(truth, scene, Click("cam_5", column, row))
        place = scene.world.points[scene.view_index(found.view)][int(found.v), int(found.u)]
        total += 1
        shown = truth.points[LAST][row - 1 : row + 2, column - 1 : column + 2]
        right += bool((np.linalg.norm(shown - place, axis=-1) < 0.02).any())
    assert total > 100
    assert right >= 0.98 * total


def test_click_seen_from_a_camera_that_looks_away(truth, scene):
    view = truth.views[LAST]
    back = make_transform(np.diag([-1.0, 1.0, -1.0]), np.zeros(3))
    with pytest.raises(PromptError, match="nothing of the scene is at this pixel") as error:
        click_seen_from(scene, Click("cam_5", 9, 9), view.K, view.world_from_cam_prior @ back)
    assert error.value.code == ErrorCode.NO_DEPTH_AT_PIXEL
