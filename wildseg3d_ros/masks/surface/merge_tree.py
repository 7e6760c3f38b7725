"""Agglomeration of the surface graph to its roots, best first, with a learned score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.affinities import REACHES
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

SMALL = 0.05
"""Share of a cluster's size below which it can take in several others in a round."""

_CONTACT, _GAP = CUES.index("contact"), CUES.index("gap")
_AFFINITIES = slice(CUES.index("affinity_0"), CUES.index("affinity_0") + 2 * REACHES)
_LINKS = [CUES.index(name) for name in ("contact", "gap", "evidence_weight")]
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
        inside, outside: (T, 2 * REACHES) sums of affinities and pixels of all pairs of patches
            that a node holds both of, or one of.
        shapes: of the nodes.
    """

    children: NDArray[np.int64]
    parent: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    best_neighbour: NDArray[np.float64]
    mean_neighbour: NDArray[np.float64]
    inside: NDArray[np.float64]
    outside: NDArray[np.float64]
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
        pairs = merging.best_pairs()
        if not pairs:
            raise ValueError("log-odds of pairs must be finite: no pair is the best one")
        merging.join(pairs)
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
        self._log_odds = np.full(len(graph.pairs), -NOTHING)
        self._stale = self._may_merge()
        self._size_at_score = np.zeros(len(graph.pairs))
        self._best_neighbour, self._mean_neighbour = np.full((2, most), -NOTHING)
        # Of pairs inside a node, and of all pairs of its patches: those inside count twice.
        self._inside, self._incident = np.zeros((2, most, 2 * REACHES))
        for side in graph.pairs.T:
            for k, column in enumerate(graph.cues[:, _AFFINITIES].T):
                self._incident[:patches, k] += np.bincount(side, column, patches)
        self._met = np.zeros(most, np.bool_)
        self._parent = np.full(most, -1)
        self._merges: list[tuple[int, int]] = []
        self._merge_log_odds: list[float] = [NOTHING] * patches

    @property
    def linked(self) -> bool:
        return bool(self._may_merge().any())

    def _may_merge(self) -> NDArray[np.bool_]:
        """Pairs that more links than the affinities of pixels far apart."""
        return np.asarray(self._cues[:, _LINKS].any(axis=1), np.bool_)

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

    def best_pairs(self) -> list[tuple[int, int, int]]:
        """Links that merge now, each with its two clusters, in the order of their merges."""
        a, b, log_odds = self._a, self._b, self._log_odds
        best = np.full(self._nodes, -np.inf)
        np.maximum.at(best, a, log_odds)
        np.maximum.at(best, b, log_odds)
        good = log_odds >= min(log_odds.max() - ALIKE, CERTAIN)
        of_a, of_b = good & (log_odds >= best[a]), good & (log_odds >= best[b])
        links = np.flatnonzero(of_a & of_b)
        links = links[np.argsort(-log_odds[links], kind="stable")]
        # Of equal ones the first: no two clusters merge twice in a round.
        first = np.full(self._nodes, len(links))
        for side in (a, b):
            np.minimum.at(first, side[links], np.arange(len(links)))
        order = np.arange(len(links))
        links = links[(first[a[links]] == order) & (first[b[links]] == order)]
        used = np.zeros(self._nodes, np.bool_)
        used[a[links]] = used[b[links]] = True
        return [
            *zip(links.tolist(), a[links].tolist(), b[links].tolist(), strict=True),
            *self._absorbed(of_a, of_b, used),
        ]

    def _absorbed(
        self, of_a: NDArray[np.bool_], of_b: NDArray[np.bool_], used: NDArray[np.bool_]
    ) -> list[tuple[int, int, int]]:
        """Links of small clusters with the large one that is best for them, of which that one
        takes in several in a round, as long as it hardly changes.

        Args:
            of_a, of_b: links that are good, and the best of their first or second cluster.
            used: clusters that merge otherwise in this round.
        """
        voxels = self._shapes.voxels
        links = np.concatenate([np.flatnonzero(of_a), np.flatnonzero(of_b)])
        ends = np.stack([self._a[links], self._b[links]], axis=1)
        ends[of_a.sum() :] = ends[of_a.sum() :, ::-1]
        small, large = ends.T
        taken = ~used[small] & (voxels[small] < SMALL * voxels[large])
        links, small, large = links[taken], small[taken], large[taken]
        order = np.lexsort((-self._log_odds[links], large))
        links, small, large = links[order], small[order], large[order]
        total = np.cumsum(voxels[small])
        start = np.searchsorted(large, large)
        within = total - np.concatenate([[0.0], total])[start] < (GROWTH - 1.0) * voxels[large]
        # A cluster with two equally good ones is taken in by the first.
        _, once = np.unique(small, return_index=True)
        first = np.zeros(len(small), np.bool_)
        first[once] = True
        # What is taken in takes nothing in itself.
        first &= within & ~np.isin(large, small)
        return list(
            zip(links[first].tolist(), large[first].tolist(), small[first].tolist(), strict=True)
        )

    def join(self, merges: list[tuple[int, int, int]]) -> None:
        """Makes one cluster of the two of each merge; a cluster may take in several."""
        shapes, start = self._shapes, self._nodes
        contact = np.zeros(len(merges))
        # Of clusters in this round: the one that takes them in, and what that has become.
        taker: dict[int, int] = {}
        now: dict[int, int] = {}
        for k, (link, one, b) in enumerate(merges):
            one = taker.get(one, one)
            new, a = start + k, now.get(one, one)
            self._sums[new] = self._sums[a] + self._sums[b]
            self._incident[new] = self._incident[a] + self._incident[b]
            self._inside[new] = self._inside[a] + self._inside[b] + self._cues[link, _AFFINITIES]
            self._low[new] = np.minimum(self._low[a], self._low[b])
            self._high[new] = np.maximum(self._high[a], self._high[b])
            of_a = contact[a - start] if a >= start else shapes.contact[a]
            contact[k] = of_a + shapes.contact[b] - 2.0 * self._cues[link, _CONTACT]
            if a >= start:  # a step on the way
                self._best_neighbour[a] = self._log_odds[link]
                self._mean_neighbour[a] = self._mean_neighbour[one]
            self._parent[a] = self._parent[b] = new
            self._merges.append((a, b))
            self._merge_log_odds.append(float(self._log_odds[link]))
            taker[b], now[one] = one, new
        name = np.arange(self._nodes)
        for one, new in now.items():
            name[one] = new
        for b, one in taker.items():
            name[b] = now[one]
        new = np.arange(start, start + len(merges))
        shapes.put(
            start, ClusterShapes.of_sums(self._sums[new], contact, self._low[new], self._high[new])
        )
        self._nodes += len(merges)
        self._rename(name, [link for link, _, _ in merges])

    def _rename(self, name: NDArray[np.int64], merged: list[int]) -> None:
        """Gives links the names of the new clusters and sums those of the same two.

        Args:
            name: (n,) new name of each cluster.
            merged: links that were merged.
        """
        a, b = name[self._a], name[self._b]
        inside = a == b
        inside[merged] = False  # these are counted
        np.subtract.at(self._shapes.contact, a[inside], 2.0 * self._cues[inside, _CONTACT])
        np.add.at(self._inside, a[inside], self._cues[inside, _AFFINITIES])
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
        self._log_odds = np.concatenate([log_odds[alone], unknown - NOTHING])
        self._size_at_score = np.concatenate([size[alone], unknown])
        self._stale = np.concatenate([(changed & grown)[alone], unknown == 0])
        self._stale &= self._may_merge()

    def tree(self) -> MergeTree:
        """What was merged."""
        used = np.arange(self._nodes)
        return MergeTree(
            children=np.array(self._merges, np.int64).reshape(-1, 2),
            parent=self._parent[used],
            log_odds=np.array(self._merge_log_odds),
            best_neighbour=self._best_neighbour[used],
            mean_neighbour=self._mean_neighbour[used],
            inside=self._inside[used],
            outside=self._incident[used] - 2.0 * self._inside[used],
            shapes=self._shapes.take(used),
        )
