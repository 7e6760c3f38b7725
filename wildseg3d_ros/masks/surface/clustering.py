"""Agglomeration of supervoxels into objects."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.agglomeration import agglomerate

# Log-odds, weighed against those of affinities.py.
ENCLOSURE = 1.5
"""A contact as long as the smaller cluster's whole outline: a print on the other or a dent."""
NECK = 1.2
"""A contact of next to no length: two bodies that touch."""


def merge_supervoxels(
    edges: NDArray[np.int32],
    contacts: NDArray[np.float64],
    log_odds: NDArray[np.float64],
    area: NDArray[np.int64],
    group: NDArray[np.int64],
    background: NDArray[np.bool_],
    layers: float,
    marks: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Merges touching clusters, best first, while the evidence for one object is positive.

    The evidence of two clusters is the mean log-odds over their whole contact (average linkage, as
    in GASP: Bailoni et al., CVPR 2022), plus what the length of the contact says.

    Args:
        edges, contacts, log_odds: (E, 2) touching supervoxels, (E,) length of each contact in
            voxel edges, and (E,) its evidence.
        area: (P,) voxels per supervoxel.
        group: (P,) initial cluster of each supervoxel, named by one of its members.
        background: (P,) supervoxels of supports. That a support surrounds a cluster says nothing:
            it surrounds whatever stands on it.
        layers: thickness of the surface in voxels.
        marks: (P,) supervoxels with different marks are never merged, directly or through others;
            0 = may go anywhere.

    Returns:
        (P,) int64 cluster of each supervoxel, named by one of its members.
    """
    count = len(area)
    size = np.bincount(group, area, count).tolist()
    support = (np.bincount(group, background, count) > 0).tolist()
    largest = np.zeros(count, np.int64)
    np.maximum.at(largest, group, marks)
    mark = largest.tolist()

    def score(a: int, b: int, total: float, length: float) -> float:
        if mark[a] and mark[b] and mark[a] != mark[b]:
            return -math.inf
        if support[a] or support[b]:
            return total / length
        # In a thin surface a straight contact crosses 3 edges per voxel of its length.
        # A disc of n voxels has an outline of 3.5 sqrt(n). A straight side is 0.28 of a square's
        # outline, between 0.25 and 0.3: no evidence.
        outline = 3.5 * (min(size[a], size[b]) / layers) ** 0.5
        share = min(length / (3.0 * layers**2) / outline, 1.0)
        return (
            total / length
            + ENCLOSURE * max(0.0, share - 0.3) / 0.7
            - NECK * max(0.0, 0.25 - share) / 0.25
        )

    def join(a: int, b: int) -> None:
        size[a] += size[b]
        support[a] = support[a] or support[b]
        mark[a] = mark[a] or mark[b]

    named = agglomerate(
        count,
        group[edges],
        np.stack([contacts * log_odds, contacts], axis=1),
        lambda *pairs: list(map(score, *pairs)),
        join,
    )
    return named[group]
