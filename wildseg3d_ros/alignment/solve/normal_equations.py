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
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.priors.factors import Linearised
from wildseg3d_ros.alignment.solve.moments import Moments, Observations

_DAMPING = 1e-7
"""Share of the mean curvature that is added: points on a line fix no rotation about it."""

_TOLERANCE = 1e-3
"""Share of the first residual at which iterations stop: reweighting converges no faster."""

_MAX_ITERATIONS = 200


def generators(like: Tensor) -> Tensor:
    """(7, 3, 4) A_k of a step about the pivot."""
    a = like.new_zeros((7, 3, 4))
    for k in range(3):
        # Columns e_k x e_j: the matrix that takes a vector to its cross product with e_k.
        a[k, :, :3] = like.new_tensor(np.cross(np.eye(3)[k], np.eye(3)).T)
        a[3 + k, k, 3] = 1.0
    a[6, :, :3] = torch.eye(3, dtype=like.dtype, device=like.device)
    return a


def pivots(observations: Observations, moments: Moments, transform: Tensor) -> Tensor:
    """(E, 3) weighted centroids of the pairs' points in the world, at transforms (E, 3, 4)."""
    mass = observations.by_pair(moments.own[:, :, 3])
    return (transform @ mass[..., None])[..., 0] / mass[:, 3:].clamp_min(1e-300)


class System:
    """Gradient and Gauss-Newton matrix of the pairs' steps (E, 7) at given poses.

    Attributes:
        pivot: (E, 3) weighted centroids that the steps turn about.
        gradient: (E, 7).
    """

    def __init__(
        self,
        observations: Observations,
        moments: Moments,
        poses: Poses,
        known: Linearised | None = None,
        factor: float = 0.0,
        held: NDArray[np.bool_] | None = None,
    ) -> None:
        """
        Args:
            held: (E,) bool, pairs that take no step; with them, no motion of the whole is free.
            known: terms of what is known beforehand, at these poses; factor: their weight.
        """
        self._of, self._moments = observations, moments
        self._known, self._factor = known, factor
        graph = observations.graph
        device = poses.scale.device
        transform = poses.matrices()
        self.pivot = pivots(observations, moments, transform)
        centred = torch.cat([transform, transform.new_zeros((len(transform), 1, 4))], 1)
        centred[:, :3, 3] -= self.pivot
        centred[:, 3, 3] = 1.0
        # (E, 7, 3, 4): what a step does to the pair's transform.
        self._slope = (generators(transform)[None] @ centred[:, None]).contiguous()
        fixed = torch.as_tensor(graph.fixed, device=device)
        self._slope[fixed, 6] = 0.0
        still = torch.as_tensor(np.zeros(len(transform), bool) if held is None else held)
        self._slope[still.to(device)] = 0.0
        self.gradient = self._contract(self._pull(transform))[..., 0]
        own = self._of.by_pair(moments.own)
        flat = self._slope.reshape(-1, 21, 4)
        moved = (flat @ own).view(-1, 7, 12)
        self._diagonal = moved @ self._slope.view(-1, 7, 12).mT
        if known is not None:
            self.gradient += factor * known.gradient
            self._diagonal += factor * known.own
        self._size = self._diagonal.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-300)
        self._damping = _DAMPING * self._size
        self._diagonal.diagonal(dim1=1, dim2=2).add_(self._damping)
        self._diagonal[fixed, 6, 6] = self._size
        self._basis = self._free_motions(constrained=not bool(graph.fixed.any()))
        if bool(still.any()):
            self._diagonal[still.to(device)] = self._size * torch.eye(7).to(self._diagonal)
            self._basis = self._basis[:, :0]
        self._precondition = self._factor_preconditioner()

    def apply(self, xi: Tensor) -> Tensor:
        """(E, 7, k) H xi of k steps at once, undamped."""
        pairs, steps = len(xi), xi.shape[2]
        moves = torch.bmm(xi.mT, self._slope.view(-1, 7, 12)).view(pairs, 3 * steps, 4)
        out = self._contract(self._pull(moves))
        if self._known is not None:
            out = out + self._factor * self._known.apply(xi)
        return out

    def solve(self) -> tuple[Tensor, int]:
        """The step (E, 7) and the iterations it took.

        Steps have no part in the six global motions, and where no scale is known the log scales'
        steps sum to 0.
        """
        residual = self._project(-self.gradient)
        xi = torch.zeros_like(residual)
        z = self._project(self._precondition(residual[..., None])[..., 0])
        direction, agreement = z, float((residual * z).sum())
        target = _TOLERANCE**2 * agreement
        iteration = 0
        while agreement > max(target, 1e-300) and iteration < _MAX_ITERATIONS:
            iteration += 1
            image = self.apply(direction[..., None])[..., 0]
            image = self._project(image + self._damping * direction)
            curvature = float((direction * image).sum())
            if curvature <= 0:
                break
            length = agreement / curvature
            xi = torch.add(xi, direction, alpha=length)
            residual = torch.sub(residual, image, alpha=length)
            z = self._project(self._precondition(residual[..., None])[..., 0])
            before, agreement = agreement, float((residual * z).sum())
            direction = torch.add(z, direction, alpha=agreement / before)
        return xi, iteration

    def condition(self, rounds: int = 5) -> float:
        """Largest over smallest eigenvalue of H beside the free motions, by a few vectors.

        The stiffest direction by powers of H, the softest by powers of the preconditioner, whose
        energies H then tells: right within a small factor, at the cost of a few iterations.
        """
        pairs = len(self.pivot)
        generator = torch.Generator().manual_seed(0)
        start = torch.randn((pairs, 7, 4), generator=generator, dtype=self.pivot.dtype)

        def orthonormal(vectors: Tensor) -> Tensor:
            return torch.linalg.qr(self._project(vectors).view(7 * pairs, -1)).Q.view(pairs, 7, -1)

        def energies(vectors: Tensor) -> Tensor:
            images = self.apply(vectors).view(7 * pairs, -1)
            return torch.linalg.eigvalsh(vectors.view(7 * pairs, -1).T @ images)

        high = low = orthonormal(start.to(self.pivot.device))
        for _ in range(rounds):
            high = orthonormal(self.apply(high))
            low = orthonormal(self._precondition(low))
        least = energies(low)[0].clamp_min(0.0) + self._damping
        return float(energies(high)[-1] / least)

    def _pull(self, transform: Tensor) -> Tensor:
        """(O, 3k, 4) sum of ``w (T_e x~ - chi) x~^T``, chi the mean that transforms (E, 3k, 4)
        give."""
        moments, graph = self._moments, self._of.graph
        mine = transform[self._of.edge]
        most, count, d = self._of.most, graph.view_count, mine.shape[1]
        padded = mine.new_zeros((count * most, d, 4)).index_copy_(0, self._of.slot, mine)
        rows = padded.view(count, most, d, 4).transpose(1, 2).reshape(count, d, 4 * most)
        mean = (rows @ moments.shared).view(count, d, most, 4).transpose(1, 2)
        return torch.bmm(mine, moments.own) - mean.reshape(-1, d, 4)[self._of.slot]

    def _contract(self, pull: Tensor) -> Tensor:
        """(E, 7, k) of (O, 3k, 4): the part of each step's direction."""
        both = self._of.by_pair(pull).view(len(self.pivot), -1, 12)
        return torch.bmm(self._slope.view(-1, 7, 12), both.mT)

    def _free_motions(self, constrained: bool) -> Tensor:
        """(7E, 6 or 7) orthonormal steps of the whole world, and of all scales where they are
        free."""
        pivot = self.pivot
        motions = pivot.new_zeros((len(pivot), 7, 7))
        eye = torch.eye(3, dtype=pivot.dtype, device=pivot.device)
        motions[:, :3, :3] = eye
        motions[:, 3:6, 3:6] = eye
        for k in range(3):
            motions[:, 3:6, k] = torch.linalg.cross(eye[k].expand_as(pivot), pivot)
        motions[:, 6, 6] = 1.0
        kept = motions if constrained else motions[..., :6]
        return torch.linalg.qr(kept.reshape(7 * len(pivot), -1)).Q

    def _project(self, xi: Tensor) -> Tensor:
        flat = xi.reshape(len(self._basis), -1)
        return (flat - self._basis @ (self._basis.T @ flat)).view_as(xi)

    def _factor_preconditioner(self) -> Callable[[Tensor], Tensor]:
        """``M^-1`` of ``M = D - C W^-1 C^T + size B B^T``, B the free motions.

        C couples pairs and affine motions of the views' points, whose curvature is W: with D the
        pairs' own curvature, the first two terms are H for world points that move affinely.
        """
        of, moments = self._of, self._moments
        count, pairs = of.graph.view_count, len(self.pivot)
        inverse = torch.linalg.inv(self._diagonal)
        slope = self._slope[of.edge].reshape(-1, 21, 4)
        coupling = (slope @ moments.towards_world).view(-1, 7, 12)
        at_pair = coupling[of.sides]  # (E, 2, 7, 12)
        solved = inverse[:, None] @ at_pair
        inner = coupling.new_zeros((count, count, 12, 12))
        views = torch.as_tensor(of.graph.edges, device=coupling.device)
        for s in (0, 1):
            for t in (0, 1):
                blocks = at_pair[:, s].mT @ solved[:, t]
                inner.index_put_((views[:, s], views[:, t]), blocks, accumulate=True)
        eye = torch.eye(3, dtype=coupling.dtype, device=coupling.device)
        spread = torch.einsum("cd,npq->ncpdq", eye, moments.world).reshape(count, 12, 12)
        scale = moments.world.diagonal(dim1=1, dim2=2).amax().clamp_min(1e-300)
        diagonal = torch.arange(count, device=coupling.device)
        inner[diagonal, diagonal] -= spread + 1e-9 * scale * torch.eye(12).to(spread)
        outer = [self._basis]
        corners = [torch.eye(self._basis.shape[1]).to(coupling) / self._size]
        if self._known is not None:
            outer.append(self._known.cross)
            corners.append(-self._known.core / self._factor)
        dense = torch.cat(outer, 1)
        dense_solved = torch.bmm(inverse, dense.view(pairs, 7, -1)).view(7 * pairs, -1)

        def towards_views(xi: Tensor) -> Tensor:
            """(12 N, k) of (7 E, k)."""
            mine = xi.view(pairs, 7, -1)[of.edge]
            pulled = torch.bmm(coupling.mT, mine)
            out = xi.new_zeros((count, 12, xi.shape[1]))
            return out.index_add_(0, of.view, pulled).view(12 * count, -1)

        size = 12 * count
        matrix = coupling.new_zeros((size + dense.shape[1],) * 2)
        matrix[:size, :size] = inner.transpose(1, 2).reshape(size, size)
        matrix[:size, size:] = towards_views(dense_solved)
        matrix[size:, :size] = matrix[:size, size:].T
        matrix[size:, size:] = torch.block_diag(*corners) + dense.T @ dense_solved
        factor, swaps = torch.linalg.lu_factor(matrix)

        def precondition(xi: Tensor) -> Tensor:
            """(E, 7, k) of (E, 7, k)."""
            plain = torch.bmm(inverse, xi).view(7 * pairs, -1)
            right = torch.cat([towards_views(plain), dense.T @ plain])
            inside = torch.linalg.lu_solve(factor, swaps, right)
            at_views = inside[:size].view(count, 12, -1)
            back = torch.bmm(coupling, at_views[of.view])
            outward = self._of.by_pair(back) + (dense @ inside[size:]).view(pairs, 7, -1)
            return plain.view(pairs, 7, -1) - torch.bmm(inverse, outward)

        return precondition
