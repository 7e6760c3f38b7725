"""A first placement of all pairs: a maximum spanning tree whose steps are put to the vote.

Where several pairs place the same view, the placement that most of them support is taken, so that
a wrong pair in the tree does not carry the views behind it away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.similarities import fit_similarities, lengths, transform

_SAMPLES = 128
"""Points per observation that a placement looks at; the solver sees all of them."""

_VOTERS = 12
"""Strongest pairs that vote on a view's place."""

_SWEEPS = 2


@dataclass(eq=False)
class Poses:
    """One similarity per pair, ``world = scale * R x + t``, in the graph's units.

    Attributes:
        scale: (E,); rotation: (E, 3, 3); translation: (E, 3); all float64 on the graph's device.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def matrices(self) -> Tensor:
        """(E, 3, 4) ``[scale R | t]``."""
        turned = self.scale[:, None, None] * self.rotation
        return torch.cat([turned, self.translation[..., None]], 2)

    def to(self, device: torch.device) -> Poses:
        """The same poses on another device."""
        return Poses(*(part.to(device) for part in (self.scale, self.rotation, self.translation)))

    def select(self, keep: NDArray[np.bool_]) -> Poses:
        """The poses of some of the pairs."""
        index = torch.as_tensor(np.flatnonzero(keep), device=self.scale.device)
        return Poses(self.scale[index], self.rotation[index], self.translation[index])


def place(graph: Graph, known: Poses | None = None, is_known: NDArray | None = None) -> Poses:
    """Places all pairs of a connected graph.

    Args:
        graph: on the CPU.
        known: poses of the pairs flagged in ``is_known`` from an earlier solve; only the other
            pairs are placed, onto those.

    Returns:
        poses of all pairs; the mean log scale is 0 where no scale is fixed.
    """
    step = max(1, graph.x.shape[2] // _SAMPLES)
    placing = _Placing(graph, step)
    if known is not None and is_known is not None and is_known.any():
        placing.accept(known, is_known)
    placing.grow()
    if known is None:
        for _ in range(_SWEEPS):
            if not placing.revote():
                break
    poses = placing.fit_all()
    if known is not None and is_known is not None:
        keep = torch.as_tensor(is_known)
        poses.scale = torch.where(keep, known.scale, poses.scale)
        poses.rotation = torch.where(keep[:, None, None], known.rotation, poses.rotation)
        poses.translation = torch.where(keep[:, None], known.translation, poses.translation)
    if not graph.fixed.any():
        shrink = torch.exp(-poses.scale.log().mean())
        poses.scale, poses.translation = poses.scale * shrink, poses.translation * shrink
    return poses


class _Placing:
    """World points of placed views, and how the next view is placed onto them."""

    def __init__(self, graph: Graph, step: int) -> None:
        self.graph = graph
        self.x = graph.x[..., ::step].contiguous()
        self.weight = graph.weight[:, ::step].contiguous()
        self.strength = graph.strength()
        self.fixed = torch.as_tensor(graph.fixed)
        count, samples = graph.view_count, self.x.shape[2]
        self.placed = np.zeros(count, dtype=bool)
        self.world = torch.zeros((count, 3, samples), dtype=self.x.dtype)
        self.sure = torch.zeros((count, samples), dtype=self.x.dtype)

    def accept(self, poses: Poses, is_known: NDArray[np.bool_]) -> None:
        """Takes over the world points that known pairs give: their weighted mean."""
        for v, part in enumerate(self.graph.of_view):
            which = np.arange(part.start, part.stop)[is_known[self.graph.edge[part]]]
            if not len(which):
                continue
            edge = torch.as_tensor(self.graph.edge[which])
            y = transform(
                poses.scale[edge], poses.rotation[edge], poses.translation[edge], self.x[which]
            )
            weight = self.weight[which]
            self.sure[v] = weight.sum(0)
            mean = (weight[:, None] * y).sum(0)
            self.world[v] = mean / self.sure[v].clamp_min(1e-300)
            self.placed[v] = True

    def grow(self) -> None:
        """Adds view after view, over the strongest pair that leads from the placed ones."""
        edges, strength = self.graph.edges, self.strength
        if not self.placed.any():
            # A pair of known scale first, so that the others take their scale from it.
            seed = int(np.lexsort((strength, self.graph.fixed))[-1])
            for side in (0, 1):
                o, v = self.graph.observation[seed, side], edges[seed, side]
                self.world[v], self.sure[v] = self.x[o], self.weight[o]
                self.placed[v] = True
        while True:
            frontier = np.flatnonzero(self.placed[edges].sum(1) == 1)
            if not len(frontier):
                return
            best = frontier[np.argmax(strength[frontier])]
            target = int(edges[best][~self.placed[edges[best]]][0])
            self._settle(target, *self._candidates(target))
            self.placed[target] = True

    def revote(self) -> bool:
        """Moves views that the majority of their pairs place elsewhere; whether any moved."""
        votes = {v: self._candidates(v) for v in range(self.graph.view_count)}
        spread = {v: self._elect(v, *vote) for v, vote in votes.items() if len(vote[0]) >= 3}
        if not spread:
            return False
        typical = float(np.median([agreement for _, agreement, _ in spread.values()]))
        moved = False
        for v, (winner, agreement, away) in spread.items():
            if away > 3.0 * max(agreement, typical, 1e-6):
                y, weight = votes[v]
                self.world[v], self.sure[v] = y[winner], weight[winner]
                moved = True
        return moved

    def fit_all(self) -> Poses:
        """Fits every pair to the world points of both its views."""
        observation, edges = self.graph.observation, self.graph.edges
        x = torch.cat([self.x[observation[:, s]] for s in (0, 1)], 2)
        y = torch.cat([self.world[edges[:, s]] for s in (0, 1)], 2)
        weight = torch.cat(
            [(self.weight[observation[:, s]] * self.sure[edges[:, s]]).sqrt() for s in (0, 1)], 1
        )
        return Poses(*fit_similarities(x, y, weight, self.fixed))

    def _candidates(self, target: int) -> tuple[Tensor, Tensor]:
        """(K, 3, n) places of a view by its strongest pairs with a placed view, and weights."""
        part = self.graph.of_view[target]
        mine = np.arange(part.start, part.stop)
        edge = self.graph.edge[mine]
        other_side = 1 - self.graph.side[mine]
        other_view = self.graph.edges[edge, other_side]
        useful = self.placed[other_view] & (other_view != target)
        mine, edge = mine[useful], edge[useful]
        other_side, other_view = other_side[useful], other_view[useful]
        strongest = np.argsort(-self.strength[edge], kind="stable")[:_VOTERS]
        mine, edge = mine[strongest], edge[strongest]
        support = self.graph.observation[edge, other_side[strongest]]
        onto = other_view[strongest]
        weight = (self.weight[support] * self.sure[onto]).sqrt()
        fit = fit_similarities(self.x[support], self.world[onto], weight, self.fixed[edge])
        return transform(*fit, self.x[mine]), self.weight[mine]

    def _settle(self, target: int, y: Tensor, weight: Tensor) -> None:
        winner = self._elect(target, y, weight)[0] if len(y) >= 3 else 0
        self.world[target], self.sure[target] = y[winner], weight[winner]

    def _elect(self, target: int, y: Tensor, weight: Tensor) -> tuple[int, float, float]:
        """The candidate that half of the others are closest to, its agreement with them, and how
        far the present place is from it."""
        both = weight[:, None] * weight[None]
        apart = lengths(y[:, None] - y[None])
        distance = ((both * apart).sum(-1) / both.sum(-1).clamp_min(1e-300)).numpy()
        # Candidates that share no pixel have nothing to say about each other.
        distance[both.sum(-1).numpy() == 0] = np.inf
        np.fill_diagonal(distance, np.inf)
        others = np.sort(distance, axis=1)[:, : max(1, len(y) - 1)]
        support = others[:, (others.shape[1] - 1) // 2]
        winner = int(np.argmin(support))
        now = self.sure[target] * weight[winner]
        away = (lengths(self.world[target] - y[winner]) * now).sum()
        return winner, float(support[winner]), float(away / now.sum().clamp_min(1e-300))
