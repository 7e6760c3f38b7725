"""The merge tree against a search over all pairs, and the selection against all sets of nodes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.masks.surface.features import (
    PAIR_FEATURES,
    ClusterShapes,
    pair_features,
)
from wildseg3d_ros.masks.surface.graph import CUES, SUMS, PairEvidence, SurfaceGraph
from wildseg3d_ros.masks.surface.merge_tree import merge_patches
from wildseg3d_ros.masks.surface.model import ScoreModel, default_model
from wildseg3d_ros.masks.surface.node_features import NODE_FEATURES, node_features
from wildseg3d_ros.masks.surface.selection import node_of_patch, select_nodes


def random_graph(rng, patches=12, pairs=26, size=None):
    """Patches of random points in space, with random cues between random pairs."""
    count = rng.integers(20, 30, patches) if size is None else size
    sums, low, high = [], [], []
    for n in count:
        points = rng.normal(size=(n, 3)) * 0.01 + rng.normal(size=3) * 0.1
        i, j = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
        rest = rng.normal(size=(n, len(SUMS) - 10))
        lab = rest[:, 3:6] * 10 + 50
        rest[:, 3:6], rest[:, 6:9] = lab, lab**2
        rows = np.concatenate([np.ones((n, 1)), points, points[:, i] * points[:, j], rest], 1)
        rows[:, SUMS.index("views")] = 2
        sums.append(rows.sum(axis=0))
        bounds = np.concatenate([points, points[:, 2:]], axis=1)
        low.append(bounds.min(axis=0))
        high.append(bounds.max(axis=0))
    chain = [(k, k + 1) for k in range(patches - 1)]
    others = list(itertools.combinations(range(patches), 2))
    chosen = {others[k] for k in rng.choice(len(others), pairs, replace=False)} | set(chain)
    pairs = np.array(sorted(chosen))
    cues = np.zeros((len(pairs), len(CUES)))
    cues[:, CUES.index("contact")] = rng.integers(1, 9, len(pairs))
    return SurfaceGraph(*map(np.array, (sums, low, high)), pairs, cues, 1.0, 0.004)


def nothing(features):
    return np.zeros(len(features))


def by_search(count, pairs, log_odds, weight):
    """Sets of patches in the order of their merges: the pair with the best mean first."""
    clusters, merges = [frozenset([k]) for k in range(count)], []
    while True:
        best = None
        for one, other in itertools.combinations(clusters, 2):
            between = [(a in one and b in other) or (a in other and b in one) for a, b in pairs]
            if any(between):
                mean = np.average(log_odds[between], weights=weight[between])
                if best is None or mean > best[0]:
                    best = mean, one, other
        if best is None:
            return merges
        clusters = [c for c in clusters if c not in best[1:]] + [best[1] | best[2]]
        merges.append(best[1] | best[2])


def members(tree):
    """The patches of every node."""
    held = [frozenset([k]) for k in range(tree.patches)]
    for one, other in tree.children.tolist():
        held.append(held[one] | held[other])
    return held


@pytest.mark.parametrize("seed", range(12))
def test_merge_patches_against_search(seed):
    """Average linkage of the evidence, whatever the order that rounds of merges have."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    log_odds, weight = rng.normal(size=len(graph.pairs)), rng.uniform(0.5, 2.0, len(graph.pairs))
    evident = graph.with_evidence([PairEvidence(graph.pairs, log_odds, weight)])
    tree = merge_patches(evident, nothing)
    expected = by_search(len(graph), graph.pairs.tolist(), log_odds, weight)
    assert set(members(tree)[len(graph) :]) == set(expected)


@pytest.mark.parametrize("seed", range(6))
def test_merge_patches_shapes_are_those_of_all_voxels(seed):
    """Also where a large cluster takes in many small ones in one round."""
    rng = np.random.default_rng(seed)
    size = rng.integers(2, 6, 30)
    size[:3] = 900
    graph = random_graph(rng, 30, 90, size)
    tree = merge_patches(
        graph, lambda features: features[:, 0] * 0 + rng.normal(size=len(features))
    )
    contact = graph.cues[:, CUES.index("contact")]
    assert sorted(members(tree)[-1]) == list(range(30))
    assert len(tree) == 59
    for node, held in enumerate(members(tree)):
        index = sorted(held)
        inner = np.isin(graph.pairs, index)
        leaving = contact[inner[:, 0] != inner[:, 1]].sum()
        expected = ClusterShapes.of_sums(
            graph.sums[index].sum(axis=0)[None],
            np.array([leaving]),
            graph.low[index].min(axis=0)[None],
            graph.high[index].max(axis=0)[None],
        )
        assert tree.shapes.voxels[node] == graph.sums[index, 0].sum()
        np.testing.assert_allclose(tree.shapes.extents[node], expected.extents[0], atol=1e-9)
        np.testing.assert_allclose(tree.shapes.low[node], expected.low[0])
    top = tree.shapes.contact[tree.parent < 0]
    np.testing.assert_allclose(top, 0.0, atol=1e-9)


def test_evidence_joins_what_does_not_touch_and_parts_what_does():
    rng = np.random.default_rng(1)
    graph = random_graph(rng, 4, 0)
    against = np.array([[0, 1], [1, 2], [2, 3]])
    across = np.array([[0, 3]])
    sources = [
        PairEvidence(against, np.full(3, -3.0), np.ones(3)),
        PairEvidence(across, np.full(1, 4.0), np.ones(1)),
    ]
    tree = merge_patches(graph.with_evidence(sources), nothing)
    assert members(tree)[4] == {0, 3}
    assert tree.log_odds[4] == 4.0
    assert (tree.log_odds[5:] < 0).all()


def antichains(tree, node):
    """All sets of disjoint nodes that together hold what a node holds."""
    yield (node,)
    if node >= tree.patches:
        one, other = tree.children[node - tree.patches].tolist()
        for a in antichains(tree, one):
            for b in antichains(tree, other):
                yield (*a, *b)


@pytest.mark.parametrize("seed", range(10))
def test_select_nodes_against_all_sets(seed):
    rng = np.random.default_rng(seed)
    tree = merge_patches(random_graph(rng, 7, 9), lambda f: rng.normal(size=len(f)))
    value = rng.uniform(0.0, 1.0, len(tree)) * tree.shapes.voxels
    nodes = select_nodes(tree, value)
    best = max((value[list(some)].sum(), sorted(some)) for some in antichains(tree, len(tree) - 1))
    assert best[1] == nodes.tolist()
    of_patch = node_of_patch(tree, nodes)
    assert all(patch in members(tree)[node] for patch, node in enumerate(of_patch))
    assert sum(len(members(tree)[node]) for node in nodes) == 7


def test_features_have_their_names():
    rng = np.random.default_rng(0)
    graph = random_graph(rng)
    tree = merge_patches(graph, nothing)
    a, b = graph.pairs.T
    pairs = pair_features(tree.shapes.take(a), tree.shapes.take(b), graph.cues, 1.0, 0.004)
    assert pairs.shape == (len(graph.pairs), len(PAIR_FEATURES))
    nodes = node_features(tree, 1.0, 0.004)
    assert nodes.shape == (len(tree), len(NODE_FEATURES))
    assert np.isfinite(pairs).all()
    assert np.isfinite(nodes).all()


def test_score_model_is_kept_and_refuses_other_features(tmp_path, monkeypatch):
    model, path = default_model(False), str(tmp_path / "scores.npz")
    model.save(path)
    features = np.random.default_rng(0).normal(size=(5, len(PAIR_FEATURES))).astype(np.float32)
    np.testing.assert_array_equal(ScoreModel.load(path).merge(features), model.merge(features))
    monkeypatch.setattr("wildseg3d_ros.masks.surface.model.PAIR_FEATURES", ("another",))
    with pytest.raises(FileError, match="other features"):
        ScoreModel.load(path)
