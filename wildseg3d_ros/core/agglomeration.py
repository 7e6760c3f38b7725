"""Agglomerative clustering of a graph whose edges carry evidence."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components

Sums = tuple[float, float]
"""Evidence and its weight, summed over all edges between two clusters."""
Score = Callable[[Sequence[int], Sequence[int], Sequence[Sums]], Sequence[float]]
"""Scores of pairs of clusters (a[k], b[k]), a < b, by their sums."""


def agglomerate(
    count: int,
    edges: NDArray[np.integer],
    sums: NDArray[np.floating],
    score: Score,
    join: Callable[[int, int], object],
) -> NDArray[np.int64]:
    """Merges linked clusters, best score first, while there is one above 0.

    Average linkage, as in GASP (Bailoni et al., CVPR 2022), where the score is the quotient of the
    sums: a large cluster then cannot outvote a clear pair.

    Args:
        count: number of nodes, each a cluster at first. A cluster has the name of its first node.
        edges: (E, 2) linked nodes; edges between the same two are summed.
        sums: (E, 2) evidence of each edge and its weight.
        score: asked once of all links, and after a merge of those of the merged cluster. Links of
            score -inf are forgotten: these two, and what they grow to, are never merged.
        join: called with clusters a < b when a takes in b, before scores are asked.

    Returns:
        (count,) int64 cluster of each node.
    """
    links: list[dict[int, Sums]] = [{} for _ in range(count)]
    for (a, b), (evidence, weight) in zip(edges.tolist(), sums.tolist(), strict=True):
        if a != b:
            before = links[a].get(b, (0.0, 0.0))
            links[a][b] = links[b][a] = (before[0] + evidence, before[1] + weight)
    merges: list[tuple[int, int]] = []
    changed = [0.0] * count  # merges until the cluster's last one, inf once it is taken in
    heap: list[tuple[float, int, int, int]] = []

    def queue(a: Sequence[int], b: Sequence[int]) -> None:
        scores = score(a, b, [links[one][other] for one, other in zip(a, b, strict=True)])
        for one, other, value in zip(a, b, scores, strict=True):
            if value > 0:
                heapq.heappush(heap, (-value, one, other, len(merges)))
            elif value == -math.inf:
                del links[one][other], links[other][one]

    pairs = [(a, b) for a, others in enumerate(links) for b in others if a < b]
    queue([a for a, _ in pairs], [b for _, b in pairs])
    while heap:
        _, a, b, when = heapq.heappop(heap)
        if max(changed[a], changed[b]) > when:
            continue  # a merge has changed the score since
        merges.append((a, b))
        changed[a], changed[b] = len(merges), math.inf
        join(a, b)
        mine, theirs = links[a], links[b]
        links[b] = {}
        del mine[b], theirs[a]
        for other, (evidence, weight) in theirs.items():
            before = mine.get(other, (0.0, 0.0))
            mine[other] = links[other][a] = (before[0] + evidence, before[1] + weight)
            del links[other][b]
        queue([min(a, other) for other in mine], [max(a, other) for other in mine])
    return components(count, merges)
