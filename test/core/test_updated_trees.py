"""The tree of masks after the image of one view was replaced."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import MaskCache, Prompt
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.interactive.lifting import lift_leaves
from wildseg3d_ros.masks.interactive.updating import UpdatedMasks
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.scene.file.mask_checks import check_masks
from wildseg3d_testing.association import draw_depths
from wildseg3d_testing.exact import exact_alignment, exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree

CHANGED = 1


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, width=160, height=120, objects=6, seed=4)


@pytest.fixture(scope="module")
def made(truth):
    return true_tree(truth)


class Backend:
    """Gives the label maps that it was told, without a tree."""

    def __init__(self, labels, unmasked=None):
        self.labels, self.unmasked = labels, unmasked

    def update(self, views, alignment, pointmaps, cache, changed, progress):
        labels = tuple(self.labels if v == changed else m for v, m in enumerate(cache.labels))
        scores = tuple((m > 0).astype(np.float32) for m in labels)
        records = describe_objects([labels], scores, unmasked=self.unmasked)
        return cache.with_masks([labels], scores, records)


def updated(truth, cache, labels, unmasked=None):
    masks = UpdatedMasks(Backend(labels, unmasked), cache, CHANGED)
    return masks.segment(truth.views, exact_alignment(truth), exact_world(truth), Progress())


def test_lift_leaves_are_those_of_the_view_itself(truth, made):
    """Where another view sees the surface, but for edges of patches."""
    world = exact_world(truth)
    lifted = lift_leaves(made.tree.leaves, CHANGED, world, draw_depths(truth, world))
    true = made.tree.leaves[CHANGED]
    known = lifted >= 0
    assert known.mean() > 0.8
    assert (lifted[known] == true[known]).mean() > 0.85


def test_update_keeps_the_tree_and_nodes(truth, made):
    before = treed_cache(truth, made)
    records = tuple(dataclasses.replace(each, score=0.7) for each in before.objects)
    before = dataclasses.replace(before, objects=records)
    after = updated(truth, before, truth.labels[CHANGED])
    check_masks(after)
    assert len(after.tree) == len(made.tree)
    for each, old in zip(after.objects, before.objects, strict=True):
        assert (each.object_id, each.nodes, each.score) == (old.object_id, old.nodes, 0.7)
    scene = exact_scene(truth, cache=after)
    for object_id in truth.object_ids:
        masks = segment(scene, Prompt(object_ids=(object_id,))).masks
        for view, labels in enumerate(truth.labels):
            np.testing.assert_array_equal(masks[f"cam_{view}"], labels == object_id)


def test_update_new_object_is_a_root_and_a_gone_one_leaves_its_nodes(truth, made):
    before = treed_cache(truth, made, [i for i in truth.object_ids if i != 2])
    labels = np.where(np.isin(truth.labels[CHANGED], (2, 3)), 0, truth.labels[CHANGED])
    labels[2:12, 2:20] = 9
    after = updated(truth, before, labels.astype(np.int32))
    check_masks(after)
    (node,) = after.record(9).nodes
    assert after.tree.path(node) == [node]
    np.testing.assert_array_equal(after.labels[CHANGED], labels)
    assert CHANGED not in after.record(3).views


def test_update_finds_a_lost_object_by_its_leaves(truth, made):
    before = treed_cache(truth, made)
    labels = np.where(truth.labels[CHANGED] == 3, 0, truth.labels[CHANGED]).astype(np.int32)
    after = updated(truth, before, labels, {3: (CHANGED,)})
    check_masks(after)
    found, true = after.labels[CHANGED] == 3, truth.labels[CHANGED] == 3
    assert (found & true).sum() > 0.7 * (found | true).sum()


def test_update_of_label_maps_stays_without_a_tree(truth):
    exact = tuple(m.copy() for m in truth.labels)
    scores = tuple((m > 0).astype(np.float32) for m in exact)
    cache = MaskCache(exact, scores, truth.object_ids, objects=describe_objects([exact], scores))
    assert updated(truth, cache, exact[CHANGED]).tree is None
