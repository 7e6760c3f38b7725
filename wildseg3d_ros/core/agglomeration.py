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
    between = edges[:, 0] != edges[:, 1]
    one, other = np.sort(edges[between], axis=1).T.astype(np.int64)
    pairs, pair = np.unique(one * count + other, return_inverse=True)
    low, high = (pairs // count).tolist(), (pairs % count).tolist()
    # Lists of numbers: the garbage collector would go through an object for each link.
    evidence, weight = (np.bincount(pair, each, len(pairs)).tolist() for each in sums[between].T)
    last = [0.0] * len(pairs)
    links: list[dict[int, int]] = [{} for _ in range(count)]
    for link, (a, b) in enumerate(zip(low, high, strict=True)):
        links[a][b] = links[b][a] = link
    merges: list[tuple[int, int]] = []
    heap: list[tuple[float, int, int]] = []

    def queue(a: list[int], b: list[int], asked: Sequence[int]) -> None:
        scores = score(a, b, [evidence[link] for link in asked], [weight[link] for link in asked])
        for one, other, link, value in zip(a, b, asked, scores, strict=True):
            if value == last[link]:
                continue
            last[link] = value
            if value > 0:
                heapq.heappush(heap, (-value, one, other))
            elif value == -math.inf:
                del links[one][other], links[other][one]

    queue(low, high, range(len(pairs)))
    while heap:
        negative, a, b = heapq.heappop(heap)
        link = links[a].get(b)
        if link is None or last[link] != -negative:
            continue  # a merge has changed it since
        merges.append((a, b))
        join(a, b)
        mine, theirs = links[a], links[b]
        links[b] = {}
        del mine[b], theirs[a]
        for other, link in theirs.items():
            del links[other][b]
            if other in mine:
                evidence[mine[other]] += evidence[link]
                weight[mine[other]] += weight[link]
            else:
                last[link] = 0.0  # what is queued has the name b
                mine[other] = links[other][a] = link
        low = [other if other < a else a for other in mine]
        high = [a if other < a else other for other in mine]
        queue(low, high, list(mine.values()))
    return components(count, merges)
