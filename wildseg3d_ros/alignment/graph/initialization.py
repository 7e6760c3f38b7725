"""Where the solve starts: a maximum spanning tree of pairs whose steps are put to the vote.

Where several pairs say where a view is, the pose that most of them support is taken, so that a
wrong pair in the tree does not carry the views behind it away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.similarities import fit_similarities, lengths, transform
from wildseg3d_ros.core.components import component_lists

_SAMPLES = 128
"""Points per observation that the initialization uses; the solver uses all of them."""

_VOTERS = 12
"""Strongest pairs that vote on a view's pose; votes are compared two by two."""

_SWEEPS = 2
"""Rounds in which views may still move to where most of their pairs see them: a view that
moved changes its neighbours' votes once more."""


@dataclass(frozen=True, eq=False)
class Poses:
    """One similarity per pair, ``world = scale * R x + t``, in the graph's units.

    Attributes:
        scale: (E,); rotation: (E, 3, 3); translation: (E, 3); all float64.
    """

    scale: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    @classmethod
    def identities(cls, count: int) -> Poses:
        """Of pairs whose frames are the world's."""
        return cls(np.ones(count), np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)))

    def matrices(self) -> NDArray[np.float64]:
        """(E, 3, 4) ``[scale R | t]``."""
        out = np.empty((len(self.scale), 3, 4))
        np.multiply(self.scale[:, None, None], self.rotation, out=out[:, :, :3])
        out[:, :, 3] = self.translation
        return out

    def select(self, keep: NDArray[np.bool_]) -> Poses:
        """The poses of some of the pairs."""
        return Poses(self.scale[keep], self.rotation[keep], self.translation[keep])

    def updated(self, where: NDArray, new: Poses) -> Poses:
        """With those of some pairs (index or flags) replaced by as many new ones."""
        out = Poses(self.scale.copy(), self.rotation.copy(), self.translation.copy())
        out.scale[where], out.rotation[where] = new.scale, new.rotation
        out.translation[where] = new.translation
        return out


def initialize(
    graph: Graph, known: Poses | None = None, is_known: NDArray[np.bool_] | None = None
) -> Poses:
    """First poses of all pairs of a connected graph.

    Args:
        known: poses of all pairs; those flagged in ``is_known`` (E,) stay, the others are found
            from them.

    Returns:
        poses of all pairs; the mean log scale is 0 where no scale is fixed.
    """
    growing = _Growing(graph, max(1, graph.x.shape[2] // _SAMPLES))
    if known is not None and is_known is not None and is_known.any():
        growing.accept(known, is_known)
    growing.grow()
    if known is None:
        for _ in range(_SWEEPS):
            if not growing.revote():
                break
    poses = growing.fit_all()
    if known is not None and is_known is not None:
        poses = poses.updated(is_known, known.select(is_known))
    if not graph.fixed.any():
        shrink = float(np.exp(-np.log(poses.scale).mean()))
        poses = Poses(poses.scale * shrink, poses.rotation, poses.translation * shrink)
    return poses


def continue_from(
    before: Graph, poses: Poses, kept: NDArray[np.bool_], graph: Graph
) -> tuple[Poses, NDArray[np.bool_]] | None:
    """Where a solve starts whose pairs were solved before with other weights.

    Args:
        before, poses, kept: the pairs of the earlier solve, (E',) of them in use.
        graph: the same pairs or some of them, weighed anew and so in other units.

    Returns:
        poses (E,) and which to use: pairs that were left out start so. None where the pairs in
        use do not connect all views.
    """
    is_known = np.isin(graph.ids, before.ids)
    source = np.searchsorted(before.ids, graph.ids[is_known])
    use = np.zeros(len(graph.ids), dtype=bool)
    use[is_known] = kept[source]
    if len(component_lists(graph.view_count, graph.edges[use])) > 1:
        return None
    fixed = graph.fixed[is_known]
    scale = poses.scale[source] / before.unit[source] * graph.unit[is_known]
    size = float(np.median(scale[fixed]) if fixed.any() else np.exp(np.log(scale).mean()))
    start = Poses(
        np.where(fixed, 1.0, scale / size),
        poses.rotation[source],
        poses.translation[source] / size,
    )
    return Poses.identities(len(use)).updated(is_known, start), use


def fit_pairs(
    graph: Graph,
    which: NDArray[np.int64],
    x: NDArray[np.float64],
    weight: NDArray[np.float64],
    world: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> Poses:
    """Poses of some pairs by the world points of both their views.

    Args:
        which: (P,) pairs.
        x, weight: (O, 3, n) and (O, n) points of the graph's observations, or some of the points.
        world, confidence: (N, 3, n) and (N, n) of the same pixels.
    """
    observation, views = graph.observation[which], graph.edges[which]
    points = np.concatenate([x[observation[:, s]] for s in (0, 1)], axis=2)
    onto = np.concatenate([world[views[:, s]] for s in (0, 1)], axis=2)
    both = np.concatenate(
        [weight[observation[:, s]] * confidence[views[:, s]] for s in (0, 1)], axis=1
    )
    return Poses(*fit_similarities(points, onto, np.sqrt(both, out=both), graph.fixed[which]))


class _Growing:
    """World points of the views that have a pose, and how the next view gets its own."""

    def __init__(self, graph: Graph, step: int) -> None:
        self.graph = graph
        self.x = np.ascontiguousarray(graph.x[..., ::step])
        self.weight = np.ascontiguousarray(graph.weight[:, ::step])
        self.strength = graph.strength()
        count, samples = graph.view_count, self.x.shape[2]
        self.is_posed = np.zeros(count, dtype=bool)
        self.world = np.zeros((count, 3, samples))
        self.confidence = np.zeros((count, samples))

    def accept(self, poses: Poses, is_known: NDArray[np.bool_]) -> None:
        """Takes over the world points that known pairs give: their weighted mean."""
        for v, part in enumerate(self.graph.of_view):
            which = np.arange(part.start, part.stop)[is_known[self.graph.edge[part]]]
            if not len(which):
                continue
            edge, weight = self.graph.edge[which], self.weight[which]
            y = transform(
                poses.scale[edge], poses.rotation[edge], poses.translation[edge], self.x[which]
            )
            total = weight.sum(0)
            self.world[v] = (weight[:, None] * y).sum(0) / np.maximum(total, 1e-300)
            self.confidence[v], self.is_posed[v] = total, True

    def grow(self) -> None:
        """Adds view after view, over the strongest pair that leads from the posed ones."""
        edges, strength = self.graph.edges, self.strength
        if not self.is_posed.any():
            # A pair of known scale first, so that the others take their scale from it.
            seed = int(np.lexsort((strength, self.graph.fixed))[-1])
            for o, v in zip(self.graph.observation[seed], edges[seed], strict=True):
                self._set(v, self.x[o], self.weight[o])
        while True:
            frontier = np.flatnonzero(self.is_posed[edges].sum(1) == 1)
            if not len(frontier):
                return
            best = frontier[np.argmax(strength[frontier])]
            target = int(edges[best][~self.is_posed[edges[best]]][0])
            y, weight = self._candidates(target)
            winner = self._elect(target, y, weight)[0] if len(y) >= 3 else 0
            self._set(target, y[winner], weight[winner])

    def revote(self) -> bool:
        """Moves views that the majority of their pairs see elsewhere; whether any moved."""
        votes = {v: self._candidates(v) for v in range(self.graph.view_count)}
        elected = {v: self._elect(v, *vote) for v, vote in votes.items() if len(vote[0]) >= 3}
        if not elected:
            return False
        typical = float(np.median([agreement for _, agreement, _ in elected.values()]))
        moved = False
        for v, (winner, agreement, error) in elected.items():
            # Clearly elsewhere: three times as far as candidates differ. Two of them are a tie.
            if error > 3.0 * max(agreement, typical, 1e-6):
                y, weight = votes[v]
                self._set(v, y[winner], weight[winner])
                moved = True
        return moved

    def fit_all(self) -> Poses:
        """Fits every pair to the world points of both its views."""
        every = np.arange(len(self.graph.edges))
        return fit_pairs(self.graph, every, self.x, self.weight, self.world, self.confidence)

    def _set(self, view: int, world: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
        self.world[view], self.confidence[view], self.is_posed[view] = world, weight, True

    def _candidates(self, target: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K, 3, n) world points of a view by its strongest pairs with a posed view, and their
        weights (K, n)."""
        graph, part = self.graph, self.graph.of_view[target]
        mine = np.arange(part.start, part.stop)
        edge, other_side = graph.edge[mine], 1 - graph.side[mine]
        useful = self.is_posed[graph.edges[edge, other_side]]
        mine, edge, other_side = mine[useful], edge[useful], other_side[useful]
        strongest = np.argsort(-self.strength[edge], kind="stable")[:_VOTERS]
        mine, edge, other_side = mine[strongest], edge[strongest], other_side[strongest]
        support, onto = graph.observation[edge, other_side], graph.edges[edge, other_side]
        weight = np.sqrt(self.weight[support] * self.confidence[onto])
        fit = fit_similarities(self.x[support], self.world[onto], weight, graph.fixed[edge])
        return transform(*fit, self.x[mine]), self.weight[mine]

    def _elect(
        self, target: int, y: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> tuple[int, float, float]:
        """The candidate that half of the others are closest to, its agreement with them, and how
        far the view's present points are from it."""
        both = weight[:, None] * weight[None]
        total = both.sum(-1)
        apart = lengths(y[:, None] - y[None])
        distance = np.einsum("abn,abn->ab", both, apart) / np.maximum(total, 1e-300)
        # Candidates that share no pixel have nothing to say about each other.
        distance[total == 0] = np.inf
        np.fill_diagonal(distance, np.inf)
        others = np.sort(distance, axis=1)[:, : max(1, len(y) - 1)]
        support = others[:, (others.shape[1] - 1) // 2]
        winner = int(np.argmin(support))
        now = self.confidence[target] * weight[winner]
        error = now @ lengths(self.world[target] - y[winner])
        return winner, float(support[winner]), float(error / max(now.sum(), 1e-300))
