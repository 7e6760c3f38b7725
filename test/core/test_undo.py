"""Changes that are taken back: the scene is the one that it was, but for the ids that are used."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.types import NEGATIVE, POSITIVE, Click, Prompt
from wildseg3d_ros.editing import add_object, refine_object, undo
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.scene.file.consistency import check_scene
from wildseg3d_testing.exact import exact_cache, exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import merged_cache, true_tree


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=160, height=120, objects=6, seed=6)


@pytest.fixture(scope="module")
def scene(truth):
    """Objects 1 and 3 of a true tree; the others were not found."""
    made = true_tree(truth)
    return exact_scene(truth, cache=merged_cache(truth, made, {1: (1,), 3: (3,)}))


def at(truth, label, positive=True):
    u, v = most_interior_pixel(truth.labels[0] == label)
    return Click("cam_0", u, v, POSITIVE if positive else NEGATIVE)


def assert_same(found, expected):
    for one, other in zip(found.masks.maps, expected.masks.maps, strict=True):
        for labels, others in zip(one, other, strict=True):
            np.testing.assert_array_equal(labels, others)
    assert found.object_ids == expected.object_ids
    for object_id in expected.object_ids:
        rows, others = (
            each.index.points[each.rows_of((object_id,))] for each in (found, expected)
        )
        np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(others, axis=0))
    check_scene(found)


def test_undo_takes_changes_back_one_by_one(truth, scene):
    added, cloud = add_object(scene, Prompt((at(truth, 2),)))
    (new,) = cloud.object_ids
    refined, _ = refine_object(added, Prompt((at(truth, 5),), object_ids=(3,)))
    assert (refined.labels[0] == 3).sum() > (added.labels[0] == 3).sum()
    once, edit = undo(refined)
    assert (edit.object_id, edit.refines) == (3, True)
    assert_same(once, added)
    twice, edit = undo(once)
    assert (edit.object_id, edit.refines) == (new, False)
    assert_same(twice, scene)
    with pytest.raises(PromptError, match="nothing to undo"):
        undo(twice)


def test_undo_never_gives_an_id_twice(truth, scene):
    added, cloud = add_object(scene, Prompt((at(truth, 2),)))
    _, other = add_object(undo(added)[0], Prompt((at(truth, 5),)))
    assert other.object_ids[0] > cloud.object_ids[0]


def test_undo_a_cut_leaf(truth):
    """The tree is the one of before, too."""
    made = true_tree(truth, edge=0.2, joined=[(1, 2)])
    scene = exact_scene(truth, cache=merged_cache(truth, made, {1: (1, 2)}))
    leaves, labels = made.tree.leaves[0], truth.labels[0]
    shared = np.intersect1d(leaves[labels == 1], leaves[labels == 2])[0]
    clicks = tuple(
        Click("cam_0", *map(float, most_interior_pixel((leaves == shared) & (labels == k))), on)
        for k, on in ((1, POSITIVE), (2, NEGATIVE))
    )
    refined, _ = refine_object(scene, Prompt(clicks, object_ids=(1,)))
    assert refined.masks.tree is not scene.masks.tree
    before, _ = undo(refined)
    assert before.masks.tree is scene.masks.tree
    assert_same(before, scene)


def test_undo_among_label_maps(truth):
    """Without a tree."""
    scene = exact_scene(truth, cache=exact_cache(truth))
    refined, _ = refine_object(scene, Prompt((at(truth, 2),), object_ids=(1,)))
    assert 2 not in refined.object_ids
    assert_same(undo(refined)[0], scene)


def test_undo_what_changed_nothing(truth, scene):
    """A click on an object that is there adds none, so that there is nothing to take back."""
    same, cloud = add_object(scene, Prompt((at(truth, 1),)))
    assert cloud.object_ids == (1,)
    assert same is scene


def test_undo_asks_the_back_end_again(truth):
    """Two objects were added by a network; the first one stays."""
    exact = exact_cache(truth)
    labels = tuple(np.where(np.isin(each, (2, 5)), 0, each).astype(np.int32)
                   for each in exact.labels)  # fmt: skip
    scene = exact_scene(
        truth,
        cache=exact.with_masks([labels], exact.scores, describe_objects([labels], exact.scores)),
    )

    class Network:
        def propose(self, view, prompts):
            u, v = prompts.points[0]
            label = truth.labels[view][int(v), int(u)]
            soft = (truth.labels[view] == label)[None].astype(np.float32)
            return soft, np.array([0.9], np.float32)

    class Prompted:
        asked = 0

        def prompts(self, images, cache):
            Prompted.asked += 1
            return Network()

    first, _ = add_object(scene, Prompt((at(truth, 2),)), masks=Prompted())
    second, _ = add_object(first, Prompt((at(truth, 5),)), masks=Prompted())
    before, _ = undo(second, masks=Prompted())
    assert Prompted.asked == 3
    assert_same(before, first)
