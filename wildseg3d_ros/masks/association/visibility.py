"""Whether a view shows an object: by a mask, without one, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import draw_samples, mask_confidence, visible_masks


class ObjectVisibility(IntEnum):
    """Whether a view shows an object."""

    HIDDEN = 0
    """Out of the image, occluded, or nothing is known: not visible in this view."""
    MISSED = 1
    """Visible there by its 3D points or tracks, but no mask of the view is it."""
    MASKED = 2
    """A mask of the view is this object."""


def visibility_of_groups(
    nodes: MaskNodes, group: NDArray[np.int64], visible: NDArray[np.bool_] | None
) -> NDArray[np.int8]:
    """(G, N) :class:`ObjectVisibility` of groups of masks.

    Args:
        group: (M,) 0, 1, ..., -1 = none.
        visible: (M, N) views that see a mask or, without pointmaps, into which it is tracked.
    """
    # The last row takes what is of no group.
    shape = (int(group.max(initial=-1)) + 2, nodes.views)
    states = np.full(shape, ObjectVisibility.HIDDEN, np.int8)
    if visible is not None:
        mask, view = np.nonzero(visible)
        states[group[mask], view] = ObjectVisibility.MISSED
    states[group, nodes.view] = ObjectVisibility.MASKED
    return states[:-1]


def visibility_in_maps(
    maps: Sequence[Sequence[NDArray[np.integer]]],
    groups: int,
    world: WorldPointmaps,
    visibility: Visibility,
) -> NDArray[np.int8]:
    """(G, N) :class:`ObjectVisibility` of objects by their pixels alone.

    So it does not matter of how many masks an object was put together, in which order, nor what
    other masks there were.

    Args:
        maps: by level, by view: (H, W) object of the pixel, 0, 1, ..., -1 = none.
        groups: number G of objects.
    """
    nodes = MaskNodes.from_labels([np.stack(layers) + 1 for layers in zip(*maps, strict=True)])
    # As shares are only compared with a tenth, few points do.
    samples = draw_samples(nodes, world, mask_confidence(nodes), visibility, max_points=64)
    found = visibility_of_groups(nodes, nodes.label - 1, visible_masks(nodes, samples))
    states = np.full((groups, nodes.views), ObjectVisibility.HIDDEN, np.int8)
    states[: len(found)] = found
    return states


def unmasked_views(
    maps: Sequence[Sequence[NDArray[np.integer]]], world: WorldPointmaps, visibility: Visibility
) -> dict[int, tuple[int, ...]]:
    """By id, the views that see an object and have no mask of it.

    Args:
        maps: by level, by view: (H, W) id of the object, 0 = none.
    """
    groups = max((int(m.max(initial=0)) for level in maps for m in level), default=0)
    moved = [[m.astype(np.int32) - 1 for m in level] for level in maps]
    states = visibility_in_maps(moved, groups, world, visibility)
    missed = states == ObjectVisibility.MISSED
    return {k + 1: tuple(np.flatnonzero(missed[k]).tolist()) for k in range(groups)}
