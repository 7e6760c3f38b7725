"""Boxes, masks, 3D points and ids, alone and together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import (
    NEGATIVE,
    Box,
    Click,
    MaskCache,
    Point,
    Prompt,
    ViewMask,
)
from wildseg3d_ros.editing import add_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.pipeline import segment
from wildseg3d_testing.exact import exact_cache, exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree


@pytest.fixture(scope="module")
def truth():
    return construct_scene()


@pytest.fixture(scope="module")
def scene(truth):
    return exact_scene(truth)


def mask_of(truth, object_id, view=0):
    return ViewMask(f"cam_{view}", truth.labels[view] == object_id)


def place_on(truth, object_id, view=0):
    u, v = most_interior_pixel(truth.labels[view] == object_id)
    return truth.points[view][v, u].astype(float)


def test_masked_object_is_the_one_that_the_mask_covers(truth, scene):
    for object_id in truth.object_ids:
        for view in range(4):
            given = mask_of(truth, object_id, view)
            if given.mask.sum() < 100:
                continue
            assert segment(scene, Prompt(masks=(given,))).object_ids == (object_id,)
            rough = cv2.dilate(given.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            rough = Prompt(masks=(ViewMask(given.view, rough),))
            assert segment(scene, rough).object_ids == (object_id,)


def test_masked_object_may_be_a_part(truth):
    parts = tuple(
        np.where((labels == 1) & (np.indices(labels.shape)[1] % 2 == 0), 40, 0).astype(np.int32)
        for labels in truth.labels
    )
    exact = exact_cache(truth)
    cache = MaskCache(exact.labels, exact.scores, exact.object_ids, (parts,),
                      describe_objects([exact.labels, parts], exact.scores))  # fmt: skip
    scene = exact_scene(truth, cache=cache)
    half = ViewMask("cam_0", parts[0] == 40)
    assert segment(scene, Prompt(masks=(half,))).object_ids == (40,)
    assert segment(scene, Prompt(masks=(mask_of(truth, 1),))).object_ids == (1,)


def test_box_around_two_objects_means_both(truth, scene):
    labels = truth.labels[0]
    one, other = np.unique(labels[labels > 0])[:2].tolist()
    rows, columns = np.nonzero(np.isin(labels, (one, other)))
    box = Box("cam_0", columns.min(), rows.min(), columns.max(), rows.max())
    inside = labels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    held = [int(i) for i in np.unique(inside[inside > 0])
            if (inside == i).sum() >= 0.8 * (labels == i).sum()]  # fmt: skip
    assert len(held) > 1
    assert segment(scene, Prompt(boxes=(box,))).object_ids == tuple(held)
    empty = Box("cam_0", 0, 0, 159, 119)  # around everything, which does not fill it
    with pytest.raises(PromptError, match="no cached object fills the box"):
        segment(scene, Prompt(boxes=(empty,)))


def test_masked_object_names_masks_that_mean_nothing_cached(truth, scene):
    background = ViewMask("cam_0", truth.labels[0] == 0)
    with pytest.raises(PromptError, match="no cached object has a mask like") as refused:
        segment(scene, Prompt(masks=(background,)))
    assert refused.value.code == ErrorCode.NO_OBJECT_AT_PIXEL
    with pytest.raises(PromptError, match="is 80x60, but its images are 160x120"):
        segment(scene, Prompt(masks=(ViewMask("cam_0", np.ones((60, 80), bool)),)))
    with pytest.raises(PromptError, match="no camera 'cam_8'"):
        segment(scene, Prompt(masks=(ViewMask("cam_8", np.ones((60, 80), bool)),)))
    with pytest.raises(PromptError, match="is empty"):
        ViewMask("cam_0", np.zeros((120, 160), bool))
    with pytest.raises(PromptError, match=r"shape \(3,\) of float64"):
        ViewMask("cam_0", np.zeros(3))


def test_add_object_by_a_mask_in_one_view(truth):
    made = true_tree(truth)
    blank = exact_scene(truth, cache=treed_cache(truth, made, ()))
    given = mask_of(truth, 1)
    extended, cloud = add_object(blank, Prompt(masks=(given,)))
    for view, labels in enumerate(truth.labels):
        np.testing.assert_array_equal(cloud.masks[f"cam_{view}"], labels == 1)
    assert extended.object_ids == cloud.object_ids
    assert truth.distance_to_object(1, cloud.points).max() < 1e-4


def test_click_at_point_means_the_object_measured_there(truth, scene):
    rng = np.random.default_rng(0)
    for object_id in truth.object_ids:
        for _ in range(5):
            place = place_on(truth, object_id) + rng.normal(0, 0.001, 3)
            found = segment(scene, Prompt(points=(Point(*place),)))
            assert found.object_ids == (object_id,)


def test_click_at_point_that_only_another_camera_sees(truth, scene):
    """On the far side of an object, seen from camera 0."""
    back = next(
        place_on(truth, i, 3) for i in truth.object_ids if (truth.labels[3] == i).sum() > 300
    )
    found = segment(scene, Prompt(points=(Point(*back),)))
    assert truth.distance_to_object(found.object_ids[0], back[None])[0] < 1e-3


@pytest.mark.parametrize("place", [(0, 0, 1.5), (50, 50, 50), (-1e6, 0, 0), (0.0, 0.0, 0.3)])
def test_click_at_point_where_nothing_is(scene, place):
    with pytest.raises(PromptError, match="nearest surface is .* m away") as refused:
        segment(scene, Prompt(points=(Point(*map(float, place)),)))
    assert refused.value.code == ErrorCode.POINT_OUTSIDE_SCENE


def test_click_at_point_on_the_table_is_no_object(truth, scene):
    rows, columns = np.nonzero((truth.labels[0] == 0) & (np.abs(truth.points[0][..., 2]) < 1e-3))
    far = [
        k for k in range(0, len(rows), 37)
        if not truth.labels[0][max(rows[k] - 9, 0) : rows[k] + 10,
                               max(columns[k] - 9, 0) : columns[k] + 10].any()
    ]  # fmt: skip
    place = truth.points[0][rows[far[0]], columns[far[0]]].astype(float)
    with pytest.raises(PromptError, match="background") as refused:
        segment(scene, Prompt(points=(Point(*place),)))
    assert refused.value.code == ErrorCode.NO_OBJECT_AT_PIXEL
    with pytest.raises(PromptError, match="finite"):
        Point(0.0, float("nan"), 0.0)


def test_segment_by_ids_and_together_with_clicks(truth, scene):
    assert segment(scene, Prompt(object_ids=(2, 5))).object_ids == (2, 5)
    together = Prompt(
        points=(Point(*place_on(truth, 1)),), masks=(mask_of(truth, 3),), object_ids=(5,)
    )
    cloud = segment(scene, together)
    assert cloud.object_ids == (1, 3, 5)
    assert len(cloud) == sum(scene.index.count(i) for i in (1, 3, 5))
    with pytest.raises(PromptError, match=r"no object 44; its objects are 1, 2, 3") as refused:
        segment(scene, Prompt(object_ids=(1, 44)))
    assert refused.value.code == ErrorCode.UNKNOWN_OBJECT


def test_segment_refuses_what_a_negative_click_excludes(truth, scene):
    u, v = most_interior_pixel(truth.labels[0] == 3)
    no = (Click("cam_0", u, v, NEGATIVE),)
    for prompt in (
        Prompt(no, object_ids=(3,)),
        Prompt(no, masks=(mask_of(truth, 3, 1),)),
        Prompt(no, points=(Point(*place_on(truth, 3)),)),
        Prompt(no, level="sub_part", object_ids=(3, 4)),
    ):
        with pytest.raises(PromptError, match="excludes.*correct the object") as refused:
            segment(scene, prompt)
        assert refused.value.code == ErrorCode.CONTRADICTING_CLICKS
    assert segment(scene, Prompt(no, object_ids=(4,))).object_ids == (4,)


def test_prompt_refuses_to_say_nothing():
    with pytest.raises(PromptError, match="a box, a mask, a 3D point, an object id or a text"):
        Prompt()
    mask = ViewMask("a", np.ones((2, 2), bool))
    with pytest.raises(PromptError, match="two masks"):
        Prompt(masks=(mask, mask))
    with pytest.raises(PromptError, match="is outside the image"):
        segment(
            exact_scene(construct_scene(views=2)), Prompt(boxes=(Box("cam_0", 900, 9, 990, 99),))
        )
