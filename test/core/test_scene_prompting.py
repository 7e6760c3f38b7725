from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import (
    NEGATIVE,
    POSITIVE,
    Box,
    Click,
    MaskCache,
    MaskOrigin,
    Prompt,
    ViewMask,
)
from wildseg3d_ros.editing import add_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_testing.exact import exact_cache, exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree


@pytest.fixture(scope="module")
def truth():
    return construct_scene()


@pytest.fixture(scope="module")
def scene(truth):
    return exact_scene(truth)


def on(truth, object_id, view=0, label=POSITIVE):
    u, v = most_interior_pixel(truth.labels[view] == object_id)
    return Click(truth.views[view].name, u, v, label)


def with_labels(truth, labels):
    """A scene of which view 0 has these labels, and no other view any."""
    maps = [np.zeros_like(each) for each in truth.labels]
    maps[0][:] = labels
    scores = tuple((each > 0).astype(np.float32) for each in maps)
    ids = tuple(sorted(set(np.unique(labels).tolist()) - {0}))
    return exact_scene(truth, cache=MaskCache(tuple(maps), scores, ids))


def test_answer_one_click_gets_its_object_from_all_views(truth, scene):
    for object_id in truth.object_ids:
        views = [i for i, labels in enumerate(truth.labels) if (labels == object_id).sum() > 30]
        for view in views:
            cloud = answer(scene, Prompt((on(truth, object_id, view),)))
            assert cloud.object_ids == (object_id,)
            np.testing.assert_array_equal(
                cloud.points, scene.index.points[scene.index.rows(object_id)]
            )
            for name, labels in zip(scene.view_names, truth.labels, strict=True):
                np.testing.assert_array_equal(cloud.masks[name], labels == object_id)
    assert (cloud.frame_id, cloud.stamp_ns, cloud.scene_id) == (
        scene.frame_id, scene.stamp_ns, scene.scene_id,
    )  # fmt: skip
    assert len(cloud) == len(cloud.colors) == len(cloud.confidence) == len(cloud.view_count)


def test_answer_is_a_copy(truth, scene):
    prompt = Prompt((on(truth, 1),))
    cloud = answer(scene, prompt)
    before = cloud.points.copy()
    cloud.points[:] = 0
    np.testing.assert_array_equal(answer(scene, prompt).points, before)


def test_segment_answers_with_the_same(truth, scene):
    prompt = Prompt((on(truth, 2),))
    np.testing.assert_array_equal(segment(scene, prompt).points, answer(scene, prompt).points)


def test_answer_positive_clicks_on_several_objects_choose_all(truth, scene):
    cloud = answer(scene, Prompt((on(truth, 3), on(truth, 1), on(truth, 1, view=1))))
    assert cloud.object_ids == (1, 3)
    assert len(cloud) == scene.index.count(1) + scene.index.count(3)
    expected = (truth.labels[2] == 1) | (truth.labels[2] == 3)
    np.testing.assert_array_equal(cloud.masks[scene.view_names[2]], expected)


def test_answer_negative_click_elsewhere_changes_nothing(truth, scene):
    empty_v, empty_u = np.argwhere(truth.labels[0] == 0)[0]
    off = Click("cam_0", empty_u, empty_v, NEGATIVE)
    cloud = answer(scene, Prompt((on(truth, 1), on(truth, 2, label=NEGATIVE), off)))
    assert cloud.object_ids == (1,)


def test_answer_refuses_and_names_contradicting_clicks(truth, scene):
    clicks = (on(truth, 1), on(truth, 2), on(truth, 1, view=1, label=NEGATIVE))
    with pytest.raises(PromptError, match="leave one of the two clicks out") as caught:
        answer(scene, Prompt(clicks))
    assert caught.value.code == ErrorCode.CONTRADICTING_CLICKS
    for click in (clicks[0], clicks[2]):
        assert f"'{click.view}' pixel ({click.u:g}, {click.v:g})" in str(caught.value)


def test_answer_window_beside_objects_decides_by_majority(truth):
    labels = np.zeros_like(truth.labels[0])
    labels[50:56, 60:63] = 4  # 18 pixels
    labels[50:56, 67:72] = 7  # 30, of which the window about column 65 sees 5 columns
    scene = with_labels(truth, labels)
    assert answer(scene, Prompt((Click("cam_0", 65, 53),))).object_ids == (7,)
    assert answer(scene, Prompt((Click("cam_0", 61, 53),))).object_ids == (4,)
    # With a window of 2 pixels there is nothing about column 65, and of 3 only object 4.
    assert scene.click_radius == 6


@pytest.mark.parametrize(("radius", "u", "found"), [(0, 62, 4), (0, 63, None), (3, 65, 4)])
def test_answer_window_is_as_wide_as_configured(truth, radius, u, found):
    labels = np.zeros_like(truth.labels[0])
    labels[50:56, 60:63] = 4
    cache = MaskCache((labels, *exact_cache(truth).labels[1:]), exact_cache(truth).scores,
                      tuple(range(1, 8)))  # fmt: skip
    scene = exact_scene(truth, cache=cache, config=IndexConfig(click_radius=radius))
    prompt = Prompt((Click("cam_0", u, 53),))
    if found is None:
        with pytest.raises(PromptError):
            answer(scene, prompt)
    else:
        assert answer(scene, prompt).object_ids == (found,)


def test_locate_unknown_camera_names_those_there_are(truth, scene):
    with pytest.raises(PromptError, match="did you mean 'cam_1'") as caught:
        answer(scene, Prompt((Click("cam1", 5, 5),)))
    assert caught.value.code == ErrorCode.UNKNOWN_CAMERA
    assert "cam_0, cam_1, cam_2, cam_3" in str(caught.value)


@pytest.mark.parametrize(
    ("u", "v"), [(-1, 5), (5, -1), (160, 5), (5, 120), (-0.51, 5), (159.5, 5), (5, 119.6)]
)
def test_locate_refuses_pixels_outside_the_image_with_its_size(scene, u, v):
    with pytest.raises(PromptError, match="which is 160x120: u from 0 to 159") as caught:
        answer(scene, Prompt((Click("cam_0", u, v),)))
    assert caught.value.code == ErrorCode.PIXEL_OUTSIDE_IMAGE


@pytest.mark.parametrize(("u", "v"), [(-0.5, -0.5), (0, 0), (159.49, 119.49)])
def test_locate_takes_half_a_pixel_beyond_the_outermost_centres(truth, u, v):
    scene = with_labels(truth, np.full_like(truth.labels[0], 3))
    assert answer(scene, Prompt((Click("cam_0", u, v),))).object_ids == (3,)


def test_answer_on_background_names_the_nearest_object(truth):
    labels = np.zeros_like(truth.labels[0])
    labels[50:56, 60:63] = 4
    with pytest.raises(PromptError, match=r"nearest object \(4\) begins at pixel \(62, 53\)") as e:
        answer(with_labels(truth, labels), Prompt((Click("cam_0", 90, 53),)))
    assert e.value.code == ErrorCode.NO_OBJECT_AT_PIXEL


def test_answer_tells_a_pixel_without_depth_from_background(truth):
    world = exact_world(truth)
    cache = exact_cache(truth)
    for maps in (world.confidence, cache.labels):
        maps[0][:30, :30] = 0
    world.points[0][:30, :30] = np.nan
    scene = exact_scene(truth, world, cache)
    with pytest.raises(PromptError, match="no depth was measured within 6 px") as caught:
        answer(scene, Prompt((Click("cam_0", 10, 10),)))
    assert caught.value.code == ErrorCode.NO_DEPTH_AT_PIXEL


def test_answer_object_without_any_point_is_an_error(truth):
    world = exact_world(truth)
    for labels, confidence in zip(truth.labels, world.confidence, strict=True):
        confidence[labels == 2] = 0
    scene = exact_scene(truth, world)
    assert any("object(s) 2" in warning for warning in scene.warnings)
    with pytest.raises(PromptError, match="object 2 has masks but no reliable 3D point") as caught:
        answer(scene, Prompt((on(truth, 2),)))
    assert caught.value.code == ErrorCode.NO_DEPTH_AT_PIXEL


def test_answer_after_an_error_the_next_good_prompt_is_answered(truth, scene):
    with pytest.raises(PromptError):
        answer(scene, Prompt((Click("nowhere", 1, 1),)))
    assert answer(scene, Prompt((on(truth, 1),))).object_ids == (1,)


def empty(truth, origin=None, points=1.0):
    """A scene without objects, in which a share of the pixels has a point."""
    nothing = tuple(np.zeros_like(each) for each in truth.labels)
    scores = tuple(each.astype(np.float32) for each in nothing)
    world = exact_world(truth)
    for confidence in world.confidence:
        confidence[int(points * len(confidence)) :] = 0
    cache = MaskCache(nothing, scores, (), origin=origin)
    return exact_scene(truth, world=world, cache=cache)


@pytest.mark.parametrize(
    ("origin", "points", "why"),
    [
        (None, 0.0, "only 0.0% of the pixels have a 3D point; look at the depth images"),
        ("sam2", 0.03, r"only \d.\d% of the pixels have a 3D point"),
        ("geometric", 1.0, "is flat, or goes on.*build with masks.backend=sam2"),
        ("sam2", 1.0, "passed the filters in 'masks.sam2'; .*predicted_iou"),
        (None, 1.0, "its masks are empty"),
    ],
)
def test_scene_without_objects_says_why_and_the_way_out(truth, origin, points, why):
    scene = empty(truth, MaskOrigin(origin) if origin else None, points)
    (warning,) = [text for text in scene.warnings if "no object was found" in text]
    assert re.search(f"no click can be answered: .*{why}", warning)
    assert "--add" in warning
    with pytest.raises(PromptError, match="the scene has no object in any view.*--add"):
        answer(scene, Prompt((Click("cam_1", 50, 50),)))


def test_scene_warning_of_no_objects_ends_with_the_first_object(truth):
    scene = exact_scene(truth, cache=treed_cache(truth, true_tree(truth), ()))
    extended, _ = add_object(scene, Prompt(masks=(ViewMask("cam_0", truth.labels[0] == 1),)))
    assert any("no object was found" in text for text in scene.warnings)
    assert not any("no object was found" in text for text in extended.warnings)


def test_answer_where_no_mask_is_says_how_one_is_added(truth, scene):
    near = cv2.dilate((truth.labels[0] > 0).astype(np.uint8), np.ones((41, 41)))
    v, u = np.argwhere(near == 0)[0]
    blind = exact_world(truth)
    blind.confidence[0][:] = 0
    elsewhere = np.zeros(truth.labels[0].shape, bool)
    elsewhere[:3, :3] = True
    for asked, prompt in [
        (scene, Prompt((Click("cam_0", u, v),))),
        (exact_scene(truth, world=blind), Prompt((Click("cam_0", u, v),))),
        (scene, Prompt(boxes=(Box("cam_0", 0, 0, 5, 5),))),
        (scene, Prompt(masks=(ViewMask("cam_0", elsewhere),))),
        (scene, Prompt((on(truth, 1), on(truth, 1, 1, NEGATIVE)))),
    ]:
        with pytest.raises(PromptError, match="add it .edit_object; on the command line: --add"):
            answer(asked, prompt)
