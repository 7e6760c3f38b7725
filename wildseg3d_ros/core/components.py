"""Connected components of graphs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def components(count: int, edges: Sequence[tuple[int, int]] | NDArray) -> NDArray[np.int64]:
    """(count,) for each node the smallest node that it is connected to.

    Args:
        count: number of nodes.
        edges: (E, 2) pairs of nodes.
    """
    # SciPy takes a tenth of a second to load, which a command line without a graph need not pay.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = np.asarray(edges, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    # Labels are numbered in the order of their first node.
    first = np.unique(label, return_index=True)[1]
    return first[label].astype(np.int64)


def component_lists(count: int, edges: Sequence[tuple[int, int]] | NDArray) -> list[list[int]]:
    """The connected groups of nodes, the largest first, each sorted."""
    root = components(count, edges)
    groups = [np.flatnonzero(root == node).tolist() for node in np.unique(root)]
    return sorted(groups, key=lambda group: (-len(group), group))
