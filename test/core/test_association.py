"""One id per object over views: constructed masks, points and tracks whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.masks.association import ObjectVisibility, Tracks, associate
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import (
    draw_samples,
    measure_overlap,
    overlap_evidence,
)
from wildseg3d_testing.association import (
    body,
    count_right,
    draw_depths,
    facing,
    names_of,
    with_errors,
)
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.masks import miscut_masks, spoil_masks, track_masks
from wildseg3d_testing.scenes import construct_scene, photograph


def ids_of_objects(result, names):
    """Ids by true object."""
    ids = {}
    for by_label, true in zip(result.id_of_mask, names, strict=True):
        for label, name in true.items():
            ids.setdefault(name, set()).add(by_label[label])
    return ids


RINGS = range(5)


@pytest.fixture(scope="module")
def rings():
    """Eight cameras about twelve objects, four of them identical; wavy masks, 10 % gone."""
    made = []
    for seed in RINGS:
        truth = construct_scene(8, 320, 240, 12, seed, arc_degrees=315.0, identical=4)
        masks, names = spoil_masks(truth.labels, np.random.default_rng(seed))
        made.append((truth, masks, names))
    return made


@pytest.mark.parametrize("source", ["overlap", "both", "noisy overlap"])
def test_associate_ring_one_id_each(rings, source):
    """Every object of a ring gets one id and none is merged."""
    right = objects = 0
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        world, poses = exact_world(truth), truth.world_from_cam
        if source == "noisy overlap":
            world, poses = with_errors(truth, 0.004, 0.006, 0.004, seed)
        tracks = []
        if source == "both":
            rng = np.random.default_rng(seed)
            tracks = track_masks(masks, names, truth.labels, truth.world_from_cam, rng)
        result = associate(masks, world, draw_depths(truth, world, poses), tracks)
        one, all_of_them, merged = count_right(result.id_of_mask, names)
        assert merged == 0
        right, objects = right + one, objects + all_of_them
    assert objects == 60
    assert right / objects >= 0.98


def test_associate_right_tracks_alone(rings):
    """Tracks alone do the same while they are right."""
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        rng = np.random.default_rng(seed)
        tracks = track_masks(
            masks, names, truth.labels, truth.world_from_cam, rng, safe_degrees=180.0
        )
        one, objects, merged = count_right(associate(masks, tracks=tracks).id_of_mask, names)
        assert merged == 0
        assert one >= objects - 1


def test_associate_swapped_tracks_merge_nothing(rings):
    """Tracks that swap beyond 60 degrees merge nothing."""
    right = objects = 0
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        rng = np.random.default_rng(seed)
        tracks = track_masks(masks, names, truth.labels, truth.world_from_cam, rng)
        one, all_of_them, merged = count_right(associate(masks, tracks=tracks).id_of_mask, names)
        assert merged == 0
        right, objects = right + one, objects + all_of_them
    assert right / objects >= 0.98


@pytest.mark.parametrize("views", [2, 3, 4])
def test_associate_swapped_tracks_few_views(views):
    """All views lie more than 60 degrees apart. Where nothing is certain a split is no loss;
    without the ambiguity a third of the objects is merged."""
    merged = total = 0
    for seed in range(6):
        truth = construct_scene(views, 160, 120, 12, seed, 360.0 * (1 - 1 / views), identical=4)
        rng = np.random.default_rng(seed)
        masks, names = spoil_masks(truth.labels, rng)
        poses = truth.world_from_cam
        swapped = track_masks(masks, names, truth.labels, poses, rng)
        merged += count_right(associate(masks, tracks=swapped).id_of_mask, names).merged
        right = track_masks(masks, names, truth.labels, poses, rng, safe_degrees=180.0)
        one, objects, wrong = count_right(associate(masks, tracks=right).id_of_mask, names)
        assert (one, wrong) == (objects, 0)
        total += objects
    assert merged <= 0.1 * total


def test_associate_names_and_order_of_views(rings):
    """Ids do not depend on the names or the order of views."""
    truth, masks, _ = rings[0]
    world = exact_world(truth)
    result = associate(masks, world, draw_depths(truth))
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    renamed = [np.where(masks[v] > 0, 70_000 - 11 * masks[v], 0) for v in order]
    turned = type(truth)(
        *(tuple(getattr(truth, name)[v] for v in order) for name in ("views",)),
        truth.world_from_cam[order],
        *(tuple(getattr(truth, n)[v] for v in order) for n in ("depths", "labels", "points")),
        truth.solids,
    )
    again = associate(renamed, exact_world(turned), draw_depths(turned))
    assert again.object_ids == result.object_ids
    for place, v in enumerate(order):
        np.testing.assert_array_equal(again.labels[place], result.labels[v])


def test_associate_identical_neighbours():
    """Four boxes, 4 mm between them, seen by five cameras whose poses are 3 mm off."""
    boxes = [
        body("box", [0.074 * (k - 1.5), 0, 0.03], [0.035, 0.035, 0.05], k + 1) for k in range(4)
    ]
    truth = photograph(boxes, facing([-50, -25, 0, 25, 50], height=0.2), 240, 180)
    for seed in range(3):
        masks, names = spoil_masks(truth.labels, np.random.default_rng(seed), missing=0.2)
        world, poses = with_errors(truth, 0.003, 0.003, 0.003, seed)
        result = associate(masks, world, draw_depths(truth, world, poses))
        assert count_right(result.id_of_mask, names) == (4, 4, 0)


def test_associate_under_segmented_mask_divided(rings):
    """One view segments objects 1 and 2, which touch, as one."""
    for truth, _, _ in rings:
        v = max(range(8), key=lambda v: min((truth.labels[v] == i).sum() for i in (1, 2)))
        masks = [np.where(m == 2, 1, m) if k == v else m for k, m in enumerate(truth.labels)]
        result = associate(masks, exact_world(truth), draw_depths(truth))
        others = [k for k in range(8) if k != v and (truth.labels[k] == 1).sum() > 100]
        one, two = (
            {i for k in others if (i := result.id_of_mask[k].get(true, 0))} for true in (1, 2)
        )
        assert len(one) == 1
        assert not one & two
        for true, ids in ((1, one), (2, two)):
            mask = truth.labels[v] == true
            assert np.isin(result.labels[v][mask], list(ids)).mean() > 0.9
            states = [result.visibility[result.object_ids.index(i), v] for i in ids]
            assert ObjectVisibility.MASKED in states


@pytest.mark.parametrize("apart", [False, True], ids=["one layer", "a layer of its own"])
def test_associate_fragment_absorbed(rings, apart):
    """A fragment that one view cuts off belongs to its object."""
    for truth, _, _ in rings[: 1 if apart else None]:
        areas = [(m == 5).sum() for m in truth.labels]
        v = int(np.argmax(areas))
        masks = [m.copy() for m in truth.labels]
        row, column = np.nonzero(masks[v] == 5)
        masks[v][row[column > np.median(column)], column[column > np.median(column)]] = 99
        if apart:
            cut = masks[v] == 99
            masks[v] = np.stack([np.where(cut, 0, masks[v]), np.where(cut, 99, 0)])
        result = associate(masks, exact_world(truth), draw_depths(truth))
        assert result.id_of_mask[v][99] == result.id_of_mask[v][5]
        ids = {n[5] for n, area in zip(result.id_of_mask, areas, strict=True) if area > 100}
        assert ids == {result.id_of_mask[v][5]}


def test_associate_miscut_masks_merge_nothing(rings):
    """Of all pixels of the objects, nearly all get the id that most of their object has."""
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        miscut, known = miscut_masks(masks, names, np.random.default_rng(seed))
        result = associate(miscut, exact_world(truth), draw_depths(truth))
        right, objects, merged = count_right(result.id_of_mask, known)
        assert merged == 0
        assert right >= 0.7 * objects
        main, agree, total = [], 0, 0
        for true in truth.object_ids:
            ids = np.concatenate(
                [m[t == true] for m, t in zip(result.labels, truth.labels, strict=True)]
            )
            count = np.bincount(ids[ids > 0])
            main.append(count.argmax())
            agree, total = agree + count.max(), total + count.sum()
        assert len(set(main)) == len(main)
        assert agree / total > 0.92


def test_associate_visibility_hidden_or_missed():
    """Visibility says where an object is hidden and where only its mask is missing."""
    wall = body("box", [0.12, 0, 0.05], [0.003, 0.2, 0.15], 0)
    ball = body("ball", [0.0, 0, 0.03], [0.04] * 3, 1)
    truth = photograph([wall, ball], facing([-90, -60, 90, -30]), 160, 120)
    masks = [m.copy() for m in truth.labels]
    masks[3][:] = 0
    result = associate(masks, exact_world(truth), draw_depths(truth))
    assert result.object_ids == (1,)
    seen = [
        ObjectVisibility.MASKED,
        ObjectVisibility.MASKED,
        ObjectVisibility.HIDDEN,
        ObjectVisibility.MISSED,
    ]
    assert result.visibility.tolist() == [seen]


def test_associate_contradicted_track_is_cut(rings):
    """In view 1 objects 5 and 6 are swapped; what view 2 then shows of each is right by chance."""
    truth, _, _ = rings[0]
    labels = [m.copy() for m in truth.labels]
    labels[1][truth.labels[1] == 6] = 5
    labels[1][truth.labels[1] == 5] = 6
    for order, cut in (((1, 2), {(0, 5, 1), (0, 6, 1), (0, 5, 2), (0, 6, 2)}),
                       ((2, 1), {(0, 5, 1), (0, 6, 1)})):  # fmt: skip
        tracks = [Tracks(0, (None, labels[1], labels[2], *[None] * 5), (order,))]
        result = associate(truth.labels, exact_world(truth), draw_depths(truth), tracks)
        assert set(result.cut) == cut


def test_associate_contradicted_tracks_merge_nothing(rings):
    """Tracks that 3d contradicts merge nothing."""
    truth, _, _ = rings[0]
    masks, names = truth.labels, names_of(truth)
    order = (1, 2, 3)
    labels = [m.copy() for m in truth.labels]
    area = [{i: (m == i).sum() for i in (5, 6)} for m in masks]
    assert all(a[i] > 100 for a in area[:3] for i in (5, 6)), "the scene must show both well"
    for v in (2, 3):
        labels[v][truth.labels[v] == 6] = 5
        labels[v][truth.labels[v] == 5] = 6
    swapped = Tracks(0, (None, labels[1], labels[2], labels[3], None, None, None, None), (order,))
    result = associate(masks, exact_world(truth), draw_depths(truth), [swapped])
    assert {(0, 5, 2), (0, 6, 2), (0, 5, 3), (0, 6, 3)} <= set(result.cut)
    assert all(view in (2, 3) for _, _, view in result.cut)
    assert count_right(result.id_of_mask, names)[2] == 0
    assert len(ids_of_objects(result, names)[5]) == 1


def test_associate_known_ids_stay(rings):
    """Replacing one view keeps the ids of all others."""
    truth, masks, names = rings[1]
    before = associate(masks, exact_world(truth), draw_depths(truth))
    rng = np.random.default_rng(9)
    fresh, fresh_names = spoil_masks(truth.labels, rng)
    masks, names = list(masks), list(names)
    masks[4], names[4] = fresh[4], fresh_names[4]
    known = [{} if v == 4 else before.id_of_mask[v] for v in range(8)]
    after = associate(masks, exact_world(truth), draw_depths(truth), known=known, first_id=100)
    for v in range(8):
        if v != 4:
            np.testing.assert_array_equal(after.labels[v], before.labels[v])
    right, objects, merged = count_right(after.id_of_mask, names)
    assert merged == 0
    assert right >= objects - 1
    assert all(i in before.object_ids or i >= 100 for i in after.object_ids)


def test_associate_known_objects_divide_a_mask(rings):
    """Objects 1 and 2 touch and 4 stands on 1. All other views took 4 for a part of 1; the new
    image is cut between the two, and not between 1 and 2."""
    truth, _, _ = rings[0]
    v = max(range(8), key=lambda v: min((truth.labels[v] == i).sum() for i in (1, 2, 4)))
    masks = [
        np.where(m == 2, 1, m) if k == v else np.where(m == 4, 1, m)
        for k, m in enumerate(truth.labels)
    ]
    known = [
        {} if k == v else {int(i): int(i) for i in np.unique(m) if i} for k, m in enumerate(masks)
    ]
    world = exact_world(truth)
    result = associate(masks, world, draw_depths(truth), known=known, first_id=100)
    for true, expected in ((1, 1), (2, 2), (4, 1)):
        assert (result.labels[v][truth.labels[v] == true] == expected).mean() > 0.9


def test_associate_without_evidence():
    """Masks without evidence are objects of their own."""
    masks = [np.kron(np.arange(1, 5).reshape(2, 2), np.ones((8, 8), np.int32)) for _ in range(3)]
    result = associate(masks)
    assert len(result.object_ids) == 12
    assert (result.visibility == ObjectVisibility.MASKED).sum() == 12


def test_associate_without_masks():
    """No masks at all."""
    empty = [np.zeros((8, 9), np.int32), np.zeros((5, 4), np.int32)]
    result = associate(empty)
    assert result.object_ids == ()
    assert [m.shape for m in result.labels] == [(8, 9), (5, 4)]
    truth = construct_scene(2, 40, 30, 2)
    nothing = [np.zeros_like(m) for m in truth.labels]
    assert associate(nothing, exact_world(truth), draw_depths(truth)).object_ids == ()


def test_associate_views_of_different_sizes():
    """Views of different sizes are associated."""
    balls = [body("ball", [x, 0, 0.03], [0.03] * 3, k + 1) for k, x in enumerate((-0.08, 0.08))]
    small = photograph(balls, facing([0, 20]), 100, 80)
    large = photograph(balls, facing([0, 20]), 240, 200)
    mixed = type(small)(
        (small.views[0], large.views[1]),
        small.world_from_cam,
        (small.depths[0], large.depths[1]),
        (small.labels[0], large.labels[1]),
        (small.points[0], large.points[1]),
        small.solids,
    )
    masks, names = mixed.labels, names_of(mixed)
    assert count_right(
        associate(masks, exact_world(mixed), draw_depths(mixed)).id_of_mask, names
    ) == (2, 2, 0)


def overlap_by_hand(truth, a, i, b, j):
    """IoU of the parts of two exact masks that both views see, pixel by pixel in float64."""
    counts = []
    for v, mine, w, theirs in ((a, i, b, j), (b, j, a, i)):
        K, pose = truth.views[w].K, truth.world_from_cam[w]
        hit = seen = 0
        for row, column in np.argwhere(truth.labels[v] == mine):
            x, y, z = pose[:3, :3].T @ (truth.points[v][row, column] - pose[:3, 3])
            u, t = round(K[0, 0] * x / z + K[0, 2]), round(K[1, 1] * y / z + K[1, 2])
            height, width = truth.depths[w].shape
            if not (0 <= u < width and 0 <= t < height):
                continue
            if abs(truth.depths[w][t, u] - z) < 0.01 * z:
                seen += 1 if truth.labels[w][t, u] else 0.5
                hit += truth.labels[w][t, u] == theirs
        counts.append(hit / max(seen, 0.5))
    p, q = counts
    return p * q / (p + q - p * q) if p * q else 0.0


def test_overlap_evidence_against_loop_over_pixels():
    """Overlap is that of a loop over pixels."""
    truth = construct_scene(3, 120, 90, 6, seed=4)
    masks = [np.where(m == 2, 1, m) if v == 1 else m for v, m in enumerate(truth.labels)]
    made = type(truth)(
        truth.views, truth.world_from_cam, truth.depths, tuple(masks), truth.points, truth.solids
    )
    nodes = MaskNodes.from_labels(masks)
    confidence = tuple(np.ones(m.shape, np.float32) for m in masks)
    samples = draw_samples(nodes, exact_world(made), confidence, draw_depths(made))
    overlap = measure_overlap(nodes, samples, confidence)
    evidence = overlap_evidence(nodes, overlap)
    one, other = (each.ravel() for each in np.indices((len(nodes), len(nodes))))
    affinity, support = (
        found(one, other).reshape(len(nodes), len(nodes))
        for found in (evidence.affinities, evidence.supports)
    )
    np.testing.assert_allclose(affinity, affinity.T, atol=1e-6)
    assert not support[nodes.view[:, None] == nodes.view].any()
    assert (np.abs(affinity) <= support + 1e-6).all()
    checked = 0
    for one in range(len(nodes)):
        for other in np.flatnonzero((nodes.view > nodes.view[one]) & (support[one] > 0.7)):
            iou = overlap_by_hand(
                made, nodes.view[one], nodes.label[one], nodes.view[other], nodes.label[other]
            )
            found = affinity[one, other] / support[one, other]
            expected = iou / 0.3 - 1 if iou < 0.3 else min((iou - 0.3) / 0.5, 1)
            assert found == pytest.approx(expected, abs=0.1)
            checked += 1
    assert checked > 12
