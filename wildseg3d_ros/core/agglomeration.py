"""Agglomerative clustering of a graph whose edges carry evidence."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components

Score = Callable[[Sequence[int], Sequence[int], Sequence[float], Sequence[float]], Sequence[float]]
"""Scores of pairs of clusters (a[k], b[k]), a < b, given the evidence and the weight of each pair,
summed over all edges between the two."""


def agglomerate(
    count: int,
    edges: NDArray[np.integer],
    sums: NDArray[np.floating],
    score: Score,
    join: Callable[[int, int], object],
) -> NDArray[np.int64]:
    """Merges linked clusters, best score first, while there is one above 0.

    Average linkage, as in GASP (Bailoni et al., CVPR 2022), where the score is the quotient of the
    sums: the size of a cluster then has no weight against a clear pair.

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
    # Of each pair: evidence, weight and last score, in one list that both clusters hold.
    links: list[dict[int, list[float]]] = [{} for _ in range(count)]
    for (a, b), (evidence, weight) in zip(edges.tolist(), sums.tolist(), strict=True):
        if a != b:
            link = links[a].setdefault(b, [0.0, 0.0, 0.0])
            links[b][a] = link
            link[0] += evidence
            link[1] += weight
    merges: list[tuple[int, int]] = []
    heap: list[tuple[float, int, int]] = []

    def queue(a: list[int], b: list[int], pairs: list[list[float]]) -> None:
        scores = score(a, b, [link[0] for link in pairs], [link[1] for link in pairs])
        for one, other, link, value in zip(a, b, pairs, scores, strict=True):
            if value == link[2]:
                continue
            link[2] = value
            if value > 0:
                heapq.heappush(heap, (-value, one, other))
            elif value == -math.inf:
                del links[one][other], links[other][one]

    first = [(a, b, link) for a, others in enumerate(links) for b, link in others.items() if a < b]
    queue([a for a, _, _ in first], [b for _, b, _ in first], [link for _, _, link in first])
    while heap:
        negative, a, b = heapq.heappop(heap)
        link = links[a].get(b)
        if link is None or link[2] != -negative:
            continue  # a merge has changed it since
        merges.append((a, b))
        join(a, b)
        mine, theirs = links[a], links[b]
        links[b] = {}
        del mine[b], theirs[a]
        for other, link in theirs.items():
            del links[other][b]
            if other in mine:
                mine[other][0] += link[0]
                mine[other][1] += link[1]
            else:
                link[2] = 0.0  # what is queued has the name b
                mine[other] = links[other][a] = link
        low = [other if other < a else a for other in mine]
        high = [a if other < a else other for other in mine]
        queue(low, high, list(mine.values()))
    return components(count, merges)
