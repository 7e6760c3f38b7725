"""Agglomeration of supervoxels into objects."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

# Log-odds, weighed against those of affinities.py.
ENCLOSURE = 1.5
"""A contact as long as the smaller cluster's whole outline: a print on the other or a dent."""
NECK = 1.2
"""A contact of next to no length: two bodies that touch."""


def agglomerate(
    edges: NDArray[np.int32],
    contacts: NDArray[np.float64],
    log_odds: NDArray[np.float64],
    area: NDArray[np.int64],
    group: NDArray[np.int64],
    background: NDArray[np.bool_],
    degree: float,
    marks: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Merges touching clusters, best first, while the evidence for one object is positive.

    The evidence of two clusters is the mean log-odds over their whole contact (average linkage, as
    in GASP: Bailoni et al., CVPR 2022), plus what the length of the contact says.

    Args:
        edges: (E, 2) touching supervoxels.
        contacts: (E,) length of each contact in voxel edges.
        log_odds: (E,) evidence of each contact.
        area: (P,) voxels per supervoxel.
        group: (P,) initial cluster of each supervoxel, named by one of its members.
        background: (P,) supervoxels of supports. That a support surrounds a cluster says nothing:
            it surrounds whatever stands on it.
        degree: mean number of neighbours of a voxel.
        marks: (P,) supervoxels with different marks are never merged, directly or through others;
            0 = may go anywhere.

    Returns:
        (P,) int64 cluster of each supervoxel, named by one of its members.
    """
    count = len(area)
    size = np.bincount(group, area, count).tolist()
    support = (np.bincount(group, background, count) > 0).tolist()
    mark = np.zeros(count, np.int64)
    np.maximum.at(mark, group, marks)
    mark = mark.tolist()
    touching: list[dict[int, list[float]]] = [{} for _ in range(count)]
    rows = np.stack([group[edges[:, 0]], group[edges[:, 1]]], axis=1) if len(edges) else edges
    for (a, b), length, odds in zip(
        rows.tolist(), contacts.tolist(), log_odds.tolist(), strict=True
    ):
        if a == b:
            continue
        contact = touching[a].setdefault(b, [0.0, 0.0])
        touching[b][a] = contact
        contact[0] += length
        contact[1] += length * odds

    # In a thin surface a voxel has 8 neighbours and a straight contact crosses 3 edges per voxel
    # of its length; noise makes the surface several layers thick.
    layers = max(1.0, degree / 8.0)

    def evidence(a: int, b: int) -> float:
        if mark[a] and mark[b] and mark[a] != mark[b]:
            return -np.inf
        length, total = touching[a][b]
        if support[a] or support[b]:
            return total / length
        # A disc of n voxels has an outline of 3.5 sqrt(n). A straight side is 0.28 of a square's
        # outline: no evidence.
        outline = 3.5 * (min(size[a], size[b]) / layers) ** 0.5
        share = min(length / (3.0 * layers**2) / outline, 1.0)
        return (
            total / length
            + ENCLOSURE * max(0.0, share - 0.3) / 0.7
            - NECK * max(0.0, 0.25 - share) / 0.25
        )

    version = [0] * count
    heap = [
        (-evidence(a, b), a, b, 0, 0)
        for a in range(count)
        for b in touching[a]
        if a < b and evidence(a, b) > 0
    ]
    heapq.heapify(heap)
    parent = list(range(count))
    while heap:
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if version[a] != version_a or version[b] != version_b:
            continue
        if len(touching[a]) < len(touching[b]):
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        support[a] = support[a] or support[b]
        mark[a] = mark[a] or mark[b]
        version[a] += 1
        version[b] = -1
        del touching[a][b]
        for c, (length, total) in touching[b].items():
            if c == a:
                continue
            del touching[c][b]
            contact = touching[a].setdefault(c, [0.0, 0.0])
            touching[c][a] = contact
            contact[0] += length
            contact[1] += total
        touching[b] = {}
        for c in touching[a]:
            gain = evidence(a, c)
            if gain > 0:
                heapq.heappush(heap, (-gain, a, c, version[a], version[c]))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    return np.array([root(int(node)) for node in group], dtype=np.int64)
