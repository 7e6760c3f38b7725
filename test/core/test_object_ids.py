"""Ids are given once: what vanished leaves its id to nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wildseg3d_ros.core.errors import InvalidScene
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import Box, Click, MaskCache, Prompt
from wildseg3d_ros.editing import add_object, refine_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.masks.geometric.backend import GeometricMasks
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.masks.incremental import replace_view_masks
from wildseg3d_ros.masks.interactive.adding import add_masks
from wildseg3d_ros.pipeline import update_scene
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.exact import exact_alignment, exact_cache, exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree

LAST = 6
"""The highest id of the constructed objects."""


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=4, width=240, height=180, objects=LAST, seed=6)


def replaced(cache, truth, view, labels):
    """The cache after an image in which these masks were found."""
    aligned, world = exact_alignment(truth), exact_world(truth)
    visibility = Visibility.create(aligned.K, aligned.world_from_cam, world)
    scores = (labels > 0).astype(np.float32)
    return replace_view_masks(cache, view, labels[None], lambda _: scores, visibility, world)


def seen_once(truth):
    """The exact cache, in which only view 0 has the last object."""
    exact = exact_cache(truth)
    labels = tuple(np.where(m == LAST, 0, m) if v else m for v, m in enumerate(exact.labels))
    return MaskCache(labels, exact.scores, exact.object_ids)


def added(cache, row=2):
    """The cache with a new object in a corner of view 0, and its id."""
    soft = np.zeros(cache.labels[0].shape, np.float32)
    soft[row : row + 6, 2:20] = 1.0
    nothing = [None] * (len(cache.labels) - 1)
    return add_masks(cache, [soft, *nothing], [1.0] * len(cache.labels), [True] * 4)


def test_next_id_after_vanished_object(truth):
    """An object that vanished in an update leaves its id to no new one."""
    cache = seen_once(truth)
    gone = replaced(cache, truth, 0, np.where(cache.labels[0] == LAST, 0, cache.labels[0]))
    assert LAST not in gone.object_ids
    again = replaced(gone, truth, 0, cache.labels[0])
    assert set(again.object_ids) - set(gone.object_ids) == {LAST + 1}
    _, object_id = added(gone)
    assert object_id == LAST + 1


def test_next_id_after_two_updates(truth):
    """What two updates gave and took is not given again."""
    cache = seen_once(truth)
    bare = np.where(cache.labels[0] == LAST, 0, cache.labels[0])
    ids = [LAST]
    for _ in range(3):
        gone = replaced(cache, truth, 0, bare)
        cache = replaced(gone, truth, 0, seen_once(truth).labels[0])
        ids.append(max(cache.object_ids))
    assert ids == [LAST, LAST + 1, LAST + 2, LAST + 3]


def test_next_id_kept_in_file(truth, tmp_path):
    """An object that another took in leaves its id to no new one even in a file."""

    def at(object_id):
        return Click("cam_0", *most_interior_pixel(truth.labels[0] == object_id))

    scene = exact_scene(truth, cache=treed_cache(truth, true_tree(truth)))
    refined, _ = refine_object(scene, Prompt((at(LAST),), object_ids=(1,)))
    assert LAST not in refined.object_ids
    save_scene(refined, tmp_path / "scene.ws3d")
    for one in (refined, load_scene(tmp_path / "scene.ws3d")):
        cache = one.masks
        maps = tuple(np.where(m == 2, 0, m) for m in cache.labels)
        objects = tuple(each for each in cache.objects if each.object_id != 2)
        without = one.with_masks(cache.with_masks((maps,), cache.scores, objects, cache.tree))
        rows, columns = np.nonzero(truth.labels[0] == 2)
        box = Box("cam_0", columns.min(), rows.min(), columns.max(), rows.max())
        extended, cloud = add_object(without, Prompt(boxes=(box,)))
        assert cloud.object_ids == (LAST + 1,)
        assert extended.masks.next_id == LAST + 2


def test_update_geometric_new_ids():
    """Geometric masks of a new image get ids that nothing had."""
    truth = construct_scene(views=3, width=160, height=120, objects=5)
    exact = exact_cache(truth)
    # None of the others' objects is known: all that is found is new.
    labels = tuple(np.zeros_like(m) for m in exact.labels)
    cache = MaskCache(labels, exact.scores, (), next_id=70)
    masks = GeometricMasks(GeometricMaskConfig())
    updated = update_scene(
        exact_scene(truth, cache=cache), truth.views, "cam_1",
        pointmaps=DepthPointmaps(), masks=masks,
    )  # fmt: skip
    assert updated.object_ids
    assert min(updated.object_ids) >= 70
    assert updated.masks.next_id == max(updated.object_ids) + 1


def test_next_id_above_all_ids(truth):
    """The mark is above all ids and never falls."""
    cache = exact_cache(truth)
    assert cache.next_id == LAST + 1
    assert dataclasses.replace(cache, next_id=99).next_id == 99
    assert dataclasses.replace(cache, next_id=2).next_id == LAST + 1
    kept = dataclasses.replace(cache, next_id=99, embeddings=((), (), (), ()))
    extended, object_id = added(kept)
    assert (object_id, extended.next_id) == (99, 100)
    assert extended.embeddings == kept.embeddings


def test_first_new_id_used_up(truth):
    """Ids that are used up are an error and not an overflow."""
    full = dataclasses.replace(exact_cache(truth), next_id=2**31)
    with pytest.raises(InvalidScene, match="used up the ids.*build it again"):
        added(full)
