"""Pairs for triangulation, by the angle between the cameras at what both see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pairing.graph import fill_up, pairs_from_exhaustive, tree_of
from wildseg3d_ros.pairing.visibility import mutual_mean, visibility


def viewing_angles(views: Sequence[View]) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """(N, N) angles [rad] between two cameras at what both see, NaN on the diagonal and where they
    share nothing, and (N, N) shares of their points that both see.

    Args:
        views: all with ``world_from_cam_prior`` and ``K``.
    """
    similarity, parallax = visibility(views)
    seen = similarity > 0
    angle = np.full(seen.shape[:2], np.nan)
    for a, b in pairs_from_exhaustive(len(views)):
        shared = np.concatenate([parallax[a, b][seen[a, b]], parallax[b, a][seen[b, a]]])
        if len(shared):
            angle[a, b] = angle[b, a] = np.median(shared)
    return angle, mutual_mean(seen)


def pairs_from_angles(
    angle: NDArray[np.float64],
    overlap: NDArray[np.floating],
    limits: tuple[float, float, float],
    config: PairingConfig = PairingConfig(),
) -> list[tuple[int, int]]:
    """Pairs for triangulation: far enough apart to tell depth, near enough to look alike.

    A maximum spanning tree of what suits best, filled up to the bound on pairs per view. Pairs
    beyond the second limit come in only where nothing narrower connects two groups of views. The
    graph may fall apart.

    Args:
        angle, overlap: as :func:`viewing_angles` gives them.
        limits: min and max angle, and max angle of a pair that bridges groups [rad].
    """
    min_angle, max_angle, max_bridge = limits
    known = np.nan_to_num(angle, nan=-1.0)
    shares = overlap >= config.min_overlap
    # Best at the geometric middle of the limits.
    misfit = np.abs(np.log(np.maximum(known, 1e-9) / np.sqrt(min_angle * max_angle)))
    good = shares & (known >= min_angle) & (known <= max_angle)
    score = np.where(good, overlap * np.exp(-misfit), 0.0)
    wide = shares & (known > max_angle) & (known <= max_bridge)
    ranked = np.where(good, 1.0 + score, np.where(wide, 1.0 - known / np.pi, -1.0))
    tree = [pair for pair in tree_of(ranked, config.max_pairs_per_view) if ranked[pair] > 0]
    return fill_up(score, tree, 0.0, config.max_pairs_per_view)
