"""Clicks that correct an object: what they add, what they cut, and what they cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import (
    LEVELS,
    NEGATIVE,
    POSITIVE,
    Box,
    Click,
    MaskCache,
    Point,
    Prompt,
)
from wildseg3d_ros.editing import refine_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.scene.file.consistency import check_scene
from wildseg3d_testing.exact import exact_cache, exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import merged_cache, true_tree


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, width=240, height=180, objects=6, seed=6)


def at(truth, object_id, view=0, label=POSITIVE):
    u, v = most_interior_pixel(truth.labels[view] == object_id)
    return Click(f"cam_{view}", u, v, label)


def scene_with(truth, change):
    """The exact scene with its labels changed, e.g. two objects merged."""
    exact = exact_cache(truth)
    labels = tuple(change(each.copy()).astype(np.int32) for each in exact.labels)
    ids = tuple(sorted({int(i) for each in labels for i in np.unique(each)} - {0}))
    cache = MaskCache(labels, exact.scores, ids, objects=describe_objects([labels], exact.scores))
    return exact_scene(truth, cache=cache)


def treed_with(truth, objects):
    """The scene of :func:`merged_cache` with the true tree."""
    return exact_scene(truth, cache=merged_cache(truth, true_tree(truth), objects))


def assert_consistent(scene):
    """Whether it could be written, and labels and answers are the same."""
    check_scene(scene)
    for record in scene.masks.objects:
        masks = segment(scene, Prompt(object_ids=(record.object_id,))).masks
        maps = scene.masks.maps[LEVELS.index(record.level)]
        for name, labels in zip(scene.view_names, maps, strict=True):
            np.testing.assert_array_equal(masks[name], labels == record.object_id)


def iou(masks, truth, *ids):
    both = either = 0
    for view, labels in enumerate(truth.labels):
        true, found = np.isin(labels, ids), masks[f"cam_{view}"]
        both, either = both + (true & found).sum(), either + (true | found).sum()
    return both / either


def test_refine_object_positive_click_adds_a_cached_object(truth):
    """One thing that was cached as two."""
    scene = exact_scene(truth)
    refined, cloud = refine_object(scene, Prompt((at(truth, 2),), object_ids=(1,)))
    assert cloud.object_ids == (1,)
    assert iou(cloud.masks, truth, 1, 2) == 1.0
    assert 2 not in refined.object_ids
    assert set(refined.object_ids) == set(scene.object_ids) - {2}
    assert refined.scene_id != scene.scene_id
    assert refined.warnings == scene.warnings
    assert refined.index.count(1) == pytest.approx(
        scene.index.count(1) + scene.index.count(2), rel=0.02
    )
    assert segment(scene, Prompt((at(truth, 2),))).object_ids == (2,)  # stays as it was


def test_refine_object_view_that_gains_a_mask_is_visible(truth):
    """Object 1 was missed in view 1, where object 2, as which it was cached, is added to it."""
    exact = exact_cache(truth)
    labels = tuple(
        np.where(each == 1, 2, each).astype(np.int32) if view == 1 else each
        for view, each in enumerate(exact.labels)
    )
    records = describe_objects([labels], exact.scores, unmasked={1: (1,)})
    assert records[0].unmasked == (1,)
    scene = exact_scene(
        truth, cache=MaskCache(labels, exact.scores, exact.object_ids, (), records)
    )
    refined, _ = refine_object(scene, Prompt((at(truth, 1, view=1),), object_ids=(1,)))
    record = refined.masks.record(1)
    assert 1 in record.views
    assert record.unmasked == ()


def test_refine_object_negative_click_cuts_off_another_thing(truth):
    """Two things that touch and were cached as one; there is no tree, so points and colours nearer
    to either click tell where they part."""
    scene = scene_with(truth, lambda labels: np.where(labels == 2, 1, labels))
    before = iou(segment(scene, Prompt(object_ids=(1,))).masks, truth, 1)
    clicks = (at(truth, 1), at(truth, 2, label=NEGATIVE))
    refined, cloud = refine_object(scene, Prompt(clicks, object_ids=(1,)))
    assert iou(cloud.masks, truth, 1) > max(0.8, before + 0.2)
    assert refined.masks.tree is None
    for click in clicks:
        on = cloud.masks[click.view][int(click.v), int(click.u)]
        assert on == (click.label == POSITIVE)


def test_refine_object_negative_click_alone_cuts_off_what_stands_apart(truth):
    scene = treed_with(truth, {3: (3, 5)})
    _, cloud = refine_object(scene, Prompt((at(truth, 5, label=NEGATIVE),), object_ids=(3,)))
    assert iou(cloud.masks, truth, 3) == 1.0


def test_refine_object_best_answer_to_a_negative_click_may_be_the_whole(truth):
    """As a network's is that knows of a click no more than the thing it is on."""
    scene = scene_with(truth, lambda labels: np.where(labels == 2, 1, labels))

    class Network:
        def propose(self, view, prompts):
            labels = truth.labels[view]
            soft = np.stack([np.isin(labels, (1, 2)), labels == 1, labels == 2])
            return soft.astype(np.float32), np.array([0.9, 0.7, 0.7], np.float32)

    class Prompted:
        def prompts(self, images, cache):
            return Network()

    click = at(truth, 2, label=NEGATIVE)
    refined, cloud = refine_object(scene, Prompt((click,), object_ids=(1,)), masks=Prompted())
    assert iou(cloud.masks, truth, 1) > 0.95
    assert not refined.labels[0][truth.labels[0] == 2].any()


def test_refine_object_view_of_only_what_is_cut_off_loses_it(truth):
    """Objects 5 and 3 stand apart and were cached as one; view 0 has no mask of 3."""

    exact = exact_cache(truth)
    first = np.where(truth.labels[0] == 3, 0, truth.labels[0])
    labels = tuple(
        np.where(each == 5, 3, each).astype(np.int32) for each in (first, *exact.labels[1:])
    )
    ids = tuple(sorted({int(i) for each in labels for i in np.unique(each)} - {0}))
    cache = MaskCache(labels, exact.scores, ids, objects=describe_objects([labels], exact.scores))

    class Network:
        def propose(self, view, prompts):
            soft = np.stack([truth.labels[view] == 6, truth.labels[view] == 5])
            return soft.astype(np.float32), np.array([0.9, 0.5], np.float32)

    class Prompted:
        def prompts(self, images, cache):
            return Network()

    click = at(truth, 5, label=NEGATIVE)
    _, cloud = refine_object(
        exact_scene(truth, cache=cache), Prompt((click,), object_ids=(3,)), masks=Prompted()
    )
    assert not cloud.masks["cam_0"].any()
    for view in (1, 2, 3):
        np.testing.assert_array_equal(cloud.masks[f"cam_{view}"], truth.labels[view] == 3)


def test_refine_object_later_negative_click_takes_back_a_positive_one(truth):
    scene = treed_with(truth, {3: (3,)})
    more, cloud = refine_object(scene, Prompt((at(truth, 5),), object_ids=(3,)))
    assert iou(cloud.masks, truth, 3, 5) == 1.0
    _, cloud = refine_object(more, Prompt((at(truth, 5, label=NEGATIVE),), object_ids=(3,)))
    assert iou(cloud.masks, truth, 3) == 1.0


@pytest.mark.parametrize("object_id", [3, 5, 6])
def test_refine_object_negative_click_on_itself_leaves_no_fragments(truth, object_id):
    scene, click = exact_scene(truth), at(truth, object_id)
    same, _ = refine_object(scene, Prompt((click,), object_ids=(object_id,)))
    click = at(truth, object_id, label=NEGATIVE)
    with pytest.raises(PromptError, match="less than 10% of it would be left") as refused:
        refine_object(same, Prompt((click,), object_ids=(object_id,)))
    assert refused.value.code == ErrorCode.CONTRADICTING_CLICKS


def test_refine_object_positive_click_in_another_view_is_kept(truth):
    """The two are one node's leaves, so that the negative click alone would take both."""
    scene = scene_with(truth, lambda labels: np.where(labels == 2, 1, labels))
    view = max(range(1, 4), key=lambda v: np.count_nonzero(truth.labels[v] == 1))
    clicks = (at(truth, 2, label=NEGATIVE), at(truth, 1, view))
    _, cloud = refine_object(scene, Prompt(clicks, object_ids=(1,)))
    assert cloud.masks[f"cam_{view}"][int(clicks[1].v), int(clicks[1].u)]
    assert not cloud.masks["cam_0"][int(clicks[0].v), int(clicks[0].u)]


def test_refine_object_negative_click_removes_the_cached_part(truth):
    scene = scene_with(truth, lambda labels: np.where(labels == 2, 1, labels))
    parts = tuple(np.where(labels == 2, 50, 0).astype(np.int32) for labels in truth.labels)
    maps = [scene.labels, parts]
    cache = MaskCache(scene.labels, scene.masks.scores, scene.object_ids, (parts,),
                      describe_objects(maps, scene.masks.scores))  # fmt: skip
    scene = exact_scene(truth, cache=cache)
    _, cloud = refine_object(
        scene, Prompt((at(truth, 2, view=1, label=NEGATIVE),), object_ids=(1,))
    )
    assert iou(cloud.masks, truth, 1) == 1.0


def test_refine_object_positive_click_on_what_is_not_cached(truth):
    scene = treed_with(truth, {1: (1,)})
    refined, cloud = refine_object(scene, Prompt((at(truth, 2),), object_ids=(1,)))
    assert iou(cloud.masks, truth, 1, 2) == 1.0
    assert refined.warnings == scene.warnings
    record = refined.masks.record(1)
    assert len(record.nodes) == 2
    assert_consistent(refined)


def test_refine_object_positive_click_off_the_surface(truth):
    """Nothing is known there by label maps alone."""
    scene = scene_with(truth, lambda labels: np.where(labels == 5, 0, labels))
    with pytest.raises(PromptError, match="background and no.*mask back end that takes") as error:
        refine_object(scene, Prompt((at(truth, 5),), object_ids=(1,)))
    assert error.value.code == ErrorCode.NO_OBJECT_AT_PIXEL


def test_refine_object_takes_a_whole_cached_object_by_the_tree(truth):
    """And the next click gives it back; the points stay those of the index."""
    scene = treed_with(truth, {1: (1,), 2: (2,)})
    refined, cloud = refine_object(scene, Prompt((at(truth, 2),), object_ids=(1,)))
    assert refined.object_ids == (1,)
    assert refined.masks.next_id == scene.masks.next_id
    assert len(cloud) == scene.index.count(1) + scene.index.count(2)
    assert refined.index.points is scene.index.points
    assert_consistent(refined)
    click = at(truth, 2, label=NEGATIVE)
    _, cloud = refine_object(refined, Prompt((click,), object_ids=(1,)))
    assert iou(cloud.masks, truth, 1) == 1.0
    assert len(cloud) == scene.index.count(1)


def test_refine_object_cuts_a_leaf_between_clicks(truth):
    """Things that touch, whose patches were not told apart; in no view is an image segmented."""
    made = true_tree(truth, edge=0.06, joined=[(1, 2)])
    scene = exact_scene(truth, cache=merged_cache(truth, made, {1: (1, 2)}))
    clicks = (
        at(truth, 1),
        at(truth, 2, label=NEGATIVE),
        at(truth, 1, 2),
        at(truth, 2, 2, NEGATIVE),
    )
    refined, cloud = refine_object(scene, Prompt(clicks, object_ids=(1,)))
    for click in clicks:
        assert cloud.masks[click.view][int(click.v), int(click.u)] == (click.label == POSITIVE)
    assert_consistent(refined)
    assert len(refined.index) == len(scene.index)


def test_refine_object_scores_what_it_made(truth):
    """As the true scores of the tree have it; two things that were one object."""
    scene = treed_with(truth, {3: (3, 5)})
    click = at(truth, 5, label=NEGATIVE)
    refined, cloud = refine_object(scene, Prompt((click,), object_ids=(3,)))
    assert cloud.score == refined.masks.record(3).score == 1.0
    assert not cloud.close


def test_refine_object_negative_click_on_one_thing_takes_a_dab(truth):
    """It is one thing by all that is known, so that little else than the click's patch goes."""
    scene = treed_with(truth, {3: (3,)})
    _, cloud = refine_object(scene, Prompt((at(truth, 3, label=NEGATIVE),), object_ids=(3,)))
    left = iou(cloud.masks, truth, 3)
    assert 0.8 < left < 1.0
    assert cloud.score == pytest.approx(left, abs=0.01)


def test_refine_object_positive_click_on_background_takes_a_dab(truth):
    """And not the whole table."""
    scene = treed_with(truth, {3: (3,)})
    tree = scene.masks.tree
    row, column = np.argwhere((tree.leaves[0] >= 0) & (truth.labels[0] == 0))[0]
    click = Click("cam_0", float(column), float(row))
    refined, cloud = refine_object(scene, Prompt((click,), object_ids=(3,)))
    added = tree.leaves_of(refined.masks.record(3).nodes) & ~tree.leaves_of(
        scene.masks.record(3).nodes
    )
    assert np.flatnonzero(added).tolist() == [tree.leaves[0][row, column]]
    assert cloud.masks["cam_0"][row, column]


def test_refine_object_given_back_is_as_certain_as_before(truth):
    """One object takes half of another, which gets it back."""
    scene = treed_with(truth, {1: (1,), 3: (3,)})
    taken, _ = refine_object(scene, Prompt((at(truth, 1),), object_ids=(3,)))
    back, _ = refine_object(taken, Prompt((at(truth, 1, label=NEGATIVE),), object_ids=(3,)))
    assert back.masks.record(3).score == segment(scene, Prompt(object_ids=(3,))).score == 1.0


def test_refine_object_3d_point_counts_as_a_click(truth):
    scene = exact_scene(truth)
    click = at(truth, 2)
    place = Point(*map(float, truth.points[0][int(click.v), int(click.u)]))
    _, cloud = refine_object(scene, Prompt(points=(place,), object_ids=(1,)))
    assert iou(cloud.masks, truth, 1, 2) == 1.0


@pytest.mark.parametrize(
    ("prompt", "code", "says"),
    [
        (lambda t: Prompt((at(t, 2),), object_ids=(1, 3)), "BAD_REQUEST", "one object id"),
        (lambda t: Prompt(object_ids=(1,)), "BAD_REQUEST", r"0 click\(s\)"),
        (
            lambda t: Prompt((at(t, 2),), boxes=(Box("cam_0", 1, 1, 9, 9),), object_ids=(1,)),
            "BAD_REQUEST",
            "no box",
        ),
        (lambda t: Prompt((at(t, 2),), object_ids=(77,)), "UNKNOWN_OBJECT", "no object 77"),
        (
            lambda t: Prompt((at(t, 2), at(t, 2, label=NEGATIVE)), object_ids=(1,)),
            "CONTRADICTING_CLICKS",
            "to be on the object and off it",
        ),
        (lambda t: Prompt((Click("cam_9", 1, 1),), object_ids=(1,)), "UNKNOWN_CAMERA", "cam_9"),
        (
            lambda t: Prompt((Click("cam_0", -9, 1),), object_ids=(1,)),
            "PIXEL_OUTSIDE_IMAGE",
            "outside",
        ),
    ],
)
def test_refine_object_refuses_what_cannot_be_refined(truth, prompt, code, says):
    with pytest.raises(PromptError, match=says) as refused:
        refine_object(exact_scene(truth), prompt(truth))
    assert refused.value.code == ErrorCode[code]
