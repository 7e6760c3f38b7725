"""Evidence without a table of all pairs, against such tables; and what it is good for."""

from __future__ import annotations

import tracemalloc
from itertools import permutations

import numpy as np
import pytest

from wildseg3d_ros.masks.association import Tracks, associate
from wildseg3d_ros.masks.association.evidence import Evidence, GroupSums
from wildseg3d_ros.masks.association.grouping import group_masks
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.tracks import ambiguity_of_tracks, measure_tracks
from wildseg3d_testing.association import seen_world
from wildseg3d_testing.scenes import construct_scene


def test_group_sums_against_all_pairs():
    """Against tables of all pairs of masks, which the evidence stands for."""
    rng = np.random.default_rng(3)
    view = np.repeat(np.arange(4), 5)
    layer = 2 * view + rng.integers(0, 2, 20)
    visible_support = rng.random((20, 8)) * (np.arange(8) // 2 != view[:, None])
    i, j = np.nonzero(np.triu((rng.random((20, 20)) < 0.3) & (view[:, None] != view)))
    overlap_affinity, overlap_support = rng.random((2, len(i)))
    evidence = Evidence.of_pairs(visible_support, layer, i, j, overlap_affinity, overlap_support)
    repulsion = 0.5 * (visible_support[:, layer] + visible_support[:, layer].T)
    affinity, support = -repulsion, repulsion.copy()
    for table, values in ((affinity, overlap_affinity), (support, overlap_support)):
        table[i, j] += values
        table[j, i] += values
    every = np.arange(20)
    np.testing.assert_allclose(evidence.block(every, every), affinity)
    np.testing.assert_allclose(evidence.supports(i, j), support[i, j])
    some = np.array([1, 4, 9, 17])
    np.testing.assert_allclose(
        evidence.of(some).block(np.arange(4), np.arange(4)), affinity[np.ix_(some, some)]
    )
    np.testing.assert_allclose((evidence + evidence).block(every, every), 2 * affinity)
    group = rng.permutation(20) % 7
    member = (group[:, None] == np.arange(7)).astype(float)
    sums = GroupSums.of(evidence, group)
    a, b = (each.ravel() for each in np.indices((7, 7)))
    np.testing.assert_allclose(sums.repulsion(a, b), (member.T @ repulsion @ member).ravel())
    a, b = (each.ravel() for each in np.indices((20, 7)))
    np.testing.assert_allclose(
        sums.repulsion_of_masks(evidence, a, b), (repulsion @ member).ravel()
    )
    within = 0.5 * (affinity * (group[:, None] == group)).sum()
    assert sums.inside(evidence, group) == pytest.approx(within)


def test_group_masks_best_partition():
    """Against all partitions of three views with three masks each."""
    view = np.repeat(np.arange(3), 3)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shuffles = [rng.permutation(3) for _ in range(3)]
        true = np.concatenate(shuffles)
        weight = np.where(true[:, None] == true, 0.8, -0.6) + rng.normal(0, 0.35, (9, 9))
        weight = np.triu(np.clip(weight, -1, 1), 1)
        weight = weight + weight.T
        weight[view[:, None] == view] = 0.0
        best = -np.inf
        for second in permutations(range(3)):
            for third in permutations(range(3)):
                group = np.concatenate([np.arange(3), second, third])
                same = (group[:, None] == group) & (view[:, None] != view)
                best = max(best, weight[same].sum() / 2)
        i, j = np.triu_indices(9, 1)
        evidence = Evidence.of_pairs(np.zeros((9, 3)), view, i, j, weight[i, j], np.ones(len(i)))
        group = group_masks(evidence, view)
        same = (group[:, None] == group) & (view[:, None] != view)
        assert all(len(set(group[view == v])) == 3 for v in range(3))
        assert weight[same].sum() / 2 >= best - 1e-9


@pytest.mark.parametrize(("affinity", "joined"), [(0.002, False), (0.01, True)])
def test_group_masks_min_gain(affinity, joined):
    """What a strip says joins no masks."""
    view = np.array([0, 1])
    one, other = np.array([0]), np.array([1])
    given = np.array([affinity]), np.zeros(1)
    evidence = Evidence.of_pairs(np.zeros((2, 2)), view, one, other, *given)
    group = group_masks(evidence, view)
    assert (group[0] == group[1]) == joined


def test_associate_many_small_masks():
    """Many small masks are handled."""
    truth = construct_scene(3, 160, 120, 6, seed=1)
    tiles = np.arange(1, 1 + 20 * 20, dtype=np.int32).reshape(20, 20)
    masks = [np.kron(tiles, np.ones((6, 8), np.int32)) for _ in range(3)]
    result = associate(masks, *seen_world(truth))
    # Tiles of one view lie across those of the others.
    for labels in result.labels:
        assert labels.all()
        assert len(np.unique(labels)) > 300


def test_associate_memory_below_all_pairs():
    """Eight views of 256 masks; tables of all pairs of masks are 16 MiB each, and were many."""
    truth = construct_scene(8, 192, 144, 12, seed=0, arc_degrees=315.0)
    tiles = np.arange(1, 257, dtype=np.int32).reshape(16, 16)
    masks = [np.kron(tiles, np.ones((9, 12), np.int32)) for _ in range(8)]
    world, visibility = seen_world(truth)
    tracemalloc.start()
    try:
        result = associate(masks, world, visibility)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(result.object_ids) > 256
    assert peak < 64 * 2**20


@pytest.mark.parametrize("anchors", [(0,), (0, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("trusted", [1.0, 0.5])
def test_ambiguity_of_tracks_by_anchors_and_trust(anchors, trusted):
    """Of four views with ten masks each: the fewer are followed and the more tracks are wrong."""
    labels = np.repeat(np.arange(1, 11), 4).reshape(1, 40)
    nodes = MaskNodes.from_labels([labels] * 4)
    tracks = [
        Tracks(a, tuple(labels for _ in range(4)), (tuple(b for b in range(4) if b != a),))
        for a in anchors
    ]
    found = measure_tracks(nodes, tracks)
    ambiguity = ambiguity_of_tracks(nodes, found, np.full((4, 4), trusted, np.float32))
    # What outweighs a prior of one in ten masks by four to one, where 1000 to one is all there is.
    whole = 0.5 * np.log(4 * 10) / np.log(1000)
    share = len(anchors) / 4
    swapped = 0.0 if len(anchors) == 1 else 4 * (1 - trusted)
    assert ambiguity == pytest.approx((1 - share**2 + swapped) * whole, abs=1e-6)
