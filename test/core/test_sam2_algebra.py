"""Mask algebra on constructed masks, against what can be counted by hand or by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.sam2.algebra import (
    box_overlaps,
    clean,
    layers,
    mask_boxes,
    parents,
    stability,
    suppress,
)
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.generation import (
    Candidates,
    Dropped,
    arrange,
    grid_points,
    passing,
    select_masks,
)
from wildseg3d_ros.masks.sam2.memory import plan_memory
from wildseg3d_ros.masks.sam2.network import Embedding
from wildseg3d_ros.masks.sam2.tracking import (
    choose_anchors,
    image_similarity,
    order_by_closeness,
    views_closeness,
)
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.scenes import construct_scene, ring_poses


def rectangle(v0, v1, u0, u1, shape=(40, 60)):
    mask = np.zeros(shape, bool)
    mask[v0:v1, u0:u1] = True
    return mask


def candidates(masks, quality, strength=6.0):
    logits = np.where(np.stack(masks), strength, -strength).astype(np.float32)
    return Candidates(logits, np.array(quality, np.float32), mask_boxes(np.stack(masks)))


def test_stability_two_thresholds():
    """Stability is the overlap of two thresholds."""
    import torch

    ramp = torch.arange(-4.5, 5.0).repeat(3, 1)  # ten columns, one logit each
    flat = torch.full((3, 10), 7.0)
    empty = torch.full((3, 10), -7.0)
    found = stability(torch.stack([ramp, flat, empty]), 1.0)
    # 1.5 .. 4.5 are 4 columns above 1, and -0.5 .. 4.5 are 6 above -1.
    assert found.tolist() == pytest.approx([4 / 6, 1.0, 0.0])


def test_mask_boxes_first_and_last_pixels():
    """Boxes hold first and last pixels."""
    masks = np.stack([rectangle(3, 10, 5, 6), rectangle(0, 40, 0, 60), np.zeros((40, 60), bool)])
    assert mask_boxes(masks).tolist() == [[5, 3, 5, 9], [0, 0, 59, 39], [0, 0, -1, -1]]


def test_box_overlaps_between_centres():
    """As torchvision measures boxes, by areas of continuous rectangles."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 30, (12, 2, 2)), axis=1)
    boxes = corners.reshape(12, 4)
    for box in boxes:
        for found, other in zip(box_overlaps(box, boxes), boxes, strict=True):
            fine = [np.zeros((30, 30), bool) for _ in range(2)]
            for image, (u0, v0, u1, v1) in zip(fine, (box, other), strict=True):
                image[v0:v1, u0:u1] = True
            union = (fine[0] | fine[1]).sum()
            assert found == pytest.approx((fine[0] & fine[1]).sum() / max(union, 1))


def test_suppress_keeps_best():
    """Suppression keeps the best of duplicates."""
    masks = [rectangle(0, 10, 0, 10), rectangle(0, 10, 0, 11), rectangle(20, 30, 0, 10)]
    boxes = mask_boxes(np.stack(masks))
    assert suppress(boxes, np.array([0.7, 0.9, 0.8]), 0.8).tolist() == [1, 2]
    assert suppress(boxes[[0, 0, 0]], np.ones(3), 0.5).tolist() == [0]
    # What only a dropped mask overlaps stays.
    chain = np.array([[0, 0, 10, 9], [2, 0, 12, 9], [4, 0, 14, 9]])
    assert suppress(chain, np.array([3.0, 2.0, 1.0]), 0.6).tolist() == [0, 2]
    asked = []
    kept = suppress(boxes[[0, 1]], np.ones(2), 0.5, lambda i, j: asked.append((i, j)) or False)
    assert kept.tolist() == [0, 1]
    assert asked == [(0, 1)]


def test_clean_islands_and_holes():
    """Cleaning drops small islands and fills small holes."""
    mask = rectangle(5, 30, 5, 40)
    mask[10:12, 10:12] = False  # a hole of 4
    mask[15:20, 15:20] = False  # one of 25
    mask[0:2, 50:53] = True  # an island of 6
    mask[34:40, 50:56] = True  # one of 36
    mask[5:8, 20] = False  # a notch, which is no hole
    out = clean(mask, 10)
    expected = mask.copy()
    expected[10:12, 10:12] = True
    expected[0:2, 50:53] = False
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(clean(mask, 0), mask)
    # The largest island stays however small it is, and holes are counted as SciPy counts them.
    np.testing.assert_array_equal(clean(rectangle(0, 2, 0, 2), 1000), rectangle(0, 2, 0, 2))
    noisy = np.random.default_rng(1).random((40, 60)) > 0.2
    framed = np.pad(noisy[1:-1, 1:-1], 1, constant_values=True)
    np.testing.assert_array_equal(clean(framed, 1e9), ndimage.binary_fill_holes(framed))


def test_parents_smallest_container():
    """A mask knows the smallest one that holds it."""
    mug, handle, print_ = (
        rectangle(5, 35, 5, 45),
        rectangle(10, 30, 30, 44),
        rectangle(12, 18, 8, 20),
    )
    letter, beside = rectangle(13, 16, 9, 12), rectangle(0, 20, 46, 58)
    parent = parents(np.stack([letter, mug, handle, beside, print_]))
    assert parent.tolist() == [4, -1, 1, -1, 1]
    # Two masks of one thing are not part of each other, nor is what sticks out by a third.
    assert parents(np.stack([mug, rectangle(5, 34, 5, 45)])).tolist() == [-1, -1]
    assert parents(np.stack([mug, rectangle(20, 30, 35, 50)])).tolist() == [-1, -1]
    assert parents(np.zeros((2, 4, 4), bool)).tolist() == [-1, -1]
    assert parents(np.zeros((0, 4, 4), bool)).tolist() == []


def test_arrange_layers_and_scores():
    """Layers are nesting depths and scores come from the logits."""
    masks = [
        rectangle(5, 35, 5, 45),
        rectangle(10, 30, 30, 44),
        rectangle(12, 20, 32, 40),
        rectangle(13, 15, 33, 36),
        rectangle(0, 4, 50, 60),
    ]
    made = arrange(candidates(masks, [0.9, 0.8, 0.7, 0.6, 0.95]), (40, 60))
    whole, part, sub_part, print_ = made.maps
    np.testing.assert_array_equal(print_, 4 * masks[3])
    np.testing.assert_array_equal(whole, np.where(masks[0], 1, np.where(masks[4], 5, 0)))
    np.testing.assert_array_equal(part, 2 * masks[1])
    np.testing.assert_array_equal(sub_part, 3 * masks[2])
    assert made.quality == pytest.approx({1: 0.9, 5: 0.95, 2: 0.8, 3: 0.7, 4: 0.6})
    assert made.boxes[2] == (30, 10, 43, 29)
    sigmoid = 1 / (1 + np.exp(-6.0))
    scores = made.scores([1, 5])
    assert scores.dtype == np.float32
    assert scores[whole > 0] == pytest.approx(sigmoid, abs=0.002)
    assert not scores[whole == 0].any()
    inside = made.scores([2])
    assert inside[part > 0] == pytest.approx(sigmoid, abs=0.002)
    assert not inside[part == 0].any()
    assert made.soft[2].shape == (20, 14)
    assert (made.soft[2] == round(255 * sigmoid)).all()


def test_arrange_overlapping_masks_lose_nothing():
    """Neither is a part of the other, so each has a layer."""
    one, other = rectangle(0, 20, 0, 30), rectangle(0, 20, 20, 50)
    made = arrange(candidates([one, other], [0.8, 0.9]), (40, 60))
    np.testing.assert_array_equal(made.maps[0], 2 * other)
    np.testing.assert_array_equal(made.maps[1], one)


def test_arrange_outlines_that_cross():
    """A column in common is no reason for a layer; the surer one has it."""
    one, other = rectangle(0, 20, 0, 30), rectangle(0, 20, 29, 59)
    logits = np.stack([np.where(one, 5.0, -5), np.where(other, 2.0, -5)]).astype(np.float32)
    boxes = mask_boxes(np.stack([one, other]))
    made = arrange(Candidates(logits, np.array([0.8, 0.9], np.float32), boxes), (40, 60))
    np.testing.assert_array_equal(made.maps[0], np.where(one, 1, np.where(other, 2, 0)))
    assert len(made.maps) == 1


def test_layers_more_masks_than_layers():
    """What overlaps most in every layer loses where it loses least; parts stay behind wholes."""
    masks = [rectangle(0, 20, 10 * k, 10 * k + 25) for k in range(4)]
    part = rectangle(2, 8, 12, 18)
    found = layers(np.stack([*masks, part]), np.linspace(0.9, 0.8, 5), 2)
    assert found.tolist() == [0, 1, 0, 1, 1]
    # A chain of five masks, each inside the one before it, in three layers.
    nested = np.stack([rectangle(2 * k, 40 - 2 * k, 4 * k, 60 - 4 * k) for k in range(5)])
    assert layers(nested, np.ones(5), 3).tolist() == [0, 1, 2, -1, -1]
    assert layers(np.zeros((0, 4, 4), bool), np.ones(0), 3).tolist() == []


def test_arrange_size_of_view():
    """Maps have the views size whatever the decoders is."""
    made = arrange(candidates([rectangle(8, 24, 8, 24, (32, 32))], [0.9]), (90, 160))
    assert made.maps[0].shape == made.scores([1]).shape == (90, 160)
    expected = np.zeros((90, 160), bool)
    expected[22:68, 40:120] = True
    assert (made.maps[0] > 0).sum() == pytest.approx(expected.sum(), rel=0.05)
    assert ((made.maps[0] > 0) ^ expected).mean() < 0.02


def test_passing_against_the_original_rule():
    """Estimated IoU above 0.8, stability of 0.95 at the size of the view, and any area."""
    v, u = np.indices((32, 32))

    def disc(radius, slope):
        return slope * (radius - np.hypot(v - 15.5, u - 15.5))

    logits = np.stack([disc(10, 8.0), disc(10, 1.0), disc(2, 30.0), disc(60, 9.0), disc(-5, 9.0)])
    quality, dropped = np.array([0.9, 0.95, 0.85, 0.99, 0.9]), Dropped()
    made = torch.tensor(logits, dtype=torch.float32), torch.tensor(quality)
    kept = passing(*made, (96, 128), Sam2MaskConfig(), dropped)
    assert kept.quality.tolist() == pytest.approx([0.9, 0.85, 0.99])
    for box, radius in zip(kept.boxes[:2].tolist(), (10, 2), strict=True):
        expected = [63.5 - 4 * radius, 47.5 - 3 * radius, 63.5 + 4 * radius, 47.5 + 3 * radius]
        assert box == pytest.approx(expected, abs=2)
    assert kept.boxes[2].tolist() == [0, 0, 127, 95]
    assert dropped.steps["stability"] == 2  # the flat one, and the empty one
    assert len(dropped.stability) == 5 and len(dropped.area) == 3
    limited = Sam2MaskConfig(min_area=0.05, max_area=0.9, predicted_iou=0.87)
    dropped = Dropped()
    assert passing(*made, (96, 128), limited, dropped).quality.tolist() == pytest.approx([0.9])
    assert {k: n for k, n in dropped.steps.items() if n} == {
        "predicted_iou": 1, "stability": 2, "max_area": 1,
    }  # fmt: skip
    assert dropped.why == (
        "of 5 masks were dropped 1 by predicted_iou, 2 by stability, 1 by max_area"
    )


def test_select_masks_drops_duplicates_and_specks():
    """Of one box the best one stays, and islands and holes of less than an area go."""
    config = Sam2MaskConfig(min_area=0.01)
    thing = rectangle(5, 25, 5, 25)
    holed = thing.copy()
    holed[10:12, 10:13] = False
    masks = [
        holed,
        thing,
        rectangle(28, 38, 30, 50),
    ]
    kept = select_masks(candidates(masks, [0.95, 0.9, 0.8]), config)
    assert len(kept) == 2
    np.testing.assert_array_equal(kept.logits[0] > 0, thing)
    np.testing.assert_array_equal(kept.logits[1] > 0, masks[2])
    assert kept.quality.tolist() == pytest.approx([0.95, 0.8])


def test_select_masks_keeps_parts():
    """A frame, its two halves and its rim; and what is nearly the frame, which goes.

    The original's rule goes by boxes alone, and keeps the best of them.
    """
    frame, hole = rectangle(8, 30, 8, 44), rectangle(14, 24, 14, 38)
    rim = frame & ~rectangle(10, 28, 10, 42)
    rows, columns = np.indices(frame.shape)
    above = (rows - 8) * 36 < (columns - 8) * 22
    masks = [
        frame,
        rim,
        frame & ~hole & above,
        frame & ~hole & ~above,
        rectangle(8, 30, 9, 44),
    ]
    boxes = mask_boxes(np.stack(masks))
    assert box_overlaps(boxes[0], boxes).min() > 0.9
    made = candidates(masks, [0.9, 0.95, 0.85, 0.8, 0.7])
    (best,) = select_masks(made, Sam2MaskConfig()).logits
    np.testing.assert_array_equal(best > 0, rim)
    kept = select_masks(made, Sam2MaskConfig(mask_overlap=0.8))
    found = {tuple(np.packbits(logits > 0)) for logits in kept.logits}
    assert found == {tuple(np.packbits(m)) for m in masks[:4]}
    labels = arrange(kept, frame.shape).maps
    assert len(np.unique(labels)) == 5
    for k, logits in enumerate(kept.logits, start=1):
        np.testing.assert_array_equal((labels == k).any(axis=0), logits > 0)


def test_select_masks_none_and_hundreds():
    """Nothing and hundreds of masks."""
    boxes = np.zeros((0, 4), np.int64)
    none = Candidates(np.zeros((0, 32, 32), np.float32), np.zeros(0, np.float32), boxes)
    assert len(select_masks(none, Sam2MaskConfig())) == 0
    made = arrange(none, (20, 30))
    assert not any(m.any() for m in made.maps) and not made.scores([]).any()
    tiles = [
        rectangle(4 * r, 4 * r + 4, 4 * c, 4 * c + 4, (96, 96))
        for r in range(24)
        for c in range(24)
    ]
    kept = select_masks(candidates(tiles, np.linspace(0.8, 1, 576)), Sam2MaskConfig())
    assert len(kept) == 576
    assert len(np.unique(arrange(kept, (96, 96)).maps[0])) == 576 + 0


def test_grid_points_cell_centres():
    """Grid points stand in the middle of equal cells."""
    points = grid_points(2, (4, 8))
    assert points.tolist() == [[1.5, 0.5], [5.5, 0.5], [1.5, 2.5], [5.5, 2.5]]


def test_describe_objects_fields():
    """Records hold boxes areas parents and scores."""
    whole = np.where(rectangle(2, 12, 3, 23), 7, 0).astype(np.int32)
    part = np.where(rectangle(2, 6, 3, 9), 9, 0).astype(np.int32)
    part[30, 50] = 11
    other = np.zeros((8, 8), np.int32)
    other[1:3, 1:4] = 7
    scores = [np.full((40, 60), 0.75, np.float32), np.full((8, 8), 0.5, np.float32)]
    soft = {(0, 9): np.full((4, 6), 200, np.uint8)}
    nothing = np.zeros((8, 8), np.int32)
    records = describe_objects(
        [[whole, other], [part, nothing]], scores, {(0, 7): 0.9}, soft, {9: (1,)}
    )
    mug, handle, speck = records
    assert (mug.object_id, mug.level, mug.parent, mug.views) == (7, "whole", 0, (0, 1))
    assert [(m.area, m.box, m.score) for m in mug.masks] == [
        (200, (3, 2, 22, 11), 0.9),
        (6, (1, 1, 3, 2), 0.5),
    ]
    assert (handle.level, handle.parent, handle.unmasked) == ("part", 7, (1,))
    assert handle.masks[0].soft is soft[0, 9]
    assert speck.parent == 0


def follows(order, names):
    steps = np.diff(np.asarray(names)[order])
    return (steps == 1).all() or (steps == -1).all()


def test_order_by_closeness_shared_surface():
    """Views are ordered by the surface that they share."""
    shuffled = np.random.default_rng(3).permutation(8)
    poses = ring_poses(8, 300.0, np.random.default_rng(0))
    truth = construct_scene(8, 80, 60, 5, poses=[poses[v] for v in shuffled])
    K = np.stack([view.K for view in truth.views])
    world = exact_world(truth)
    visibility = Visibility.create(K, truth.world_from_cam, world)
    closeness = views_closeness(world, visibility, np.zeros((8, 8)))
    assert follows(order_by_closeness(closeness), shuffled)
    neighbours = np.abs(shuffled[:, None] - shuffled) == 1
    across = np.abs(shuffled[:, None] - shuffled) == 4
    assert closeness[neighbours].min() > 2 * closeness[across].max()
    # Nothing measured: the images tell.
    nothing = WorldPointmaps(world.points, tuple(np.zeros_like(c) for c in world.confidence))
    angle = np.exp(2j * np.pi * 0.1 * shuffled)
    features = [torch.tensor([[[z.real, z.imag, 5.0]]] * 4) for z in angle]
    similarity = image_similarity([Embedding((f,), (60, 80)) for f in features])
    assert similarity.min() >= 0
    assert np.diag(similarity) == pytest.approx(np.ones(8))
    blind = Visibility.create(K, truth.world_from_cam, nothing)
    closeness = views_closeness(nothing, blind, similarity)
    np.testing.assert_array_equal(closeness, similarity)
    assert follows(order_by_closeness(closeness), shuffled)


def test_choose_anchors_evenly():
    """Anchors stand evenly along the order."""
    assert order_by_closeness(np.zeros((1, 1))) == [0]
    assert choose_anchors([3, 1, 4, 0, 5, 2], 2) == [1, 5]
    assert sorted(choose_anchors([0, 1, 2], 9)) == [0, 1, 2]


def test_plan_memory_bound():
    """Batches fit the bound and a bound too small is named."""

    def plan(bound, views, size=(480, 640), anchors=3):
        config = Sam2MaskConfig(max_memory_mib=bound, anchors=anchors)
        return plan_memory(config, 1024, 4, [size] * views)

    large, small = plan(16384, 4), plan(1000, 4)
    assert large.prompts == 64 > small.prompts >= 1
    assert large.objects > small.objects >= 1
    with pytest.raises(ConfigError, match=r"max_memory_mib is 100, too small for 2 view.*MiB"):
        plan(100, 2)
    # Large images count, too.
    with pytest.raises(ConfigError, match="max_memory_mib is 1000"):
        plan(1000, 4, (3000, 4000))
    # So do objects that are followed, if any are: 5 numbers a pixel and view.
    with pytest.raises(ConfigError, match="max_memory_mib is 2850"):
        plan(2850, 32)
    assert plan(2850, 32, anchors=0).prompts >= 1


@pytest.mark.parametrize(("item_bytes", "views"), [(2, 1), (4, 64)])
def test_plan_memory_many_masks(item_bytes, views):
    """The candidates of one view in half precision, or their association over many views."""

    def fits(grid, bound):
        config = Sam2MaskConfig(max_memory_mib=bound, grid=grid, anchors=0)
        try:
            plan_memory(config, 1024, item_bytes, [(480, 640)] * views)
        except ConfigError:
            return False
        return True

    def least(grid):
        return next(bound for bound in range(100, 8000, 20) if fits(grid, bound))

    assert least(32) > least(4)
