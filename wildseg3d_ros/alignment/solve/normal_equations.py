"""The linear system of a Gauss-Newton pass, solved without ever being formed.

A step of pair e moves its points by ``sum_k xi_k A_k y~`` about the pair's pivot, with k = 3
rotations, 3 translations, 1 scale. Gradient g and Gauss-Newton matrix H act on all pairs by the
moments alone (see the module ``moments``), at a cost that grows with the pairs and not with their
square. Conjugate gradients solve ``H xi = -g``.

The preconditioner is the same problem with world points that may only move affinely, view by view:
12 unknowns per view couple the pairs instead of hundreds of points. It is an upper bound of H, has
the same free motions, and is inverted exactly (Woodbury): a few iterations (two for complete
graphs) solve the system to three digits, however long the chain of views is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.graph.similarities import skew
from wildseg3d_ros.alignment.priors.factors import Linearised
from wildseg3d_ros.alignment.solve.moments import Moments, Observations

_DAMPING = 1e-7
"""Share of the mean curvature that is added: points on a line fix no rotation about it."""

_TOLERANCE = 1e-3
"""Share of the first residual at which iterations stop: reweighting converges no faster."""

_MAX_ITERATIONS = 200
"""Of conjugate gradients; ordinary systems take fewer than 12."""


def generators() -> NDArray[np.float64]:
    """(7, 3, 4) A_k of a step about the pivot."""
    a = np.zeros((7, 3, 4))
    a[:3, :, :3], a[3:6, :, 3], a[6, :, :3] = skew(np.eye(3)), np.eye(3), np.eye(3)
    return a


def pivots(
    observations: Observations, moments: Moments, transform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(E, 3) weighted centroids of the pairs' points in the world, at transforms (E, 3, 4)."""
    mass = observations.by_pair(moments.own[:, :, 3])
    return (transform @ mass[..., None])[..., 0] / np.maximum(mass[:, 3:], 1e-300)


class System:
    """Gradient and Gauss-Newton matrix of the pairs' steps (E, 7) at given poses.

    Attributes:
        pivot: (E, 3) weighted centroids that the steps rotate about.
        gradient: (E, 7).
    """

    def __init__(
        self,
        observations: Observations,
        moments: Moments,
        poses: Poses,
        known: Linearised | None = None,
        factor: float = 0.0,
        fixed_pairs: NDArray[np.bool_] | None = None,
    ) -> None:
        """
        Args:
            fixed_pairs: (E,) bool, pairs that take no step; with them, no motion of the whole is
                free.
            known: terms of what is known beforehand, at these poses; factor: their weight.
        """
        self._of, self._moments = observations, moments
        self._known, self._factor = known, factor
        fixed_scale = observations.graph.fixed
        transform = poses.matrices()
        pairs = len(transform)
        self.pivot = pivots(observations, moments, transform)
        centred = np.zeros((pairs, 4, 4))
        centred[:, :3] = transform
        centred[:, :3, 3] -= self.pivot
        centred[:, 3, 3] = 1.0
        # (E, 7, 12): what a step does to the pair's transform (3, 4), row by row.
        self._slope = (generators().reshape(21, 4) @ centred).reshape(pairs, 7, 12)
        self._slope[fixed_scale, 6] = 0.0
        is_fixed = np.zeros(pairs, dtype=bool) if fixed_pairs is None else fixed_pairs
        self._slope[is_fixed] = 0.0
        self.gradient = self._contract(self._pull(transform))[..., 0]
        own = observations.by_pair(moments.own)
        moved = (self._slope.reshape(-1, 21, 4) @ own).reshape(-1, 7, 12)
        self._diagonal = moved @ self._slope.swapaxes(1, 2)
        if known is not None:
            self.gradient += factor * known.gradient
            self._diagonal += factor * known.own
        on_diagonal = np.einsum("ekk->ek", self._diagonal)
        self._size = max(float(on_diagonal.mean()), 1e-300)
        self._damping = _DAMPING * self._size
        on_diagonal += self._damping
        self._diagonal[fixed_scale, 6, 6] = self._size
        self._basis = self._free_motions(constrained=not fixed_scale.any())
        if is_fixed.any():
            self._diagonal[is_fixed] = self._size * np.eye(7)
            self._basis = self._basis[:, :0]
        self._precondition = self._factor_preconditioner()

    def apply(self, xi: NDArray[np.float64]) -> NDArray[np.float64]:
        """(E, 7, k) H xi of k steps at once, undamped."""
        moves = (xi.swapaxes(1, 2) @ self._slope).reshape(len(xi), -1, 4)
        out = self._contract(self._pull(moves))
        if self._known is not None:
            out += self._factor * self._known.apply(xi)
        return out

    def solve(self) -> tuple[NDArray[np.float64], int]:
        """The step (E, 7) and the iterations it took.

        Steps have no part in the six global motions, and where no scale is known the log scales'
        steps sum to 0.
        """
        residual = self._project(-self.gradient[..., None])
        xi = np.zeros_like(residual)
        z = self._project(self._precondition(residual))
        direction, agreement = z, float(np.vdot(residual, z))
        target = _TOLERANCE**2 * agreement
        iteration = 0
        while agreement > max(target, 1e-300) and iteration < _MAX_ITERATIONS:
            iteration += 1
            image = self._project(self.apply(direction) + self._damping * direction)
            curvature = float(np.vdot(direction, image))
            if curvature <= 0:
                break
            length = agreement / curvature
            xi += length * direction
            residual -= length * image
            z = self._project(self._precondition(residual))
            before, agreement = agreement, float(np.vdot(residual, z))
            direction = z + (agreement / before) * direction
        return xi[..., 0], iteration

    def condition(self, rounds: int = 5) -> float:
        """Largest over smallest eigenvalue of H beside the free motions, by a few vectors.

        The stiffest direction by powers of H, the softest by powers of the preconditioner, whose
        energies H then tells: right within a small factor, at the cost of a few iterations.
        """
        pairs = len(self.pivot)
        start = np.random.default_rng(0).standard_normal((pairs, 7, 4))
        # Unknowns that take no step have no energy in H, and would pass for soft directions.
        start *= self._slope.any(2, keepdims=True)

        def orthonormal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
            flat = self._project(vectors).reshape(7 * pairs, -1)
            return np.linalg.qr(flat)[0].reshape(pairs, 7, -1)

        def energies(vectors: NDArray[np.float64]) -> NDArray[np.floating]:
            images = self.apply(vectors).reshape(7 * pairs, -1)
            return np.linalg.eigvalsh(vectors.reshape(7 * pairs, -1).T @ images)

        high = low = orthonormal(start)
        for _ in range(rounds):
            high = orthonormal(self.apply(high))
            low = orthonormal(self._precondition(low))
        softest = max(float(energies(low)[0]), 0.0) + self._damping
        return float(energies(high)[-1]) / softest

    def _pull(self, transform: NDArray[np.float64]) -> NDArray[np.float64]:
        """(O, 3k, 4) sum of ``w (T_e x~ - chi) x~^T``, chi the mean that transforms (E, 3k, 4)
        give."""
        of, moments = self._of, self._moments
        mine = transform[of.graph.edge]
        d, count, rows = of.max_per_view, of.graph.view_count, transform.shape[1]
        padded = np.zeros((count * d, rows, 4))
        padded[of.slot] = mine
        by_view = padded.reshape(count, d, rows, 4).swapaxes(1, 2).reshape(count, rows, 4 * d)
        mean = (by_view @ moments.shared).reshape(count, rows, d, 4).swapaxes(1, 2)
        pulled = mine @ moments.own
        pulled -= mean.reshape(-1, rows, 4)[of.slot]
        return pulled

    def _contract(self, pull: NDArray[np.float64]) -> NDArray[np.float64]:
        """(E, 7, k) of (O, 3k, 4): the part of each step's direction."""
        both = self._of.by_pair(pull).reshape(len(self.pivot), -1, 12)
        return self._slope @ both.swapaxes(1, 2)

    def _free_motions(self, constrained: bool) -> NDArray[np.float64]:
        """(7E, 6 or 7) orthonormal steps of the whole world, and of all scales where they are
        free."""
        motions = np.zeros((len(self.pivot), 7, 7))
        motions[:] = np.eye(7)
        motions[:, 3:6, :3] = -skew(self.pivot)
        kept = motions if constrained else motions[..., :6]
        return np.linalg.qr(kept.reshape(7 * len(self.pivot), -1))[0]

    def _project(self, xi: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = xi.reshape(len(self._basis), -1)
        return (flat - self._basis @ (self._basis.T @ flat)).reshape(xi.shape)

    def _factor_preconditioner(self) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """``M^-1`` of ``M = D - C W^-1 C^T + size B B^T``, B the free motions.

        C couples pairs and affine motions of the views' points, whose curvature is W: with D the
        pairs' own curvature, the first two terms are H for world points that move affinely.
        """
        # SciPy's linear algebra takes a tenth of a second to load.
        from scipy.linalg import block_diag, lu_factor, lu_solve

        of, moments = self._of, self._moments
        graph, pairs = of.graph, len(self.pivot)
        size = 12 * graph.view_count
        inverse = np.linalg.inv(self._diagonal)
        slope = self._slope[graph.edge].reshape(-1, 21, 4)
        coupling = (slope @ moments.towards_world).reshape(-1, 7, 12)
        coupling_t = coupling.swapaxes(1, 2)
        outer = [self._basis]
        corners = [np.eye(self._basis.shape[1]) / self._size]
        if self._known is not None:
            outer.append(self._known.cross)
            corners.append(-self._known.core / self._factor)
        dense = np.concatenate(outer, axis=1)
        dense_solved = (inverse @ dense.reshape(pairs, 7, -1)).reshape(7 * pairs, -1)

        def towards_views(xi: NDArray[np.float64]) -> NDArray[np.float64]:
            """(12 N, k) of (E, 7, k)."""
            return of.by_view(coupling_t @ xi[graph.edge]).reshape(size, -1)

        matrix = np.empty((size + dense.shape[1],) * 2)
        matrix[:size, :size] = self._between_views(coupling, inverse)
        matrix[:size, size:] = towards_views(dense_solved.reshape(pairs, 7, -1))
        matrix[size:, :size] = matrix[:size, size:].T
        matrix[size:, size:] = np.asarray(block_diag(*corners)) + dense.T @ dense_solved
        factors = lu_factor(matrix, overwrite_a=True, check_finite=False)

        def precondition(xi: NDArray[np.float64]) -> NDArray[np.float64]:
            """(E, 7, k) of (E, 7, k)."""
            plain = inverse @ xi
            flat = plain.reshape(7 * pairs, -1)
            right = np.concatenate([towards_views(plain), dense.T @ flat])
            inside = lu_solve(factors, right, overwrite_b=True, check_finite=False)
            at_views = inside[:size].reshape(graph.view_count, 12, -1)
            outward = of.by_pair(coupling @ at_views[graph.view])
            outward += (dense @ inside[size:]).reshape(outward.shape)
            return plain - inverse @ outward

        return precondition

    def _between_views(
        self, coupling: NDArray[np.float64], inverse: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """(12 N, 12 N) ``C^T D^-1 C - W``."""
        of, moments = self._of, self._moments
        graph, count = of.graph, of.graph.view_count
        solved = inverse[graph.edge] @ coupling
        out = np.zeros((count, count, 12, 12))
        first, second = graph.observation.T
        for (a, b), block in zip(
            graph.edges, coupling[first].swapaxes(1, 2) @ solved[second], strict=True
        ):
            out[a, b] += block
            out[b, a] += block.T
        affine = np.einsum("cd,npq->ncpdq", np.eye(3), moments.world).reshape(count, 12, 12)
        scale = max(float(np.einsum("nkk->nk", moments.world).max()), 1e-300)
        every = np.arange(count)
        out[every, every] = of.by_view(coupling.swapaxes(1, 2) @ solved)
        out[every, every] -= affine + 1e-9 * scale * np.eye(12)
        return out.swapaxes(1, 2).reshape(12 * count, 12 * count)
