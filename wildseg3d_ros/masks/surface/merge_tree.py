"""Agglomeration of the surface graph to its roots, best first, with a learned score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.features import NOTHING, ClusterShapes, pair_features
from wildseg3d_ros.masks.surface.graph import CUES, SurfaceGraph

Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Log-odds (n,) of pairs of clusters being of one object, given their features (n, F)."""
Watch = Callable[
    [NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], list[tuple[int, int]]], object
]
"""Told the clusters a, b and the features of all pairs that are scored, and all merges so far."""
CERTAIN = 2.0
"""Log-odds from which the order of merges does not matter: all such pairs merge at once."""
ALIKE = 0.7
"""Merges whose log-odds differ by less than this are made at once."""
GROWTH = 1.1
"""A pair is scored again when its clusters are this much larger: the pairs of a table, which takes
in thousands of patches one by one, hardly change each time."""

_CONTACT, _GAP = CUES.index("contact"), CUES.index("gap")
_EVIDENCE, _WEIGHT = CUES.index("evidence"), CUES.index("evidence_weight")


@dataclass(frozen=True, eq=False)
class MergeTree:
    """All merges of P patches; nodes 0 .. P-1 are the patches, then come the merges in order.

    Attributes:
        children: (T - P, 2) int64 of each merge.
        parent: (T,) int64, -1 at a root: patches that nothing links have several.
        log_odds: (T,) of each node's own merge; ``NOTHING`` for patches.
        best_neighbour, mean_neighbour: (T,) log-odds of each node with its neighbours when it came
            up, the best one and the mean over its outline.
        shapes: of the nodes.
    """

    children: NDArray[np.int64]
    parent: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    best_neighbour: NDArray[np.float64]
    mean_neighbour: NDArray[np.float64]
    shapes: ClusterShapes

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def patches(self) -> int:
        """Number of patches."""
        return len(self.parent) - len(self.children)


def merge_patches(graph: SurfaceGraph, score: Score, watch: Watch | None = None) -> MergeTree:
    """Merges linked clusters, best first, until nothing is linked.

    As in GALA (Nunez-Iglesias et al., 2013) the score is learned and sees the whole contact of two
    clusters and what they have become; evidence of further sources is added as its mean over the
    contact (average linkage, as in GASP: Bailoni et al., CVPR 2022). Pairs that are each other's
    best, and about as good as the best pair of all, merge in one round.
    """
    merging = _Merging(graph)
    while merging.linked:
        merging.score_pairs(score, watch)
        merging.join(*merging.best_pairs())
    return merging.tree()


class _Merging:
    """The state of an agglomeration; clusters have the names of their nodes in the tree."""

    def __init__(self, graph: SurfaceGraph) -> None:
        patches = len(graph)
        self._graph, self._nodes = graph, patches
        most = 2 * patches
        self._sums, self._low, self._high = (
            np.concatenate([values, np.zeros_like(values)])
            for values in (graph.sums, graph.low, graph.high)
        )
        contact = np.bincount(
            graph.pairs.ravel(), np.repeat(graph.cues[:, _CONTACT], 2), patches
        ).astype(np.float64)
        shapes = ClusterShapes.of_sums(graph.sums, contact, graph.low, graph.high)
        self._shapes = shapes.padded(most)
        self._a, self._b = graph.pairs.T
        self._cues = graph.cues
        self._log_odds = np.zeros(len(graph.pairs))
        self._stale = np.ones(len(graph.pairs), np.bool_)
        self._size_at_score = np.zeros(len(graph.pairs))
        self._best_neighbour, self._mean_neighbour = np.full((2, most), -NOTHING)
        self._met = np.zeros(most, np.bool_)
        self._parent = np.full(most, -1)
        self._merges: list[tuple[int, int]] = []
        self._merge_log_odds: list[float] = [NOTHING] * patches

    @property
    def linked(self) -> bool:
        return len(self._a) > 0

    def score_pairs(self, score: Score, watch: Watch | None) -> None:
        """Scores what has changed."""
        stale = np.flatnonzero(self._stale)
        voxels = self._shapes.voxels
        a, b, cues = self._a[stale], self._b[stale], self._cues[stale]
        swap = voxels[a] > voxels[b]
        smaller, larger = np.where(swap, b, a), np.where(swap, a, b)
        features = pair_features(
            self._shapes.take(smaller),
            self._shapes.take(larger),
            cues,
            self._graph.layers,
            self._graph.voxel_size,
        )
        further = cues[:, _EVIDENCE] / np.maximum(cues[:, _WEIGHT], 1e-9)
        self._log_odds[stale] = score(features) + further
        self._size_at_score[stale] = voxels[a] + voxels[b]
        self._stale[:] = False
        if watch is not None:
            watch(a, b, features, self._merges)
        self._meet_neighbours(np.unique(np.concatenate([a, b])))

    def _meet_neighbours(self, clusters: NDArray[np.int64]) -> None:
        """Keeps what new clusters' neighbours say of them."""
        new = np.zeros(self._nodes, np.bool_)
        new[clusters] = ~self._met[clusters]
        self._met[: self._nodes] |= new
        weight = self._cues[:, _CONTACT] + self._cues[:, _GAP] + 1e-9
        total, against = np.zeros((2, self._nodes))
        for side in (self._a, self._b):
            there = new[side]
            np.maximum.at(self._best_neighbour, side[there], self._log_odds[there])
            total += np.bincount(side[there], weight[there], self._nodes)
            log_odds = weight[there] * self._log_odds[there]
            against += np.bincount(side[there], log_odds, self._nodes)
        index = np.flatnonzero(new)
        self._mean_neighbour[index] = against[index] / np.maximum(total[index], 1e-9)

    def best_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Links that merge now, and the two clusters of each."""
        best = np.full(self._nodes, -np.inf)
        np.maximum.at(best, self._a, self._log_odds)
        np.maximum.at(best, self._b, self._log_odds)
        log_odds = self._log_odds
        good = log_odds >= min(log_odds.max() - ALIKE, CERTAIN)
        links = np.flatnonzero(good & (log_odds >= best[self._a]) & (log_odds >= best[self._b]))
        links = links[np.argsort(-log_odds[links], kind="stable")]
        # Of equal ones the first: no cluster merges twice in a round.
        first = np.full(self._nodes, len(links))
        for side in (self._a, self._b):
            np.minimum.at(first, side[links], np.arange(len(links)))
        order = np.arange(len(links))
        once = (first[self._a[links]] == order) & (first[self._b[links]] == order)
        links = links[once]
        return links, self._a[links], self._b[links]

    def join(
        self, links: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]
    ) -> None:
        """Makes one cluster of each two."""
        new = self._nodes + np.arange(len(links))
        shapes = self._shapes
        self._sums[new] = self._sums[a] + self._sums[b]
        self._low[new] = np.minimum(self._low[a], self._low[b])
        self._high[new] = np.maximum(self._high[a], self._high[b])
        contact = shapes.contact[a] + shapes.contact[b] - 2.0 * self._cues[links, _CONTACT]
        shapes.put(
            self._nodes,
            ClusterShapes.of_sums(self._sums[new], contact, self._low[new], self._high[new]),
        )
        self._parent[a] = self._parent[b] = new
        self._merges += zip(a.tolist(), b.tolist(), strict=True)
        self._merge_log_odds += self._log_odds[links].tolist()
        name = np.arange(self._nodes)
        name[a] = name[b] = new
        self._nodes += len(links)
        self._rename(name)

    def _rename(self, name: NDArray[np.int64]) -> None:
        """Gives links the names of the new clusters and sums those of the same two."""
        a, b = name[self._a], name[self._b]
        changed = ((a != self._a) | (b != self._b))[a != b]
        kept = np.flatnonzero(a != b)
        a, b = np.minimum(a, b)[kept], np.maximum(a, b)[kept]
        cues, log_odds = self._cues[kept], self._log_odds[kept]
        size = self._size_at_score[kept]
        moved = np.flatnonzero(changed)
        key, group = np.unique(a[moved] * len(self._parent) + b[moved], return_inverse=True)
        several = np.zeros(len(a), np.bool_)
        several[moved] = np.bincount(group.reshape(-1), minlength=len(key))[group.reshape(-1)] > 1
        alone, many = np.flatnonzero(~several), np.flatnonzero(several)
        order = many[np.argsort(a[many] * len(self._parent) + b[many], kind="stable")]
        first = np.flatnonzero(
            np.diff(a[order], prepend=-1).astype(bool) | np.diff(b[order], prepend=-1).astype(bool)
        )
        summed = np.add.reduceat(cues[order], first, axis=0) if len(order) else cues[order]
        grown = self._shapes.voxels[a] + self._shapes.voxels[b] > GROWTH * size
        self._a = np.concatenate([a[alone], a[order[first]]])
        self._b = np.concatenate([b[alone], b[order[first]]])
        self._cues = np.concatenate([cues[alone], summed])
        unknown = np.zeros(len(first))
        self._log_odds = np.concatenate([log_odds[alone], unknown])
        self._size_at_score = np.concatenate([size[alone], unknown])
        self._stale = np.concatenate([(changed & grown)[alone], unknown == 0])

    def tree(self) -> MergeTree:
        """What was merged."""
        used = np.arange(self._nodes)
        return MergeTree(
            children=np.array(self._merges, np.int64).reshape(-1, 2),
            parent=self._parent[used],
            log_odds=np.array(self._merge_log_odds),
            best_neighbour=self._best_neighbour[used],
            mean_neighbour=self._mean_neighbour[used],
            shapes=self._shapes.take(used),
        )
