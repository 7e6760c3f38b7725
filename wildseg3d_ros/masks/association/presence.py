"""Whether a view shows an object: by a mask, without one, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import draw_samples, shown_in_views, sureness

VISIBLE = 0.1
"""Share of an object's mask in one view that another one must see before its mask is missed there.
"""
SAMPLES = 64
"""Points of an object in a view that are looked for in the others."""


class Presence(IntEnum):
    """Whether a view shows an object."""

    HIDDEN = 0
    """Out of the image, occluded, or nothing is known: not visible in this view."""
    MISSED = 1
    """Visible there by its 3D points or tracks, but no mask of the view is it."""
    MASKED = 2
    """A mask of the view is this object."""


def presence_of_groups(
    nodes: MaskNodes,
    group: NDArray[np.int64],
    shown: NDArray[np.float32] | None,
    tracked: NDArray[np.bool_] | None,
) -> NDArray[np.int8]:
    """(G, N) :class:`Presence` of groups of masks.

    Args:
        group: (M,) 0, 1, ..., -1 = none.
        shown: (M, N) share of each mask that each view sees; None without pointmaps.
        tracked: (M, N) views into which a mask is tracked; what counts where ``shown`` is None.
    """
    # The last row takes what is of no group.
    presence = np.full((int(group.max(initial=-1)) + 2, nodes.views), Presence.HIDDEN, np.int8)
    there = tracked if shown is None else shown >= VISIBLE
    if there is not None:
        mask, view = np.nonzero(there)
        presence[group[mask], view] = Presence.MISSED
    presence[group, nodes.view] = Presence.MASKED
    return presence[:-1]


def presence_in_maps(
    maps: Sequence[Sequence[NDArray[np.integer]]],
    groups: int,
    world: WorldPointmaps,
    visibility: Visibility,
) -> NDArray[np.int8]:
    """(G, N) :class:`Presence` of objects by their pixels alone.

    So it does not matter of how many masks an object was put together, in which order, nor what
    other masks there were.

    Args:
        maps: by level, by view: (H, W) object of the pixel, 0, 1, ..., -1 = none.
        groups: number G of objects.
        world, visibility: points of all pixels and the depth images drawn from them.
    """
    nodes = MaskNodes.from_labels([np.stack(layers) + 1 for layers in zip(*maps, strict=True)])
    samples = draw_samples(nodes, world, sureness(nodes), visibility, SAMPLES)
    found = presence_of_groups(
        nodes, nodes.label - 1, shown_in_views(nodes, samples, visibility), None
    )
    presence = np.full((groups, nodes.views), Presence.HIDDEN, np.int8)
    presence[: len(found)] = found
    return presence
