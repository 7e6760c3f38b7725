"""Which views show an object: by its surface alone, however its masks came about."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association import ObjectVisibility, associate
from wildseg3d_ros.masks.incremental import assemble_cache, replace_view_masks
from wildseg3d_testing.association import seen_world
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.masks import miscut_masks, spoil_masks
from wildseg3d_testing.scenes import construct_scene

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def associated():
    """Rings of eight cameras: truth, masks with errors, and what is found of them."""
    made = []
    for seed in SEEDS:
        truth = construct_scene(8, 240, 180, 12, seed, arc_degrees=315.0, identical=4)
        rng = np.random.default_rng(seed)
        masks, names = spoil_masks(truth.labels, rng)
        masks, _ = miscut_masks(masks, names, rng)
        made.append((truth, associate(masks, *seen_world(truth))))
    return made


def visibility_by_id(result, views=range(8)):
    rows = result.visibility[:, list(views)]
    return dict(zip(result.object_ids, rows.tolist(), strict=True))


def test_visibility_in_maps_order_of_views(associated):
    """It does not depend on the order of the views."""
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    for truth, result in associated:
        reordered = type(truth)(
            tuple(truth.views[v] for v in order),
            truth.world_from_cam[order],
            *(tuple(getattr(truth, n)[v] for v in order) for n in ("depths", "labels", "points")),
            truth.solids,
        )
        maps = [result.labels[v] for v in order]
        known = [{int(i): int(i) for i in np.unique(m) if i} for m in maps]
        again = associate(maps, *seen_world(reordered), known=known)
        assert visibility_by_id(again, np.argsort(order)) == visibility_by_id(result)


def test_visibility_in_maps_number_of_masks(associated):
    """It does not depend on how many masks an object is made of."""
    for truth, result in associated:
        maps, known = [], []
        for labels in result.labels:
            row, column = np.indices(labels.shape)
            # Checks of eight pixels: every mask of some size falls into many fragments.
            fragment = labels + 1000 * ((row // 8) % 3) + 5000 * ((column // 8) % 2)
            maps.append(np.where(labels > 0, fragment, 0).astype(np.int32))
            known.append({int(i): int(i) % 1000 for i in np.unique(maps[-1]) if i})
        again = associate(maps, *seen_world(truth), known=known)
        assert visibility_by_id(again) == visibility_by_id(result)


def test_visibility_in_maps_against_loop_over_pixels(associated):
    """Seen clearly, or not at all: what is near the limit may go either way."""
    checked = {ObjectVisibility.HIDDEN: 0, ObjectVisibility.MISSED: 0}
    for truth, result in associated:
        world, visibility = seen_world(truth)
        for object_id, states in visibility_by_id(result).items():
            for v in range(8):
                if states[v] == ObjectVisibility.MASKED:
                    assert (result.labels[v] == object_id).any()
                    continue
                shares = []
                for other in range(8):
                    mask = result.labels[other] == object_id
                    points = world.points[other][mask]
                    if not mask.any():
                        continue
                    origin = np.full(len(points), other, np.uint16)
                    _, z, pixel = visibility.look(v, points, origin)
                    near = np.abs(visibility.depth[v].ravel()[pixel] - z) < 0.01 * z
                    shares.append(near.sum() / len(points))
                if max(shares) > 0.3:
                    assert states[v] == ObjectVisibility.MISSED
                elif max(shares) < 0.03:
                    assert states[v] == ObjectVisibility.HIDDEN
                else:
                    continue
                checked[states[v]] += 1
    assert min(checked.values()) > 3


def test_replace_view_masks_other_records_stay(associated):
    """Records of the other views stay when an image is replaced."""
    rng = np.random.default_rng(4)
    missed = 0
    for truth, result in associated:
        scores = tuple((m > 0).astype(np.float32) for m in result.labels)
        before = assemble_cache(result, scores, {}, {})
        changed = 3
        fresh, _ = spoil_masks(truth.labels, rng, missing=0.4)
        exact = exact_world(truth)
        noise = 1 + 0.004 * rng.normal(size=(*truth.depths[changed].shape, 1))
        centre = truth.world_from_cam[changed][:3, 3].astype(np.float32)
        moved = (centre + (exact.points[changed] - centre) * noise).astype(np.float32)
        points = tuple(moved if v == changed else p for v, p in enumerate(exact.points))
        world, visibility = seen_world(truth, WorldPointmaps(points, exact.confidence))
        fresh_scores = (fresh[changed] > 0).astype(np.float32)
        after = replace_view_masks(
            before,
            changed,
            fresh[changed][None],
            lambda _, new=fresh_scores: new,
            visibility,
            world,
        )
        for old in before.objects:
            others = [m.view for m in old.masks if m.view != changed]
            if not others:
                continue
            new = after.record(old.object_id)
            kept = [[m for m in each.masks if m.view != changed] for each in (old, new)]
            assert kept[0] == kept[1] or [vars(m) for m in kept[0]] == [vars(m) for m in kept[1]]
            unmasked = [{v for v in each.unmasked if v != changed} for each in (old, new)]
            assert unmasked[0] == unmasked[1]
            missed += len(unmasked[0])
    assert missed > 10
