from __future__ import annotations

import json

import numpy as np
import pytest

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.evaluation import compare, evaluate, most_interior_pixel, peak_memory_mb
from wildseg3d_ros.io.folder import Recording
from wildseg3d_testing.exact import exact_cache, exact_scene
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def truth():
    return construct_scene()


@pytest.fixture(scope="module")
def scene(truth):
    return exact_scene(truth)


def recording_with(truth, masks):
    return Recording(truth.views, tuple(masks), truth.object_names)


def masks_of(truth):
    return [labels.astype(np.uint8) for labels in truth.labels]


def test_evaluate_perfect_masks_score_one(truth, scene):
    result = evaluate(truth.recording(), scene, "cam_1")
    assert result.reference_view == "cam_1"
    assert [o.label for o in result.objects] == sorted(set(np.unique(truth.labels[1])) - {0})
    assert result.miou == result.macc == result.miou_at_depth == result.macc_at_depth == 1.0
    for score in result.objects:
        assert score.error == ""
        assert score.object_ids == (score.label,)
        assert score.points == scene.index.count(score.label)
        assert score.name == truth.object_names[score.label]
        assert list(score.views) == ["cam_0", "cam_2", "cam_3"]
    assert result.seconds == scene.seconds
    assert result.peak_memory_mb > 10
    assert json.loads(json.dumps(result.to_dict()))["miou"] == 1.0


def test_evaluate_scores_the_reference_view_on_request(truth, scene):
    result = evaluate(truth.recording(), scene, "cam_1", include_reference=True)
    assert result.reference_scored
    assert list(result.objects[0].views) == ["cam_0", "cam_1", "cam_2", "cam_3"]


def test_evaluate_default_reference_has_most_objects(truth, scene):
    masks = masks_of(truth)
    for i in (0, 1, 3):
        masks[i][masks[i] == 2] = 0
    assert evaluate(recording_with(truth, masks), scene).reference_view == "cam_2"
    # As many objects everywhere: most pixels. 255 is not an object.
    for mask in masks:
        mask[mask != 1] = 0
        mask[0, :5] = 255
    most = max(range(4), key=lambda i: (masks[i] == 1).sum())
    assert evaluate(recording_with(truth, masks), scene).reference_view == f"cam_{most}"


def test_evaluate_scores_are_those_counted_by_pixel(truth):
    # Object 1's mask loses its left half in view 2 and grows over object 2 in view 3.
    cache = exact_cache(truth)
    columns = np.argwhere(truth.labels[2] == 1)[:, 1]
    half = int(np.median(columns))
    cache.labels[2][:, :half][cache.labels[2][:, :half] == 1] = 0
    cache.labels[3][cache.labels[3] == 2] = 1
    scene = exact_scene(truth, cache=cache)
    masks = masks_of(truth)
    masks[2][:40] = 255
    result = evaluate(recording_with(truth, masks), scene, "cam_0")
    score = next(o for o in result.objects if o.label == 1)
    for view, name in ((1, "cam_1"), (2, "cam_2"), (3, "cam_3")):
        both = union = right = pixels = 0
        for row in range(120):
            for column in range(160):
                true = masks[view][row, column] == 1
                said = cache.labels[view][row, column] == 1
                if masks[view][row, column] != 255:
                    both += true and said
                    union += true or said
                    right += true == said
                    pixels += 1
        assert score.views[name].iou == pytest.approx(both / union)
        assert score.views[name].accuracy == pytest.approx(right / pixels)
    assert score.views["cam_2"].iou < 0.9
    assert score.views["cam_3"].iou < 0.9
    assert score.iou == pytest.approx(np.mean([s.iou for s in score.views.values()]))
    assert result.miou == pytest.approx(np.mean([o.iou for o in result.objects]))


def test_evaluate_pixels_without_depth_count_in_one_score(truth):
    views = list(truth.views)
    depth = views[2].depth.copy()
    depth[:, :80] = 0
    views[2] = type(views[2])(
        "cam_2", views[2].image, views[2].K, depth, views[2].world_from_cam_prior
    )
    cache = exact_cache(truth)
    cache.labels[2][:, :80] = 0
    masks = masks_of(truth)
    recording = Recording(tuple(views), tuple(masks), {})
    result = evaluate(recording, exact_scene(truth, cache=cache), "cam_0")
    lost = [o for o in result.objects if (masks[2][:, :80] == o.label).any()]
    assert lost
    for score in lost:
        assert score.views["cam_2"].iou < 1
        assert score.views_at_depth["cam_2"].iou in (1.0, None)
    assert result.miou < 1
    assert result.miou_at_depth == 1


def test_evaluate_click_without_an_answer_scores_zero(truth):
    cache = exact_cache(truth)
    for labels in cache.labels:
        labels[labels == 1] = 0
    result = evaluate(truth.recording(), exact_scene(truth, cache=cache), "cam_0")
    failed = next(o for o in result.objects if o.label == 1)
    assert "no object within" in failed.error or failed.object_ids not in ((1,), ())
    blank = exact_cache(truth)
    for labels in blank.labels:
        labels[:] = 0
    result = evaluate(truth.recording(), exact_scene(truth, cache=blank), "cam_0")
    assert result.miou == 0
    assert 0.5 < result.macc < 1
    for score in result.objects:
        assert "no object within 6 px" in score.error
        assert score.points == 0


def test_evaluate_skips_views_that_the_scene_lacks(truth):
    fewer = exact_scene(construct_scene(views=4))
    recording = truth.recording()
    more = Recording(
        (*recording.views, type(recording.views[0])("extra", recording.views[0].image)),
        (*recording.object_masks, recording.object_masks[0]),
    )
    assert "extra" not in evaluate(more, fewer, "cam_0").objects[0].views


def test_evaluate_refuses_what_cannot_be_scored(truth, scene):
    with pytest.raises(InputError, match="none of the scene's views has a label image"):
        evaluate(Recording(truth.views), scene)
    with pytest.raises(InputError, match="reference view 'nowhere' is not among the views"):
        evaluate(truth.recording(), scene, "nowhere")
    masks = masks_of(truth)
    alone = recording_with(truth, [masks[0], None, None, None])
    with pytest.raises(InputError, match="only view 'cam_0' has a label image"):
        evaluate(alone, scene)
    assert evaluate(alone, scene, include_reference=True).miou == 1
    small = recording_with(truth, [masks[0], masks[1][::2, ::2], masks[2], masks[3]])
    with pytest.raises(InputError, match="the label image is 80x60 but the scene's image is 160x"):
        evaluate(small, scene)


def test_most_interior_pixel_of_known_shapes():
    mask = np.zeros((40, 60), bool)
    mask[10:21, 20:41] = True
    u, v = most_interior_pixel(mask)
    assert v == 15
    assert 25 <= u <= 35
    # The image's border is an edge of the object, too.
    mask[:] = False
    mask[0:11, 0:11] = True
    assert most_interior_pixel(mask) == (5, 5)
    # A thin ring has its most interior pixel on the ring, not in the hole.
    vv, uu = np.mgrid[:40, :60]
    ring = np.abs(np.hypot(uu - 30, vv - 20) - 12) < 3
    u, v = most_interior_pixel(ring)
    assert ring[v, u]
    with pytest.raises(ValueError, match="empty mask"):
        most_interior_pixel(np.zeros((3, 3), bool))


def test_compare_empty_masks_have_no_iou():
    none, some = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    everywhere = np.ones((4, 4), bool)
    assert compare(none, none, everywhere).iou is None
    assert compare(none, none, everywhere).accuracy == 1
    assert compare(some, none, everywhere).iou == 0
    assert compare(some, none, everywhere).accuracy == 0.75
    assert compare(some, some, none).accuracy is None


def test_peak_memory_mb_grows_with_allocations():
    before = peak_memory_mb()
    held = np.ones(40_000_000)
    assert peak_memory_mb() >= before
    assert peak_memory_mb() > held.nbytes / 1e6
