"""Slivers that a mask of their own view's occluder left over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import Overlap

LEAST_HITS = 1.5
"""Samples, by sureness, that must lie on the object that takes a mask in."""
SHARE = 0.6
"""Their share among those that do not lie on objects which the view shows elsewhere."""
AGAINST = 0.3
"""Evidence that is outvoted at most."""


def adopt_leftovers(
    nodes: MaskNodes,
    overlap: Overlap,
    weight: NDArray[np.float32],
    group: NDArray[np.int64],
    movable: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(M,) groups after masks that stand alone went to the only object that they can be part of.

    Of an object behind others a view may show a sliver whose outline errors are as wide as itself,
    so many of its points fall on the objects beside it. Those the view shows by masks of their
    own: the sliver is none of them, and what fell on them does not count.
    """
    group = group.copy()
    alone = np.bincount(group, minlength=len(nodes))[group] == 1
    for node in np.flatnonzero(alone & movable & (overlap.hits.sum(axis=1) > 0)):
        groups = int(group.max()) + 1
        on_group = np.bincount(group, overlap.hits[node], groups)
        on_group[group[nodes.of_view(int(nodes.view[node]))]] = 0.0
        best = int(on_group.argmax())
        possible = on_group.sum() + overlap.bare[node].sum()
        if on_group[best] < LEAST_HITS or on_group[best] < SHARE * possible:
            continue
        members = group == best
        if weight[node, members].mean() > -AGAINST:
            group[node] = best
    return np.unique(group, return_inverse=True)[1].reshape(-1).astype(np.int64)
