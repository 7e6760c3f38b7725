"""Second moments of the observations: all that a Gauss-Newton pass knows of the points.

With ``x~ = [x; 1]``, robust weights w and ``wbar`` the total weight of a pixel over its pairs, the
cost of all pairs' 3x4 transforms T_e, world points eliminated, is the quadratic form of

    own_o = sum_i w x~ x~^T        shared_v = sum_i (w_e w_f / wbar) x~_e x~_f^T

summed over the pixels of a view. Work goes view by view: it stays in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.similarities import lengths


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the pixels of each view, in the frames of the pairs.

    Attributes:
        own: (O, 4, 4) sum of ``w x~ x~^T`` of each observation.
        shared: (N, 4d, 4d) sums of ``(w_e w_f / wbar) x~_e x~_f^T`` of all observations of a view,
            d being the largest number that a view has; zero beyond a view's own.
        towards_world: (O, 4, 4) sum of ``w x~ chi~^T``, chi the world points.
        world: (N, 4, 4) sum of ``wbar chi~ chi~^T``.
    """

    own: NDArray[np.float64]
    shared: NDArray[np.float64]
    towards_world: NDArray[np.float64]
    world: NDArray[np.float64]


class Observations:
    """The points of a graph, laid out for passes over them.

    Attributes:
        lifted: (O, 4, n) points with a row of ones.
        max_per_view: d, the largest number of observations of a view.
        slot: (O,) row of an observation among N d.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lifted = np.ones((len(graph.x), 4, graph.x.shape[2]))
        self.lifted[:, :3] = graph.x
        sizes = np.array([part.stop - part.start for part in graph.of_view])
        self.max_per_view = max(1, int(sizes.max(initial=1)))
        rank = np.arange(len(graph.view)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.slot = graph.view * self.max_per_view + rank
        self._seen = [v for v, size in enumerate(sizes) if size]
        self._first = [graph.of_view[v].start for v in self._seen]

    def world_points(
        self, transform: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """World points as weighted means of the observations.

        Args:
            transform: (E, 3, 4) from each pair's frame to the world; weight: (O, n).

        Returns:
            world (N, 3, n), its total weight (N, n), residuals (O, n) of the observations.
        """
        x = self.lifted
        world = np.zeros((self.graph.view_count, 3, x.shape[2]))
        total = np.zeros((self.graph.view_count, x.shape[2]))
        residual = np.empty_like(weight)
        moves = transform[self.graph.edge]
        for v in self._seen:
            part = self.graph.of_view[v]
            y = moves[part] @ x[part]
            np.add.reduce(weight[part], axis=0, out=total[v])
            np.einsum("dn,dkn->kn", weight[part], y, out=world[v])
            world[v] /= np.maximum(total[v], 1e-300)
            # In place: at these sizes the traffic to memory is the cost.
            y -= world[v]
            np.einsum("dkn,dkn->dn", y, y, out=residual[part])
        return world, total, np.sqrt(residual, out=residual)

    def moved(self, transform: NDArray[np.float64]) -> NDArray[np.float64]:
        """(O, 3, n) observations in the world, at (E, 3, 4)."""
        return transform[self.graph.edge] @ self.lifted

    def distance(
        self, transform: NDArray[np.float64], world: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(O, n) distances of observations, at (E, 3, 4), to world points (N, 3, n)."""
        y = self.moved(transform)
        return lengths(np.subtract(y, world[self.graph.view], out=y))

    def by_pair(self, values: NDArray) -> NDArray:
        """Values (O, ...) of both sides of each pair, summed: (E, ...)."""
        sides = self.graph.observation
        return values[sides[:, 0]] + values[sides[:, 1]]

    def by_view(self, values: NDArray) -> NDArray:
        """Values (O, ...) summed by view (N, ...)."""
        out = np.zeros((self.graph.view_count, *values.shape[1:]), dtype=values.dtype)
        if self._seen:
            out[self._seen] = np.add.reduceat(values, self._first, axis=0)
        return out

    def seen_by_others(self, voting: NDArray[np.bool_]) -> NDArray[np.int32]:
        """(O, n) how many other observations of the view vote (O, n) for a pixel."""
        votes = voting.astype(np.int32)
        return self.by_view(votes)[self.graph.view] - votes

    def observed_twice(self) -> NDArray[np.bool_]:
        """(O, n) bool: points with weight whose pixel has weight in another pair too."""
        seen = self.graph.weight > 0
        return seen & (self.seen_by_others(seen) > 0)

    def moments(self, weight: NDArray[np.float64], world: NDArray[np.float64]) -> Moments:
        """The moments for robust weights (O, n) about world points (N, 3, n)."""
        x, count, d_max = self.lifted, self.graph.view_count, self.max_per_view
        own, towards_world = np.empty((2, len(x), 4, 4))
        shared = np.zeros((count, 4 * d_max, 4 * d_max))
        of_world = np.zeros((count, 4, 4))
        basis = np.ones((4, x.shape[2]))
        for v in self._seen:
            part = self.graph.of_view[v]
            d = part.stop - part.start
            total = weight[part].sum(0)
            basis[:3] = world[v]
            weighted = x[part] * weight[part][:, None]
            flat = weighted.reshape(4 * d, -1)
            np.matmul(weighted, x[part].swapaxes(1, 2), out=own[part])
            np.matmul(flat, basis.T, out=towards_world[part].reshape(4 * d, 4))
            np.matmul(basis * total, basis.T, out=of_world[v])
            weighted *= 1.0 / np.sqrt(np.maximum(total, 1e-300))
            shared[v, : 4 * d, : 4 * d] = flat @ flat.T
        return Moments(own, shared, towards_world, of_world)
