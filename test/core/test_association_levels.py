"""Wholes and parts over views that nest their masks differently; constructed, with known truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import LEVELS, WorldPointmaps
from wildseg3d_ros.masks.association import ObjectVisibility, Tracks, associate
from wildseg3d_ros.masks.association.nodes import INSIDE, MaskNodes
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.incremental import assemble_cache, replace_view_masks
from wildseg3d_ros.masks.sam2.algebra import mask_boxes, suppress
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.generation import Candidates, arrange
from wildseg3d_testing.association import body, count_right, facing, seen_world
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.masks import around_neighbours, spoil_masks
from wildseg3d_testing.scenes import construct_scene, photograph

AROUND, TOP, DOT = 100, 200, 300
"""Names of an under-segmented mask, and first ones of upper halves and spots on objects."""


def layered(masks, size):
    """What the generation makes of masks by name: layers, and its labels by name."""
    stacked = np.stack(list(masks.values()))
    quality = np.full(len(masks), 0.9, np.float32)
    boxes = mask_boxes(stacked)

    def copies(i, j):
        return (stacked[i] & stacked[j]).sum() >= INSIDE * (stacked[i] | stacked[j]).sum()

    # An upper half of which little else is seen is a copy of its whole, and would be dropped.
    left = suppress(boxes, quality, Sam2MaskConfig().box_overlap, copies)
    names = [list(masks)[k] for k in left]
    logits = list(np.where(stacked[left], 5.0, -5.0).astype(np.float32))
    made = arrange(Candidates(logits, quality[left], boxes[left]), size, 0.0003)
    there = set(np.unique(made.maps).tolist())
    return made.maps, {n: k + 1 for k, n in enumerate(names) if k + 1 in there}


def build(truth, around=(), topped=(), dotted=(), without=()):
    """Per view layers and labels by name: objects, in some views with groups and parts.

    The upper half (in the world) of each object of 1 .. 3 is a part in the views ``topped``, a
    spot on that half a sub-part in the views ``dotted``; (view, name) in ``without`` are missing.
    """
    made = []
    for v, labels in enumerate(truth.labels):
        masks = {int(i): labels == i for i in np.unique(labels) if i}
        if v in around:
            masks[AROUND] = around_neighbours(labels)[1]
        for i in (1, 2, 3):
            solid = next(s for s in truth.solids if s.label == i)
            off = truth.points[v] - solid.world_from_solid[:3, 3]
            height, radius = off[..., 2], np.hypot(off[..., 0], off[..., 1])
            if v in topped:
                masks[TOP + i] = (labels == i) & (height > 0)
            if v in dotted:
                spot = (height > 0.5 * solid.half[2]) & (radius < 0.5 * solid.half[:2].min())
                masks[DOT + i] = (labels == i) & spot
        size = labels.shape
        smallest = 0.0005 * labels.size
        masks = {n: m for n, m in masks.items() if m.sum() > smallest and (v, n) not in without}
        made.append(layered(masks, size))
    return [m for m, _ in made], [n for _, n in made]


def ids_by_name(result, names):
    ids = {}
    for by_label, by_name in zip(result.id_of_mask, names, strict=True):
        for name, label in by_name.items():
            if label in by_label:
                ids.setdefault(name, set()).add(by_label[label])
    return ids


def min_overlap(truth, result, names, ids):
    """Of the objects' masks under their ids with the true ones, over all views."""
    smallest = 1.0
    for v, labels in enumerate(truth.labels):
        for i in truth.object_ids:
            if (labels == i).sum() >= 100 and i in names[v]:
                shown = np.isin(result.labels[v], list(ids[i]))
                both = (shown & (labels == i)).sum()
                smallest = min(smallest, both / (shown | (labels == i)).sum())
    return smallest


def level_of(result, object_id):
    return LEVELS[result.levels[result.object_ids.index(object_id)]]


@pytest.fixture(scope="module")
def scenes():
    return [construct_scene(8, 320, 240, 12, seed, 315.0, identical=4) for seed in (50, 51, 52)]


@pytest.mark.parametrize("around", [(0,), (0, 3), (0, 2, 4, 6), (1, 2, 3)])
def test_associate_under_segmented_in_some_views(scenes, around):
    """A mask around several objects in some views takes no id away."""
    right = total = 0
    for truth in scenes:
        masks, names = build(truth, around)
        assert all((m[1] > 0).any() for v, m in enumerate(masks) if v in around)
        result = associate(masks, *seen_world(truth))
        ids = ids_by_name(result, names)
        objects = [ids[i] for i in truth.object_ids]
        right += sum(len(each) == 1 for each in objects)
        total += len(objects)
        owners = [i for each in objects for i in each]
        assert len(set(owners)) == len(owners)
        assert all(level_of(result, i) == "whole" for each in objects for i in each)
        assert min_overlap(truth, result, names, ids) > 0.9
    assert right / total >= 0.97


def test_associate_tray_in_most_views_has_parts():
    """A tray: five of six cameras see it as one thing with what is on it."""
    truth = construct_scene(6, 320, 240, 6, 3, 200.0)
    tray = (1, 2, 4)  # they touch
    made = []
    for v, labels in enumerate(truth.labels):
        masks = {int(i): labels == i for i in np.unique(labels) if i}
        if v != 2:
            masks[AROUND] = np.isin(labels, tray)
        made.append(layered(masks, labels.shape))
    result = associate([m for m, _ in made], *seen_world(truth))
    ids = ids_by_name(result, [n for _, n in made])
    assert len(ids[AROUND]) == 1
    assert level_of(result, *ids[AROUND]) == "whole"
    records = {r.object_id: r for r in describe(result)}
    for i in truth.object_ids:
        assert len(ids[i]) == 1
        record = records[next(iter(ids[i]))]
        assert record.level == ("part" if i in tray else "whole")
        assert record.parent == (next(iter(ids[AROUND])) if i in tray else 0)
    states = result.visibility[result.object_ids.index(*ids[AROUND])]
    assert states.tolist() == [2, 2, 1, 2, 2, 2]


def describe(result):
    scores = [(m > 0).astype(np.float32) for m in result.labels]
    return describe_objects(result.maps, scores)


@pytest.mark.parametrize(
    ("topped", "dotted"),
    [((0, 1, 2), ()), ((0, 1, 2, 3, 4, 5, 6, 7), (1, 2)), ((3, 4, 5), (3, 4))],
)
def test_associate_parts_in_some_views(scenes, topped, dotted):
    """Parts that only some views tell apart know their whole."""
    checked = 0
    for truth in scenes:
        masks, names = build(truth, topped=topped, dotted=dotted)
        result = associate(masks, *seen_world(truth))
        ids = ids_by_name(result, names)
        records = {r.object_id: r for r in describe(result)}
        for i in truth.object_ids:
            assert len(ids[i]) == 1
            assert level_of(result, *ids[i]) == "whole"
        assert min_overlap(truth, result, names, ids) > 0.9
        for i in (1, 2, 3):
            for name, level, above in ((TOP + i, "part", i), (DOT + i, "sub_part", TOP + i)):
                if name not in ids:
                    continue
                for each in ids[name] - ids.get(above, set()) - ids[i]:
                    record = records[each]
                    assert record.level == level
                    assert {record.parent} == ids[above]
                    assert len(ids[name]) == 1
                    checked += 1
    assert checked >= (6 if not dotted else 8)


def test_associate_part_without_its_whole(scenes):
    """A part in a view that misses its whole is a part all the same."""
    truth = scenes[0]
    views = [v for v in range(8) if (truth.labels[v] == 2).sum() > 300]
    masks, names = build(truth, dotted=views, without={(views[0], 2), (views[1], 2)})
    result = associate(masks, *seen_world(truth))
    ids = ids_by_name(result, names)
    (top,), (whole,) = ids[DOT + 2], ids[2]
    assert level_of(result, top) == "part"
    assert level_of(result, whole) == "whole"
    states = result.visibility[result.object_ids.index(whole)]
    assert [ObjectVisibility(states[v]) for v in views[:3]] == [
        ObjectVisibility.MISSED,
        ObjectVisibility.MISSED,
        ObjectVisibility.MASKED,
    ]
    (record,) = [r for r in describe(result) if r.object_id == top]
    assert record.parent == whole
    # No view shows the part as a whole, nor the whole as a part.
    for v in views:
        assert not (result.maps[0][v] == top).any()
        assert not (result.maps[1][v] == whole).any()


def test_associate_under_segmented_and_parts(scenes):
    """Groups and parts together in views that disagree."""
    for truth in scenes:
        masks, names = build(truth, around=(0, 5), topped=(0, 1, 2, 3), dotted=(1, 2))
        result = associate(masks, *seen_world(truth))
        ids = ids_by_name(result, names)
        single = [len(ids[i]) == 1 for i in truth.object_ids]
        assert np.mean(single) >= 0.9
        assert min_overlap(truth, result, names, ids) > 0.9
        for name in (TOP + 1, TOP + 2):
            assert [level_of(result, i) for i in ids[name]] == ["part"]
        for level, maps in enumerate(result.maps):
            for image in maps:
                shown = set(np.unique(image).tolist()) - {0}
                assert all(LEVELS[level] == level_of(result, i) for i in shown)


def test_replace_view_masks_under_segmented(scenes):
    """A replaced view with a mask around objects that are wholes keeps them."""
    truth = scenes[1]
    world, visibility = seen_world(truth)
    masks, names = build(truth, topped=(1, 2, 3))
    result = associate(masks, world, visibility)
    scores = tuple((m > 0).astype(np.float32) for m in result.labels)
    before = assemble_cache(result, scores, {}, {})
    fresh, fresh_names = build(truth, around=(2,), topped=(2,))
    after = replace_view_masks(before, 2, fresh[2], lambda _: scores[2], visibility, world)
    for level, old in zip(after.maps, before.maps, strict=True):
        for v in range(8):
            if v != 2:
                np.testing.assert_array_equal(level[v], old[v])
    ids = ids_by_name(result, names)
    for name, label in fresh_names[2].items():
        if name == AROUND or (truth.labels[2] == name).sum() < 100:
            continue
        pixels = fresh[2] == label
        k = int(pixels.any(axis=(1, 2)).argmax())
        record = before.record(next(iter(ids[name])))
        shown = after.maps[LEVELS.index(record.level)][2][pixels[k]]
        assert (shown == record.object_id).mean() > 0.9
    assert [r.level for r in after.objects if r.object_id in before.object_ids] == ["whole"] * len(
        before.object_ids
    )


def test_replace_view_masks_tracks_alone(scenes):
    """The new image has no depth: nothing of it can be lifted."""
    truth = scenes[2]
    exact = exact_world(truth)
    blind = WorldPointmaps(
        exact.points,
        tuple(np.zeros_like(c) if v == 2 else c for v, c in enumerate(exact.confidence)),
    )
    K = np.stack([view.K for view in truth.views])
    visibility = Visibility.create(K, truth.world_from_cam, blind)
    masks, names = build(truth, topped=(1, 2, 3))
    result = associate(masks, *seen_world(truth))
    scores = tuple((m > 0).astype(np.float32) for m in result.labels)
    before = assemble_cache(result, scores, {}, {})
    by_id = {i: n for n, ids in ids_by_name(result, names).items() for i in ids}
    wholes = [n for n in names[2] if n in truth.object_ids]
    followed = tuple(
        None
        if v == 2
        else sum(names[2][n] * (truth.labels[v] == n).astype(np.int32) for n in wholes)
        for v in range(8)
    )
    tracks = [Tracks(2, followed, ((3, 4, 5, 6, 7), (1, 0)))]
    after = [
        replace_view_masks(
            before, 2, masks[2], lambda _: scores[2], visibility, blind, tracks=each
        )
        for each in ((), tracks)
    ]
    right = [0, 0]
    for k, made in enumerate(after):
        for n in wholes:
            if (truth.labels[2] == n).sum() > 100:
                found = made.labels[2][truth.labels[2] == n]
                right[k] += by_id.get(int(np.bincount(found).argmax())) == n
    assert right[0] == 0
    assert right[1] >= len(wholes) - 1


def test_associate_flat_masks_in_layers(scenes):
    """Nesting does not change what flat masks get."""
    truth = scenes[0]
    flat = associate(truth.labels, *seen_world(truth))
    nested = associate([np.stack([m, np.zeros_like(m)]) for m in truth.labels], *seen_world(truth))
    assert flat.object_ids == nested.object_ids
    for one, other in zip(flat.labels, nested.labels, strict=True):
        np.testing.assert_array_equal(one, other)


def test_associate_overlapping_masks_in_layers(scenes):
    """Outlines that cross put wholes of a view into several layers, which takes no id away."""
    truth = scenes[0]
    spoilt = spoil_masks(truth.labels, np.random.default_rng(0))
    wide = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    masks, names = [], []
    for labels, true in zip(*spoilt, strict=True):
        grown = {n: cv2.dilate((labels == n).astype(np.uint8), wide) > 0 for n in true}
        maps, label_of = layered(grown, labels.shape)
        masks.append(maps)
        names.append({label: true[n] for n, label in label_of.items()})
    assert sum(maps[1].any() for maps in masks) >= 2
    result = associate(masks, *seen_world(truth))
    right, objects, merged = count_right(result.id_of_mask, names)
    assert right >= 0.9 * objects and not merged


def test_mask_nodes_label_in_two_layers():
    """A label is of one mask."""
    twice = np.ones((2, 4, 4), np.int32)
    with pytest.raises(ValueError, match="view 1 has a label in two layers"):
        MaskNodes.from_labels([np.ones((4, 4), np.int32), twice])


@pytest.mark.parametrize("height", [0.09, 0.075, 0.06])
@pytest.mark.parametrize("shown", [3, 4, 8])
def test_associate_top_of_can_is_part(height, shown):
    """Some views tell the top apart, a quarter to a half of the can; one has none of the can."""
    can = body("cylinder", [0, 0, 0.06], [0.03, 0.03, 0.06], 1)
    box = body("box", [0.2, 0.1, 0.03], [0.03] * 3, 2)
    truth = photograph([can, box], facing(range(0, 360, 45), 30.0), 240, 180)
    masks = []
    for view, labels in enumerate(truth.labels):
        top = (labels == 1) & (truth.points[view][..., 2] > height) & (view < shown)
        outer = np.where((labels == 1) & (view == 0), 0, labels)
        masks.append(np.stack([outer, np.where(top, 9, 0)]))
    result = associate(masks, *seen_world(truth))
    whole = {names.get(1) for names in result.id_of_mask[1:]}
    part = {names.get(9) for names in result.id_of_mask[:shown]}
    assert len(whole) == len(part) == 1
    assert whole != part
    assert level_of(result, *part) == "part"
