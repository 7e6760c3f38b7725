"""Pairs by what the views see together, spread over their points and over directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pairing.graph import Pair, pairs_from_exhaustive, tree_of
from wildseg3d_ros.pairing.visibility import mutual_mean, visibility


def pairs_from_covisibility(
    views: Sequence[View], config: PairingConfig = PairingConfig()
) -> list[tuple[int, int]]:
    """Pairs of views that see the same points, as far as poses, intrinsics and depth tell.

    A maximum spanning tree of the overlap comes first. Then, greedily, the pair that adds most:
    each point counts with the harmonic series, so that being seen by a second, third, fourth view
    is worth 1, 1/2, 1/3, and with the parallax between the two cameras. This spreads a view's
    pairs over its points and over directions, where taking the largest overlaps would pick its
    closest neighbours.

    Args:
        views: all with ``world_from_cam_prior``.
        config: bound on pairs per view (exceeded only where the tree needs it) and min overlap.
    """
    return spread_pairs(*visibility(views), config)


def spread_pairs(
    similarity: NDArray[np.float32],
    parallax: NDArray[np.float32],
    config: PairingConfig,
    taken: NDArray[np.int64] | None = None,
) -> list[tuple[int, int]]:
    """Greedy choice of :func:`pairs_from_covisibility` on the result of :func:`visibility`.

    Args:
        taken: (N,) pairs that the views have with others already.
    """
    count = len(similarity)
    overlap = mutual_mean(similarity > 0)
    # Two rays to a point that meet at 8 degrees or more tell its depth well.
    worth = similarity * np.clip(parallax / np.deg2rad(8.0), 0.25, 1.0)
    # The tree must hold whatever else fails: parallax, which is good for depth, does not help it.
    chosen = set(tree_of(mutual_mean(similarity), config.max_pairs_per_view))
    degree = np.zeros(count, dtype=np.int64) if taken is None else taken.copy()
    times_seen = np.zeros(worth.shape[::2], dtype=np.int64)

    def take(pair: Pair) -> None:
        chosen.add(pair)
        degree[list(pair)] += 1
        for a, b in (pair, pair[::-1]):
            times_seen[a] += worth[a, b] > 0

    for pair in sorted(chosen):
        take(pair)

    def gain(pair: Pair) -> float:
        directions = (pair, pair[::-1])
        return float(sum((worth[a, b] / (1 + times_seen[a])).sum() for a, b in directions))

    gains = {
        pair: gain(pair)
        for pair in pairs_from_exhaustive(count)
        if pair not in chosen and overlap[pair] >= config.min_overlap
    }
    while gains:
        best = max(gains, key=lambda pair: (gains[pair], -pair[0], -pair[1]))
        del gains[best]
        if (degree[list(best)] >= config.max_pairs_per_view).any():
            continue
        # Gains only fall as pairs are taken, so a stale best one is put back with its true gain.
        fresh = gain(best)
        if gains and fresh < max(gains.values()) - 1e-9:
            gains[best] = fresh
            continue
        take(best)
    return sorted(chosen)
