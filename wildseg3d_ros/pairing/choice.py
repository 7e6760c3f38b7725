"""Which pairs of views are compared, whatever is known of the views."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pairing.covisibility import pairs_from_covisibility, spread_pairs
from wildseg3d_ros.pairing.graph import fill_up, pairs_from_exhaustive, tree_of
from wildseg3d_ros.pairing.similarity import image_similarity, pairs_from_similarity
from wildseg3d_ros.pairing.visibility import mutual_mean, visibility


def choose_pairs(
    views: Sequence[View],
    config: PairingConfig = PairingConfig(),
    similarity: Callable[[Sequence[View]], NDArray[np.float64]] | None = None,
) -> list[tuple[int, int]]:
    """Pairs (a, b), a < b, each once, sorted; the graph of all views is connected.

    All pairs when the bound on pairs per view allows it. Otherwise by covisibility where views
    have poses; views without are attached by their order and by the similarity of the images.

    Args:
        similarity: gives the (N, N) similarity of the views, 0..1, where some have no pose; None
            for :func:`image_similarity`.
    """
    count = len(views)
    if count - 1 <= config.max_pairs_per_view:
        return pairs_from_exhaustive(count)
    posed = [index for index, view in enumerate(views) if view.world_from_cam_prior is not None]
    if len(posed) == count:
        return pairs_from_covisibility(views, config)
    found = (similarity or image_similarity)(views)
    if len(posed) < 2:
        return pairs_from_similarity(found, config)
    return _pairs_from_both(views, posed, found, config)


def _pairs_from_both(
    views: Sequence[View],
    posed: Sequence[int],
    similarity: NDArray[np.float64],
    config: PairingConfig,
) -> list[tuple[int, int]]:
    """Covisibility among the views with poses; the others by similarity to any view.

    Views without poses come first, because some of their pairs will not match. Beside the tree
    they take at most half of what a view with a pose may have.
    """
    bound = config.max_pairs_per_view
    seen, parallax = visibility([views[index] for index in posed])
    unposed = np.ones(len(views), dtype=bool)
    unposed[list(posed)] = False
    score = np.where(unposed[:, None] | unposed[None, :], similarity, -1.0)
    ranked, max_degree = score.copy(), np.full(len(views), bound // 2)
    max_degree[unposed] = bound
    for a, b in tree_of(mutual_mean(seen), bound):
        ranked[posed[a], posed[b]] = ranked[posed[b], posed[a]] = 10.0
        max_degree[[posed[a], posed[b]]] += 1
    attached = [
        pair
        for pair in fill_up(score, tree_of(ranked, bound), -1.0, np.minimum(max_degree, bound))
        if unposed[list(pair)].any()
    ]
    taken = np.bincount(np.array(attached).ravel(), minlength=len(views))[list(posed)]
    known = spread_pairs(seen, parallax, config, taken)
    return sorted(attached + [(posed[a], posed[b]) for a, b in known])
