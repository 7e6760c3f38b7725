"""Regions that grow from prompts over the fused surface, without a network."""

from __future__ import annotations

import dataclasses
import re

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import NEGATIVE, Box, Click, MaskCache, Prompt
from wildseg3d_ros.editing import add_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.masks.surface.fused import fuse_surface
from wildseg3d_testing.exact import exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene


def on(truth, object_id, view=0):
    u, v = most_interior_pixel(truth.labels[view] == object_id)
    return Click(truth.views[view].name, u, v)


@pytest.fixture(scope="module")
def table():
    """A larger scene: objects 1 and 2 touch, 4 stands on 1, all others stand apart."""
    return construct_scene(views=4, width=240, height=180, objects=7, seed=6)


def emptied(truth, world=None):
    """A scene in which nobody found anything."""
    nothing = tuple(np.zeros_like(m) for m in truth.labels)
    cache = MaskCache(nothing, tuple(m.astype(np.float32) for m in nothing), ())
    return exact_scene(truth, world=world, cache=cache)


def overlap(cloud, truth, object_id, view):
    mask, true = cloud.masks[f"cam_{view}"], truth.labels[view] == object_id
    return (mask & true).sum() / max(1, (mask | true).sum())


def test_region_growing_says_that_it_is_approximate(table):
    scene = emptied(table)
    for object_id in (3, 5, 6, 7):
        extended, cloud = add_object(scene, Prompt((on(table, object_id),)))
        assert min(overlap(cloud, table, object_id, view) for view in range(4)) > 0.97
        assert (table.distance_to_object(object_id, cloud.points) < 0.01).mean() > 0.99
        assert "pointmap, not by the mask back end: approximate" in extended.warnings[-1]


def test_region_growing_fuses_once_for_a_scene_and_its_successors(table, monkeypatch):
    fused = []

    def counted(*arguments):
        fused.append(arguments)
        return fuse_surface(*arguments)

    monkeypatch.setattr("wildseg3d_ros.masks.interactive.region_growing.fuse_surface", counted)
    scene = emptied(table)
    _, first = add_object(scene, Prompt((on(table, 3),)))
    extended, _ = add_object(scene, Prompt((on(table, 5),)))
    again, second = add_object(extended, Prompt((on(table, 3),)))
    assert len(fused) == 1
    for name, mask in first.masks.items():
        np.testing.assert_array_equal(second.masks[name], mask)
    images = (255 - again.images[0], *again.images[1:])
    add_object(dataclasses.replace(again, images=images), Prompt((on(table, 6),)))
    add_object(emptied(table), Prompt((on(table, 6),)))
    assert len(fused) == 3


def test_region_growing_negative_clicks_separate_what_touches(table):
    """The upper box, and the one that it stands on, are told apart by a click on each."""
    scene = emptied(table)
    for view in (0, 2):
        upper, lower = on(table, 4, view), on(table, 1, view)
        off = Click(lower.view, lower.u, lower.v, NEGATIVE)
        _, cloud = add_object(scene, Prompt((upper, off)))
        assert overlap(cloud, table, 4, view) > 0.8


def test_region_growing_negative_click_in_another_view_counts(table):
    scene = emptied(table)
    upper, again, below = on(table, 4, 0), on(table, 4, 2), on(table, 1, 2)
    off = Click(below.view, below.u, below.v, NEGATIVE)
    _, cloud = add_object(scene, Prompt((upper, again, off)))
    assert overlap(cloud, table, 4, 0) > 0.8


def rim(mask, nearest, farthest):
    """(row, column) of some pixels of a mask this far from its outline."""
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    return np.argwhere((distance >= nearest) & (distance <= farthest))[::40].tolist()


def test_seeds_pixel_without_depth_is_what_other_views_measured(table):
    """Nearest to it there is depth of the thing beside it."""
    world, hole = exact_world(table), table.labels[0] == 5
    world.points[0][hole], world.confidence[0][hole] = np.nan, 0
    scene, right, codes = emptied(table, world), 0, set()
    places = rim(hole, 3, 6)
    for row, column in places:
        try:
            _, cloud = add_object(scene, Prompt((Click("cam_0", column, row),)))
        except PromptError as error:  # a side that no other view sees
            codes.add(error.code)
            continue
        assert cloud.masks["cam_0"][row, column]
        assert overlap(cloud, table, 5, 0) > 0.6
        right += 1
    assert right > 0.5 * len(places) > 2
    assert codes <= {ErrorCode.NO_DEPTH_AT_PIXEL}


def test_seeds_pixel_without_depth_in_any_view_is_no_other_thing(table):
    world = exact_world(table)
    for labels, points, confidence in zip(
        table.labels, world.points, world.confidence, strict=True
    ):
        points[labels == 5], confidence[labels == 5] = np.nan, 0
    scene = emptied(table, world)
    places = rim(table.labels[0] == 5, 3, 6)
    assert len(places) > 4
    for row, column in places:
        says = r"nearest pixel with depth is \((\d+), (\d+)\)"
        with pytest.raises(PromptError, match=says) as error:
            add_object(scene, Prompt((Click("cam_0", column, row),)))
        assert error.value.code == ErrorCode.NO_DEPTH_AT_PIXEL
        u, v = map(int, re.search(says, str(error.value)).groups())
        assert world.confidence[0][v, u] > 0
        assert np.hypot(u - column, v - row) < 10


def test_region_growing_names_points_that_contradict_each_other(table):
    click = on(table, 5)
    off = Click(click.view, click.u + 1, click.v, NEGATIVE)
    says = (
        rf"camera 'cam_0': pixel \({click.u}, {click.v}\) is to be on the object and "
        rf"\({off.u}, {off.v}\) off it.*contradict each other"
    )
    with pytest.raises(PromptError, match=says) as error:
        add_object(emptied(table), Prompt((click, off)))
    assert error.value.code == ErrorCode.CONTRADICTING_CLICKS


def test_region_growing_what_goes_on_as_a_table_is_background(table):
    rows, columns = np.nonzero(table.labels[0] == 0)
    z = table.points[0][rows, columns, 2]
    on_top = np.flatnonzero(np.abs(z) < 1e-4)
    place = on_top[len(on_top) // 2]
    click = Click("cam_0", int(columns[place]), int(rows[place]))
    with pytest.raises(PromptError, match="seems to be background") as error:
        add_object(emptied(table), Prompt((click,)))
    assert error.value.code == ErrorCode.NO_OBJECT_AT_PIXEL


def test_regions_in_box_need_a_thing_in_the_box():
    scenes = [construct_scene(views=4, width=240, height=180, objects=5, seed=k) for k in (3, 6)]
    bare = found = 0
    for truth in scenes:
        nothing = tuple(np.zeros_like(m) for m in truth.labels)
        cache = MaskCache(nothing, tuple(m.astype(np.float32) for m in nothing), ())
        noisy = exact_world(truth)
        rng = np.random.default_rng(1)
        for pose, points in zip(truth.world_from_cam, noisy.points, strict=True):
            centre = pose[:3, 3].astype(np.float32)
            points += (points - centre) * rng.normal(0, 0.001, (*points.shape[:2], 1))
        scene = exact_scene(truth, world=noisy, cache=cache)
        labels = truth.labels[0]
        for v in range(10, 150, 35):
            for u in range(10, 200, 35):
                if not labels[v - 5 : v + 30, u - 5 : u + 35].any():
                    with pytest.raises(PromptError, match="nothing in the box stands out") as e:
                        add_object(scene, Prompt((), boxes=(Box("cam_0", u, v, u + 30, v + 24),)))
                    assert e.value.code == ErrorCode.NO_OBJECT_AT_PIXEL
                    bare += 1
        for i in truth.object_ids:
            rows, columns = np.nonzero(labels == i)
            if len(rows) > 300:
                box = Box("cam_0", columns.min(), rows.min(), columns.max(), rows.max())
                _, cloud = add_object(scene, Prompt((), boxes=(box,)))
                mask, true = cloud.masks["cam_0"], labels == i
                found += (mask & true).sum() > 0.5 * (mask | true).sum()
    assert bare >= 10
    assert found >= 5
