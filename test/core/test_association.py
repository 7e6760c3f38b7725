"""One id per object over views: constructed masks, points and tracks whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.geometry.transforms import apply, make_transform, rotation_from_vector
from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association import Presence, Tracks, associate
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import (
    draw_samples,
    measure_overlap,
    overlap_evidence,
    sureness,
)
from wildseg3d_ros.sim.cameras import look_at
from wildseg3d_ros.testing.exact import exact_world
from wildseg3d_ros.testing.masks import miscut_masks, spoil_masks, track_masks
from wildseg3d_ros.testing.scenes import construct_scene, photograph
from wildseg3d_ros.testing.solids import Solid
from wildseg3d_ros.types import WorldPointmaps

GREY = np.array([[120, 122, 125], [150, 152, 155]], np.float64)


def solid(kind, centre, half, label):
    return Solid(kind, make_transform(np.eye(3), centre), np.array(half), GREY, label=label)


def depth_of(truth, world=None, poses=None):
    K = np.stack([view.K for view in truth.views])
    poses = truth.world_from_cam if poses is None else poses
    return Visibility.create(K, poses, world or exact_world(truth))


def with_errors(truth, depth, rotation, translation, seed=0):
    """Points with noise along the rays, as seen from cameras that are a little elsewhere."""
    rng = np.random.default_rng(seed)
    points, poses = [], []
    for pose, exact in zip(truth.world_from_cam, truth.points, strict=True):
        slip = make_transform(
            rotation_from_vector(rng.normal(size=3) * rotation), rng.normal(size=3) * translation
        )
        ray = exact - pose[:3, 3]
        noisy = pose[:3, 3] + ray * (1 + depth * rng.normal(size=(*exact.shape[:2], 1)))
        points.append(apply(slip, noisy).astype(np.float32))
        poses.append(slip @ pose)
    confidence = tuple((d > 0).astype(np.float32) for d in truth.depths)
    return WorldPointmaps(tuple(points), confidence), np.stack(poses)


def ids_of_objects(result, names):
    """Ids by true object."""
    ids = {}
    for by_label, true in zip(result.id_of_mask, names, strict=True):
        for label, name in true.items():
            ids.setdefault(name, set()).add(by_label[label])
    return ids


def count_right(result, names):
    """Objects with exactly one id, all objects, ids that two objects share."""
    ids = ids_of_objects(result, names)
    owners = [found for each in ids.values() for found in each]
    merged = len(owners) - len(set(owners))
    return sum(len(each) == 1 for each in ids.values()), len(ids), merged


def exact_masks(truth):
    names = [{int(i): int(i) for i in np.unique(labels) if i} for labels in truth.labels]
    return truth.labels, names


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
def test_every_object_of_a_ring_gets_one_id_and_none_is_merged(rings, source):
    right = objects = 0
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        world, poses = exact_world(truth), truth.world_from_cam
        if source == "noisy overlap":
            world, poses = with_errors(truth, 0.004, 0.006, 0.004, seed)
        tracks = []
        if source == "both":
            rng = np.random.default_rng(seed)
            tracks = track_masks(masks, names, truth.labels, truth.world_from_cam, rng)
        result = associate(masks, world, depth_of(truth, world, poses), tracks)
        one, all_of_them, merged = count_right(result, names)
        assert merged == 0
        right, objects = right + one, objects + all_of_them
    assert objects == 60
    assert right / objects >= 0.98


def test_tracks_alone_do_the_same_while_they_are_right(rings):
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        rng = np.random.default_rng(seed)
        tracks = track_masks(
            masks, names, truth.labels, truth.world_from_cam, rng, safe_degrees=180.0
        )
        one, objects, merged = count_right(associate(masks, tracks=tracks), names)
        assert merged == 0
        assert one >= objects - 1


def test_tracks_that_swap_beyond_60_degrees_merge_nothing(rings):
    right = objects = 0
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        rng = np.random.default_rng(seed)
        tracks = track_masks(masks, names, truth.labels, truth.world_from_cam, rng)
        one, all_of_them, merged = count_right(associate(masks, tracks=tracks), names)
        assert merged == 0
        right, objects = right + one, objects + all_of_them
    assert right / objects >= 0.98


def test_ids_do_not_depend_on_the_names_or_the_order_of_views(rings):
    truth, masks, _ = rings[0]
    world = exact_world(truth)
    result = associate(masks, world, depth_of(truth))
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    renamed = [np.where(masks[v] > 0, 70_000 - 11 * masks[v], 0) for v in order]
    turned = type(truth)(
        *(tuple(getattr(truth, name)[v] for v in order) for name in ("views",)),
        truth.world_from_cam[order],
        *(tuple(getattr(truth, n)[v] for v in order) for n in ("depths", "labels", "points")),
        truth.solids,
    )
    again = associate(renamed, exact_world(turned), depth_of(turned))
    assert again.object_ids == result.object_ids
    for place, v in enumerate(order):
        np.testing.assert_array_equal(again.labels[place], result.labels[v])


def facing(*azimuths, distance=0.7, height=0.03):
    return [
        look_at(
            np.array([distance * np.sin(a), -distance * np.cos(a), height]),
            np.array([0.0, 0.0, height]),
        )
        for a in np.radians(azimuths)
    ]


def test_opposite_cameras_that_share_no_pixel_meet_over_the_views_between_them():
    pillars = [
        solid("cylinder", [x, 0, 0.03], [0.03, 0.03, 0.04], k + 1)
        for k, x in enumerate((-0.1, 0.0, 0.1))
    ]
    truth = photograph(pillars, facing(0, 60, 120, 180), 160, 120)
    masks, names = exact_masks(truth)
    nodes = MaskNodes.from_labels(masks)
    sure = sureness(nodes)
    samples = draw_samples(nodes, exact_world(truth), sure, depth_of(truth))
    overlap = measure_overlap(nodes, samples, sure, depth_of(truth))
    front, back = nodes.of_view(0), nodes.of_view(3)
    assert overlap.hits[front, back].max() < 0.02 * overlap.mass.max()
    assert count_right(associate(masks, exact_world(truth), depth_of(truth)), names) == (3, 3, 0)


@pytest.mark.parametrize("kind", ["box", "cylinder"])
def test_front_and_back_meet_over_a_chain_of_views(kind):
    """Each view shares surface with its neighbours alone: front, corner, side, corner, back."""
    half = {"box": [0.03, 0.025, 0.04], "cylinder": [0.03, 0.03, 0.04]}[kind]
    bodies = [solid(kind, [x, 0, 0.03], half, k + 1) for k, x in enumerate((-0.12, 0.0, 0.12))]
    for errors in (False, True):
        truth = photograph(bodies, facing(0, 45, 90, 135, 180), 200, 150)
        masks, names = exact_masks(truth)
        world, poses = exact_world(truth), truth.world_from_cam
        if errors:
            masks, names = spoil_masks(truth.labels, np.random.default_rng(1), missing=0.0)
            world, poses = with_errors(truth, 0.002, 0.003, 0.002)
        nodes = MaskNodes.from_labels(masks)
        sure = sureness(nodes)
        samples = draw_samples(nodes, world, sure, depth_of(truth, world, poses))
        overlap = measure_overlap(nodes, samples, sure, depth_of(truth, world, poses))
        front, back = nodes.of_view(0), nodes.of_view(4)
        assert overlap.hits[front, back].max() < 0.05 * overlap.mass.max()
        result = associate(masks, world, depth_of(truth, world, poses))
        assert count_right(result, names) == (3, 3, 0)


def test_two_sides_of_a_ball_are_joined_by_their_seam():
    balls = [solid("ball", [x, 0, 0.03], [0.04] * 3, k + 1) for k, x in enumerate((-0.1, 0.1))]
    truth = photograph(balls, facing(0, 180), 160, 120)
    masks, names = exact_masks(truth)
    assert count_right(associate(masks, exact_world(truth), depth_of(truth)), names) == (2, 2, 0)


def test_a_ball_that_hides_its_twin_is_not_taken_for_its_other_side():
    balls = [solid("ball", [0, y, 0.03], [0.04] * 3, k + 1) for k, y in enumerate((-0.041, 0.041))]
    truth = photograph(balls, facing(0, 180), 160, 120)
    masks, names = exact_masks(truth)
    assert [list(n) for n in names] == [[1], [2]]
    assert count_right(associate(masks, exact_world(truth), depth_of(truth)), names)[2] == 0


def test_identical_boxes_side_by_side_stay_apart_under_errors():
    """Four boxes, 4 mm between them, seen by five cameras whose poses are 3 mm off."""
    boxes = [
        solid("box", [0.074 * (k - 1.5), 0, 0.03], [0.035, 0.035, 0.05], k + 1) for k in range(4)
    ]
    truth = photograph(boxes, facing(-50, -25, 0, 25, 50, height=0.2), 240, 180)
    for seed in range(3):
        masks, names = spoil_masks(truth.labels, np.random.default_rng(seed), missing=0.2)
        world, poses = with_errors(truth, 0.003, 0.003, 0.003, seed)
        result = associate(masks, world, depth_of(truth, world, poses))
        assert count_right(result, names) == (4, 4, 0)


def test_a_mask_that_covers_two_neighbours_is_divided_among_them(rings):
    """One view segments objects 1 and 2, which touch, as one."""
    for truth, _, _ in rings:
        v = max(range(8), key=lambda v: min((truth.labels[v] == i).sum() for i in (1, 2)))
        masks = [np.where(m == 2, 1, m) if k == v else m for k, m in enumerate(truth.labels)]
        result = associate(masks, exact_world(truth), depth_of(truth))
        others = [k for k in range(8) if k != v and (truth.labels[k] == 1).sum() > 100]
        one, two = (
            {i for k in others if (i := result.id_of_mask[k].get(true, 0))} for true in (1, 2)
        )
        assert len(one) == 1
        assert not one & two
        for true, ids in ((1, one), (2, two)):
            mask = truth.labels[v] == true
            assert np.isin(result.labels[v][mask], list(ids)).mean() > 0.9
            presence = [result.presence[result.object_ids.index(i), v] for i in ids]
            assert Presence.MASKED in presence


def test_a_piece_that_one_view_cuts_off_belongs_to_its_object(rings):
    for truth, _, _ in rings:
        areas = [(m == 5).sum() for m in truth.labels]
        v = int(np.argmax(areas))
        masks = [m.copy() for m in truth.labels]
        row, column = np.nonzero(masks[v] == 5)
        masks[v][row[column > np.median(column)], column[column > np.median(column)]] = 99
        result = associate(masks, exact_world(truth), depth_of(truth))
        assert result.id_of_mask[v][99] == result.id_of_mask[v][5]
        ids = {n[5] for n, area in zip(result.id_of_mask, areas, strict=True) if area > 100}
        assert ids == {result.id_of_mask[v][5]}


def test_masks_that_are_cut_and_joined_merge_nothing(rings):
    """Of all pixels of the objects, nearly all get the id that most of their object has."""
    for seed, (truth, masks, names) in zip(RINGS, rings, strict=True):
        miscut, known = miscut_masks(masks, names, np.random.default_rng(seed))
        result = associate(miscut, exact_world(truth), depth_of(truth))
        right, objects, merged = count_right(result, known)
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


def test_presence_says_where_an_object_is_hidden_and_where_only_its_mask_is_missing():
    wall = solid("box", [0.12, 0, 0.05], [0.003, 0.2, 0.15], 0)
    ball = solid("ball", [0.0, 0, 0.03], [0.04] * 3, 1)
    truth = photograph([wall, ball], facing(-90, -60, 90, -30), 160, 120)
    masks, _ = exact_masks(truth)
    masks = [m.copy() for m in masks]
    masks[3][:] = 0
    result = associate(masks, exact_world(truth), depth_of(truth))
    assert result.object_ids == (1,)
    seen = [Presence.MASKED, Presence.MASKED, Presence.HIDDEN, Presence.MISSED]
    assert result.presence.tolist() == [seen]


def test_a_track_that_3d_contradicts_is_cut_with_those_after_it(rings):
    truth, _, _ = rings[0]
    masks, names = exact_masks(truth)
    order = (1, 2, 3)
    labels = [m.copy() for m in truth.labels]
    area = [{i: (m == i).sum() for i in (5, 6)} for m in masks]
    assert all(a[i] > 100 for a in area[:3] for i in (5, 6)), "the scene must show both well"
    for v in (2, 3):
        labels[v][truth.labels[v] == 6] = 5
        labels[v][truth.labels[v] == 5] = 6
    swapped = Tracks(0, (None, labels[1], labels[2], labels[3], None, None, None, None), (order,))
    result = associate(masks, exact_world(truth), depth_of(truth), [swapped])
    assert {(0, 5, 2), (0, 6, 2), (0, 5, 3), (0, 6, 3)} <= set(result.cut)
    assert all(view in (2, 3) for _, _, view in result.cut)
    assert count_right(result, names)[2] == 0
    assert len(ids_of_objects(result, names)[5]) == 1


def test_replacing_one_view_keeps_the_ids_of_all_others(rings):
    truth, masks, names = rings[1]
    before = associate(masks, exact_world(truth), depth_of(truth))
    rng = np.random.default_rng(9)
    fresh, fresh_names = spoil_masks(truth.labels, rng)
    masks, names = list(masks), list(names)
    masks[4], names[4] = fresh[4], fresh_names[4]
    known = [{} if v == 4 else before.id_of_mask[v] for v in range(8)]
    after = associate(masks, exact_world(truth), depth_of(truth), known=known, first_id=100)
    for v in range(8):
        if v != 4:
            np.testing.assert_array_equal(after.labels[v], before.labels[v])
    right, objects, merged = count_right(after, names)
    assert merged == 0
    assert right >= objects - 1
    assert all(i in before.object_ids or i >= 100 for i in after.object_ids)


def test_masks_without_evidence_are_objects_of_their_own():
    masks = [np.kron(np.arange(1, 5).reshape(2, 2), np.ones((8, 8), np.int32)) for _ in range(3)]
    result = associate(masks)
    assert len(result.object_ids) == 12
    assert (result.presence == Presence.MASKED).sum() == 12


def test_no_masks_at_all():
    empty = [np.zeros((8, 9), np.int32), np.zeros((5, 4), np.int32)]
    result = associate(empty)
    assert result.object_ids == ()
    assert [m.shape for m in result.labels] == [(8, 9), (5, 4)]
    truth = construct_scene(2, 40, 30, 2)
    nothing = [np.zeros_like(m) for m in truth.labels]
    assert associate(nothing, exact_world(truth), depth_of(truth)).object_ids == ()


def test_sizes_that_do_not_fit_are_named():
    truth = construct_scene(2, 40, 30, 2)
    masks = [truth.labels[0], truth.labels[1][:20]]
    with pytest.raises(ValueError, match=r"\(20, 40\).*\(30, 40\)"):
        associate(masks, exact_world(truth), depth_of(truth))


def test_views_of_different_sizes_are_associated():
    balls = [solid("ball", [x, 0, 0.03], [0.03] * 3, k + 1) for k, x in enumerate((-0.08, 0.08))]
    small = photograph(balls, facing(0, 20), 100, 80)
    large = photograph(balls, facing(0, 20), 240, 200)
    mixed = type(small)(
        (small.views[0], large.views[1]),
        small.world_from_cam,
        (small.depths[0], large.depths[1]),
        (small.labels[0], large.labels[1]),
        (small.points[0], large.points[1]),
        small.solids,
    )
    masks, names = exact_masks(mixed)
    assert count_right(associate(masks, exact_world(mixed), depth_of(mixed)), names) == (2, 2, 0)


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


def test_overlap_is_that_of_a_loop_over_pixels():
    truth = construct_scene(3, 120, 90, 6, seed=4)
    masks = [np.where(m == 2, 1, m) if v == 1 else m for v, m in enumerate(truth.labels)]
    made = type(truth)(
        truth.views, truth.world_from_cam, truth.depths, tuple(masks), truth.points, truth.solids
    )
    nodes = MaskNodes.from_labels(masks)
    sure = tuple(np.ones(m.shape, np.float32) for m in masks)
    samples = draw_samples(nodes, exact_world(made), sure, depth_of(made))
    overlap = measure_overlap(nodes, samples, sure, depth_of(made))
    evidence = overlap_evidence(nodes, overlap)
    one, other = (each.ravel() for each in np.indices((len(nodes), len(nodes))))
    weight, amount = (
        found(one, other).reshape(len(nodes), len(nodes))
        for found in (evidence.weights, evidence.amounts)
    )
    np.testing.assert_allclose(weight, weight.T, atol=1e-6)
    assert not amount[nodes.view[:, None] == nodes.view].any()
    assert (np.abs(weight) <= amount + 1e-6).all()
    checked = 0
    for one in range(len(nodes)):
        for other in np.flatnonzero((nodes.view > nodes.view[one]) & (amount[one] > 0.7)):
            iou = overlap_by_hand(
                made, nodes.view[one], nodes.label[one], nodes.view[other], nodes.label[other]
            )
            found = weight[one, other] / amount[one, other]
            expected = iou / 0.3 - 1 if iou < 0.3 else min((iou - 0.3) / 0.5, 1)
            assert found == pytest.approx(expected, abs=0.1)
            checked += 1
    assert checked > 12
