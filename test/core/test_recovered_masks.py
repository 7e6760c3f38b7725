"""What somebody clicked keeps its mask when a view's image is replaced."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wildseg3d_ros.core.types import NEGATIVE, POSITIVE, Click, Prompt
from wildseg3d_ros.editing import add_object
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.masks.interactive.recovering import recover_lost
from wildseg3d_ros.pipeline import build_scene, update_scene
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.exact import exact_cache
from wildseg3d_testing.scenes import construct_scene, photograph


def at(truth, label, sign):
    u, v = most_interior_pixel(truth.labels[0] == label)
    return Click("cam_0", u, v, sign)


def test_recover_lost_keeps_an_added_part_in_every_replaced_view():
    """Objects 1 and 2 touch and are cached as one: what segments the new image knows no part."""
    noise = {"depth_noise": DepthNoise(), "translation_sigma": 0.002, "rotation_sigma": 0.003}
    truth = construct_scene(5, 320, 240, 7, 7071, 220.0, **noise)
    clicks = (at(truth, 1, POSITIVE), at(truth, 2, NEGATIVE))
    scene, cloud = add_object(build_scene(truth.views), Prompt(clicks))
    (part,) = cloud.object_ids
    again = photograph(truth.solids, list(truth.world_from_cam), 320, 240, 556, **noise)
    for view in (1, 4):
        views = list(truth.views)
        fresh = again.views[view]
        views[view] = dataclasses.replace(views[view], image=fresh.image, depth=fresh.depth)
        record = update_scene(scene, views, f"cam_{view}").masks.record(part)
        assert view in record.views
        assert record.views == scene.masks.record(part).views


@pytest.mark.parametrize("gone", [False, True])
def test_recover_lost_looks_only_for_what_the_view_still_sees(gone):
    """Object 3 has no mask in the new image of view 1, where it is seen or is gone."""
    truth = construct_scene(3, 160, 120, 4, seed=2)
    before = exact_cache(truth)
    labels = tuple(np.where((m == 3) & (v == 1), 0, m) for v, m in enumerate(truth.labels))
    records = tuple(
        dataclasses.replace(
            each,
            masks=tuple(m for m in each.masks if m.view != 1),
            unmasked=() if gone else (1,),
        )
        if each.object_id == 3
        else each
        for each in before.objects
    )
    cache = dataclasses.replace(before, labels=labels, objects=records)

    def find():
        def of_object(_, lost):
            assert not gone
            return truth.labels[1] == lost.object_id

        return of_object

    found = recover_lost(cache, before, 1, find)
    assert ((found.labels[1] == 3) == ((truth.labels[1] == 3) & (not gone))).all()
    assert found.record(3).unmasked == ()
    for view in (0, 2):
        np.testing.assert_array_equal(found.labels[view], truth.labels[view])
