"""Trees of masks: runs of leaves, paths, parts, cuts; and those that are derived from labels."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from wildseg3d_ros.core.types import MaskCache, MaskTree, ObjectTree
from wildseg3d_ros.core.types.tree import in_runs, merge_runs
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.scene.file.mask_checks import check_masks
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=96, height=72)


@pytest.fixture(scope="module")
def made(truth):
    return true_tree(truth)


def random_tree(seed, leaves=40, roots=3):
    """Leaves in random order, merged at random, as patches and parents; and the leaf sets."""
    rng = np.random.default_rng(seed)
    parent, sets = [-1] * leaves, [{k} for k in range(leaves)]
    free = list(range(leaves))
    while len(free) > roots:
        arity = min(int(rng.integers(2, 4)), len(free) - roots + 1)
        merged = [free.pop(int(rng.integers(len(free)))) for _ in range(arity)]
        for node in merged:
            parent[node] = len(parent)
        sets.append(set().union(*(sets[node] for node in merged)))
        free.append(len(parent))
        parent.append(-1)
    patches = rng.integers(-1, leaves, (2, 30, 40)).astype(np.int32)
    score = rng.uniform(0, 1, len(parent)).astype(np.float32)
    return list(patches), np.array(parent), score, sets


@pytest.mark.parametrize("seed", range(4))
def test_of_parents_makes_runs_of_the_same_pixels(seed):
    patches, parent, score, sets = random_tree(seed)
    tree, number = MaskTree.of_parents(patches, parent, score)
    check_nodes(tree)
    for node, held in enumerate(sets):
        new = number[node]
        runs = tree.runs([new])
        assert len(runs) == 1
        for view, of_view in enumerate(patches):
            expected = np.isin(of_view, sorted(held))
            np.testing.assert_array_equal(in_runs(tree.leaves[view], runs), expected)
        assert tree.score[new] == score[node]
        assert tree.parent[new] == (number[parent[node]] if parent[node] >= 0 else -1)


def check_nodes(tree):
    labels = tuple(np.zeros(m.shape, np.int32) for m in tree.leaves)
    scores = tuple(m.astype(np.float32) for m in labels)
    check_masks(MaskCache(labels, scores, (), tree=tree))


def holding(tree, held):
    """Brute force: nodes whose leaves are all in a set."""
    return [
        node for node in range(len(tree)) if set(range(tree.start[node], tree.stop[node])) <= held
    ]


@pytest.mark.parametrize("seed", range(3))
def test_path_children_cover_and_sums_by_brute_force(seed):
    tree, _ = MaskTree.of_parents(*random_tree(seed)[:3])
    rng = np.random.default_rng(seed)
    for leaf in range(tree.leaf_count):
        expected = np.flatnonzero((tree.start <= leaf) & (tree.stop > leaf)).tolist()
        assert tree.path(leaf) == expected
        best = max(expected, key=lambda node: tree.score[node])
        assert tree.best_above[leaf] == best
    for node in range(tree.leaf_count, len(tree)):
        below = [k for k in range(len(tree)) if tree.parent[k] == node]
        assert tree.children(node).tolist() == below
    weight = rng.integers(0, 9, tree.leaf_count)
    sums = [weight[a:b].sum() for a, b in zip(tree.start, tree.stop, strict=True)]
    assert tree.sums(weight).tolist() == sums
    held = rng.random(tree.leaf_count) < 0.7
    cover = tree.cover(held)
    np.testing.assert_array_equal(tree.leaves_of(cover), held)
    inside = holding(tree, set(np.flatnonzero(held).tolist()))
    assert set(cover) == {node for node in inside if tree.parent[node] not in inside}


def test_best_parts_maximise_weight_times_score():
    """Against all sets of disjoint nodes."""
    tree, _ = MaskTree.of_parents(*random_tree(5, leaves=7, roots=1)[:3])
    weight = tree.sums(np.random.default_rng(1).integers(1, 9, 7))
    root = len(tree) - 1
    best = 0.0
    most = 0.75 * weight[root]
    nodes = [node for node in range(len(tree)) if weight[node] < most]
    for size in range(1, 8):
        for some in itertools.combinations(nodes, size):
            leaves = sum(int(tree.stop[n] - tree.start[n]) for n in some)
            if leaves == np.count_nonzero(tree.leaves_of(some)):
                best = max(best, float((weight * tree.score)[list(some)].sum()))
    found = tree.best_parts([root], weight, most)
    assert float((weight * tree.score)[found].sum()) == pytest.approx(best)
    assert tree.best_parts([0], weight, weight[0]) == []


@pytest.mark.parametrize("share", [0.03, 0.3, 0.5, 0.8])
def test_certainty_of_what_is_left_of_a_thing_is_its_iou(truth, made, share):
    """The scores are true ones, so that the expected IoU of what a cut leaves is known."""
    tree = made.tree
    area = tree.leaf_areas
    held = tree.leaves_of([made.node_of[1]])
    whole = area[held].sum()
    assert tree.certainty(held)[0] == 1.0
    held[np.flatnonzero(held)[: max(1, int(share * held.sum()))]] = False
    left = area[held].sum() / whole
    assert 0.1 < left < 1.0
    score, ambiguity = tree.certainty(held)
    assert score == pytest.approx(left, abs=0.02)
    if left < 0.7:  # the whole thing is better
        assert ambiguity == 1.0


def test_certainty_of_two_things_is_that_of_neither(truth, made):
    tree = made.tree
    area = tree.leaf_areas
    held = tree.leaves_of([made.node_of[1], made.node_of[2]])
    sizes = [area[tree.leaves_of([made.node_of[k]])].sum() for k in (1, 2)]
    score, ambiguity = tree.certainty(held)
    assert score == pytest.approx(max(sizes) / sum(sizes), abs=0.05)
    assert ambiguity == 1.0  # each of both by itself is better


def test_merge_runs():
    runs = np.array([[5, 7], [0, 2], [2, 3], [6, 9], [11, 12]], np.int32)
    assert merge_runs(runs).tolist() == [[0, 3], [5, 9], [11, 12]]
    assert merge_runs(runs[:0]).shape == (0, 2)


@pytest.mark.parametrize("leaf", [0, 7, 39])
def test_cut_splits_one_leaf_and_keeps_all_else(leaf):
    tree, _ = MaskTree.of_parents(*random_tree(2)[:3])
    rng = np.random.default_rng(leaf)
    first = [rng.random(m.shape) < 0.5 for m in tree.leaves]
    cut, number = tree.cut(leaf, first)
    check_nodes(cut)
    assert len(cut) == len(tree) + 2
    for node in range(len(tree)):
        runs = cut.runs([number[node]])
        for old, new in zip(tree.leaves, cut.leaves, strict=True):
            np.testing.assert_array_equal(in_runs(new, runs), in_runs(old, tree.runs([node])))
    for old, new, mine in zip(tree.leaves, cut.leaves, first, strict=True):
        np.testing.assert_array_equal(new == leaf, (old == leaf) & mine)
        np.testing.assert_array_equal(new == leaf + 1, (old == leaf) & ~mine)


def test_with_roots_adds_leaves_beside_all_others():
    tree, _ = MaskTree.of_parents(*random_tree(3)[:3])
    maps = tuple(np.where(m < 0, tree.leaf_count + 1, m).astype(np.int32) for m in tree.leaves)
    grown, number = tree.with_roots(maps, np.array([0.25, 0.5]))
    check_nodes(grown)
    assert grown.leaf_count == tree.leaf_count + 2
    assert grown.path(tree.leaf_count + 1) == [tree.leaf_count + 1]
    for node in range(len(tree)):
        assert grown.runs([number[node]]).tolist() == tree.runs([node]).tolist()
        assert grown.score[number[node]] == tree.score[node]


def test_mask_tree_is_read_only_and_pickles(made):
    tree = pickle.loads(pickle.dumps((made.tree, made.tree)))
    assert tree[0] is tree[1]
    for array in (tree[0].start, tree[0].leaves[0], made.tree.score):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_object_tree_of_labels_has_the_objects_as_nodes(truth):
    """Wholes, parts, one of them in two wholes, a sub-part; by the label maps themselves."""
    columns = np.arange(96)[None, :]
    parts, subs = [], []
    for labels in truth.labels:
        left = columns < np.median(np.nonzero(labels == 1)[1])
        part = np.where((labels == 1) & left, 40, 0)
        part = np.where(np.isin(labels, (3, 5)) & (columns % 2 == 0), 41, part)
        parts.append(part.astype(np.int32))
        subs.append(np.where((part == 40) & (columns % 3 == 0), 50, 0).astype(np.int32))
    maps = [truth.labels, tuple(parts), tuple(subs)]
    scores = tuple((m > 0).astype(np.float32) for m in truth.labels)
    records = describe_objects(maps, scores)
    cache = MaskCache(truth.labels, scores, truth.object_ids, tuple(maps[1:]), records)
    objects = ObjectTree.of_cache(cache)
    assert objects.derived
    check_nodes(objects.tree)
    assert objects.several == (41,)
    for level in maps:
        for object_id in np.unique(np.concatenate([m.ravel() for m in level]))[1:]:
            for view, labels in enumerate(level):
                found = in_runs(objects.tree.leaves[view], objects.runs(int(object_id)))
                np.testing.assert_array_equal(found, labels == object_id)
    (sub,), (part,), (whole,) = objects.nodes[50], objects.nodes[40], objects.nodes[1]
    assert objects.tree.path(sub) == [sub, part, whole]
    assert objects.id_of_nodes[(part,)] == 40


def test_object_tree_part_without_its_whole_in_a_view(truth):
    """Where a view has a mask of the part alone, the part's pixels are the whole's too."""
    parts = tuple(np.where(m == 1, 40, 0).astype(np.int32) for m in truth.labels)
    wholes = (np.where(truth.labels[0] == 1, 0, truth.labels[0]), *truth.labels[1:])
    scores = tuple((m > 0).astype(np.float32) for m in wholes)
    records = describe_objects([wholes, parts], scores)
    assert next(r for r in records if r.object_id == 40).parent == 1
    objects = ObjectTree.of_cache(MaskCache(wholes, scores, truth.object_ids, (parts,), records))
    found = in_runs(objects.tree.leaves[0], objects.runs(1))
    np.testing.assert_array_equal(found, truth.labels[0] == 1)


def test_object_tree_of_a_cache_with_a_tree(truth, made):
    cache = treed_cache(truth, made)
    check_masks(cache)
    objects = ObjectTree.of_cache(cache)
    assert objects.tree is made.tree
    assert not objects.derived
    assert objects.nodes == {i: (made.node_of[i],) for i in truth.object_ids}
