"""Second moments of the observations: all that a Gauss-Newton pass knows of the points.

With ``x~ = [x; 1]``, robust weights w and ``wbar`` the total weight of a pixel over its pairs, the
cost of all pairs' 3x4 transforms T_e, world points eliminated, is the quadratic form of

    own_o = sum_i w x~ x~^T        shared_v = sum_i (w_e w_f / wbar) x~_e x~_f^T

summed over the pixels of a view. Work goes view by view: it stays in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.similarities import lengths


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the pixels of each view, in the frames of the pairs.

    Attributes:
        own: (O, 4, 4) sum of ``w x~ x~^T`` of each observation.
        shared: (N, 4d, 4d) sums of ``(w_e w_f / wbar) x~_e x~_f^T`` of all observations of a view,
            d being the most that a view has; zero beyond a view's own.
        towards_world: (O, 4, 4) sum of ``w x~ chi~^T``, chi the world points.
        world: (N, 4, 4) sum of ``wbar chi~ chi~^T``.
    """

    own: Tensor
    shared: Tensor
    towards_world: Tensor
    world: Tensor


class Observations:
    """The points of a graph, laid out for passes over them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        device = graph.x.device
        self.lifted = torch.cat([graph.x, torch.ones_like(graph.x[:, :1])], 1)
        self.edge = torch.as_tensor(graph.edge, device=device)
        self.view = torch.as_tensor(graph.view, device=device)
        self.sides = torch.as_tensor(graph.observation, device=device)
        sizes = np.array([part.stop - part.start for part in graph.of_view])
        self.most = max(1, int(sizes.max(initial=1)))
        rank = np.arange(len(graph.view)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.slot = torch.as_tensor(graph.view * self.most + rank, device=device)

    def world_points(self, transform: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """World points as weighted means of the observations.

        Args:
            transform: (E, 3, 4) from each pair's frame to the world; weight: (O, n).

        Returns:
            world (N, 3, n), its total weight (N, n), residuals (O, n) of the observations.
        """
        x = self.lifted
        world = x.new_zeros((self.graph.view_count, 3, x.shape[2]))
        total = x.new_zeros((self.graph.view_count, x.shape[2]))
        residual = torch.empty_like(weight)
        moves = transform[self.edge]
        for v, part in enumerate(self.graph.of_view):
            if part.stop == part.start:
                continue
            y = torch.bmm(moves[part], x[part])
            torch.sum(weight[part], 0, out=total[v])
            share = weight[part] / total[v].clamp_min(1e-300)
            torch.sum(y * share[:, None], 0, out=world[v])
            # In place: at these sizes the traffic to memory is the cost.
            torch.sum(y.sub_(world[v]).square_(), 1, out=residual[part])
        return world, total, residual.sqrt_()

    def moved(self, transform: Tensor) -> Tensor:
        """(O, 3, n) observations in the world, at (E, 3, 4)."""
        return torch.bmm(transform[self.edge], self.lifted)

    def distance(self, transform: Tensor, world: Tensor) -> Tensor:
        """(O, n) distances of observations, at (E, 3, 4), to world points (N, 3, n)."""
        return lengths(self.moved(transform) - world[self.view])

    def by_pair(self, values: Tensor) -> Tensor:
        """Values (O, ...) of both sides of each pair, summed: (E, ...)."""
        return values[self.sides[:, 0]] + values[self.sides[:, 1]]

    def by_view(self, values: Tensor) -> Tensor:
        """Values (O, ...) summed by view (N, ...)."""
        out = values.new_zeros((self.graph.view_count, *values.shape[1:]))
        return out.index_add_(0, self.view, values)

    def seen_by_others(self, voting: Tensor) -> Tensor:
        """(O, n) how many other observations of the view vote (O, n) for a pixel."""
        votes = voting.to(torch.int32)
        return self.by_view(votes)[self.view] - votes

    def observed_twice(self) -> Tensor:
        """(O, n) bool: points with weight whose pixel has weight in another pair too."""
        seen = self.graph.weight > 0
        return seen & (self.seen_by_others(seen) > 0)

    def moments(self, weight: Tensor, world: Tensor) -> Moments:
        """The moments for robust weights (O, n) about world points (N, 3, n)."""
        x, count, most = self.lifted, self.graph.view_count, self.most
        own = x.new_empty((len(x), 4, 4))
        towards = x.new_empty((len(x), 4, 4))
        shared = x.new_zeros((count, 4 * most, 4 * most))
        spread = x.new_zeros((count, 4, 4))
        for v, part in enumerate(self.graph.of_view):
            d = part.stop - part.start
            if d == 0:
                continue
            w, total = weight[part], weight[part].sum(0)
            basis = torch.cat([world[v], torch.ones_like(world[v, :1])])
            weighted = x[part] * w[:, None]
            torch.bmm(weighted, x[part].mT, out=own[part])
            towards[part] = (weighted.view(4 * d, -1) @ basis.T).view(d, 4, 4)
            spread[v] = (basis * total) @ basis.T
            z = weighted.mul_(total.clamp_min(1e-300).rsqrt()).view(4 * d, -1)
            shared[v, : 4 * d, : 4 * d] = z @ z.T
        return Moments(own, shared, towards, spread)
