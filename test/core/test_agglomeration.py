"""Clusters of a graph against a loop that looks at all pairs after every merge."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from wildseg3d_ros.core.agglomeration import agglomerate


def merge_by_search(count, edges, sums, kind):
    """Sets of nodes: of all pairs the best one merges, until none is above 0."""
    clusters = [{k} for k in range(count)]
    while True:
        best, chosen = 0.0, None
        for one, other in itertools.combinations(clusters, 2):
            if {kind[k] for k in one} & {kind[k] for k in other}:
                continue
            between = [(a in one and b in other) or (a in other and b in one) for a, b in edges]
            evidence, weight = sums[between].sum(axis=0)
            if weight and evidence / weight > best:
                best, chosen = evidence / weight, (one, other)
        if chosen is None:
            return {frozenset(each) for each in clusters}
        clusters = [each for each in clusters if each not in chosen] + [chosen[0] | chosen[1]]


@pytest.mark.parametrize("seed", range(20))
def test_agglomerate_against_search(seed):
    """The best mean evidence first, and no two nodes of one kind together."""
    rng = np.random.default_rng(seed)
    count, kind = 12, rng.integers(0, 6, 12).tolist()
    edges = rng.integers(0, count, (30, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    weight = rng.uniform(0.1, 1.0, len(edges))
    sums = np.stack([weight * rng.uniform(-0.5, 1.0, len(edges)), weight], axis=1)
    kinds = [{k} for k in kind]

    def score(a, b, evidence, weight):
        return [
            -math.inf if kinds[i] & kinds[j] else e / w
            for i, j, e, w in zip(a, b, evidence, weight, strict=True)
        ]

    cluster = agglomerate(count, edges, sums, score, lambda a, b: kinds[a].update(kinds[b]))
    expected = merge_by_search(count, edges, sums, kind)
    assert {frozenset(np.flatnonzero(cluster == name).tolist()) for name in cluster} == expected
    assert all(np.flatnonzero(cluster == name)[0] == name for name in cluster)


def test_agglomerate_without_edges():
    none = np.zeros((0, 2))
    cluster = agglomerate(3, none.astype(int), none, lambda a, b, e, w: [], lambda a, b: None)
    assert cluster.tolist() == [0, 1, 2]
