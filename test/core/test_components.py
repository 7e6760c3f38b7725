"""Connected components against networks whose groups are known."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from wildseg3d_ros.core.components import component_lists, components


@pytest.mark.parametrize("seed", range(20))
def test_components_are_those_of_networkx(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    edges = rng.integers(0, count, (int(rng.integers(0, count + 1)), 2))
    graph = nx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edges.tolist())
    expected = [sorted(group) for group in nx.connected_components(graph)]
    root = components(count, edges)
    for group in expected:
        assert set(root[group]) == {group[0]}
    lists = component_lists(count, edges)
    assert sorted(lists) == sorted(expected)
    assert [len(group) for group in lists] == sorted(map(len, expected), reverse=True)


def test_components_without_edges():
    assert components(3, []).tolist() == [0, 1, 2]
    assert component_lists(0, []) == []
