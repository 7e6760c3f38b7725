"""From the masks of each view to one id per object: the steps on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association.grouping import group_masks
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.opposite import opposite_weights
from wildseg3d_ros.masks.association.overlap import (
    Overlap,
    draw_samples,
    measure_overlap,
    overlap_weights,
    sureness,
)
from wildseg3d_ros.masks.association.repair import (
    absorb_pieces,
    adopt_leftovers,
    split_unions,
)
from wildseg3d_ros.masks.association.tracks import (
    TrackOverlap,
    Tracks,
    cut_tracks,
    measure_tracks,
    track_weights,
    trust_from_groups,
    trust_from_returns,
)
from wildseg3d_ros.types import WorldPointmaps

_Unions = dict[int, tuple[NDArray[np.intp], NDArray[np.int64]]]

VISIBLE = 0.1
"""Share of an object that a view must see before its mask is missed there."""


class Presence(IntEnum):
    """Whether a view shows an object."""

    HIDDEN = 0
    """Out of the image, occluded, or nothing is known: not visible in this view."""
    MISSED = 1
    """Visible there by its 3D points or tracks, but no mask of the view is it."""
    MASKED = 2
    """A mask of the view is this object."""


@dataclass(frozen=True, eq=False)
class Association:
    """One id per object over all views.

    Attributes:
        labels: per view (H, W) int32, id of each pixel's object, 0 = none.
        object_ids: sorted ids.
        id_of_mask: per view, id by the label that the mask had in that view; of a mask that was
            found to cover several objects and divided among them, the largest one's.
        presence: (K, N) int8 of :class:`Presence`, of each object in each view.
        cut: (anchor view, its label there, other view) of the tracks that 3D contradicts.
    """

    labels: tuple[NDArray[np.int32], ...]
    object_ids: tuple[int, ...]
    id_of_mask: tuple[Mapping[int, int], ...]
    presence: NDArray[np.int8]
    cut: tuple[tuple[int, int, int], ...]


def associate(
    labels: Sequence[NDArray[np.integer]],
    world: WorldPointmaps | None = None,
    visibility: Visibility | None = None,
    tracks: Sequence[Tracks] = (),
    known: Sequence[Mapping[int, int]] | None = None,
    first_id: int = 1,
) -> Association:
    """Finds which masks of different views show one object.

    Two sources of evidence, either of which may be absent: the overlap of masks that are lifted
    by the pointmaps into other views, and tracks. A track that 3D contradicts is cut; how far the
    other tracks between two views are to be believed is learned from the tracks themselves and
    from how well they agree with the result.

    Args:
        labels: per view (H, W) labels of its masks, 0 = none; names need not agree over views.
        world, visibility: points of all pixels and the depth images drawn from them
            (``Visibility.create``); None without pointmaps.
        tracks: masks followed from some of the views.
        known: per view, ids that masks keep, by label; masks that are not in it are assigned to
            those objects or become new ones. For a view that was replaced give an empty mapping.
        first_id: least id of a new object.

    Raises:
        ValueError: pointmaps or tracks of other sizes than the masks.
    """
    nodes = MaskNodes.from_labels(labels)
    shape = (len(nodes), len(nodes))
    weight, amount = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    overlap = samples = None
    unions: _Unions = {}
    if world is not None and visibility is not None and len(nodes):
        _check_sizes(labels, world)
        sure = sureness(nodes)
        samples = draw_samples(nodes, world, sure, visibility)
        overlap = measure_overlap(nodes, samples, sure, visibility)
        weight, amount = overlap_weights(nodes, overlap)
        opposite = opposite_weights(nodes, samples, overlap, amount, visibility)
        weight, amount = weight + opposite, amount + np.abs(opposite)
    start, movable = _known_groups(nodes, known)
    if not tracks:
        group = group_masks(weight, amount, nodes.view, start, movable)
        followed, cut = None, np.zeros((len(nodes), nodes.views), np.bool_)
    else:
        followed = measure_tracks(nodes, tracks)
        cut = cut_tracks(nodes, followed, weight)
        trust = trust_from_returns(nodes, followed)
        group = np.zeros(0, np.int64)
        for _ in range(3):
            by_track, looked = track_weights(nodes, followed, cut, trust)
            group = group_masks(weight + by_track, amount + looked, nodes.view, start, movable)
            trust = trust_from_groups(nodes, followed, group)
    if overlap is not None and samples is not None and visibility is not None:
        free = np.ones(len(nodes), np.bool_) if movable is None else movable
        group = adopt_leftovers(nodes, overlap, weight, group, free)
        unions = split_unions(nodes, samples, overlap, visibility, group, free)
        group = absorb_pieces(nodes, overlap, group, free, unions)
        unions = split_unions(nodes, samples, overlap, visibility, group, free)
    return _finish(nodes, group, unions, overlap, followed, cut, known, first_id)


def _check_sizes(labels: Sequence[NDArray], world: WorldPointmaps) -> None:
    masks = [image.shape for image in labels]
    points = [image.shape[:2] for image in world.points]
    if masks != points:
        raise ValueError(f"masks have the sizes {masks}, their pointmaps {points}")


def _known_groups(
    nodes: MaskNodes, known: Sequence[Mapping[int, int]] | None
) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_] | None]:
    if known is None:
        return None, None
    ids = np.array(
        [known[v].get(label, 0) for v, label in zip(nodes.view, nodes.label.tolist(), strict=True)]
    ).astype(np.int64)
    alone = -1 - np.arange(len(nodes))
    return np.where(ids > 0, ids, alone), ids == 0


def _finish(
    nodes: MaskNodes,
    group: NDArray[np.int64],
    unions: _Unions,
    overlap: Overlap | None,
    followed: TrackOverlap | None,
    cut: NDArray[np.bool_],
    known: Sequence[Mapping[int, int]] | None,
    first_id: int,
) -> Association:
    groups = int(group.max(initial=-1)) + 1
    ids = np.zeros(groups, np.int64)
    if known is not None:
        for node in range(len(nodes)):
            name = known[nodes.view[node]].get(int(nodes.label[node]), 0)
            ids[group[node]] = max(ids[group[node]], name)
    # New ids from the largest to the smallest object, as it looks over all views.
    shares = nodes.area / np.array([nodes.maps[v].size for v in nodes.view], np.float64)
    size = np.bincount(group, shares, groups)
    new = np.flatnonzero(ids == 0)
    first = max(first_id, int(ids.max(initial=0)) + 1)
    ids[new[np.argsort(-size[new], kind="stable")]] = first + np.arange(len(new))
    of_node = ids[group] if len(nodes) else np.zeros(0, np.int64)
    order = np.argsort(ids)
    presence = _presence(nodes, group, groups, overlap, followed, cut)[order]
    cuts = [
        (int(nodes.view[node]), int(nodes.label[node]), int(b)) for node, b in np.argwhere(cut)
    ]
    labels = nodes.relabel(of_node)
    for node, (pixel, part) in unions.items():
        view = int(nodes.view[node])
        labels[view].ravel()[pixel] = ids[part]
        for each in np.unique(part):
            presence[np.searchsorted(ids[order], ids[each]), view] = Presence.MASKED
        of_node[node] = ids[np.bincount(part).argmax()]
    return Association(
        labels=labels,
        object_ids=tuple(int(i) for i in ids[order]),
        id_of_mask=tuple(
            dict(
                zip(
                    nodes.label[nodes.of_view(v)].tolist(),
                    of_node[nodes.of_view(v)].tolist(),
                    strict=True,
                )
            )
            for v in range(nodes.views)
        ),
        presence=presence,
        cut=tuple(cuts),
    )


def _presence(
    nodes: MaskNodes,
    group: NDArray[np.int64],
    groups: int,
    overlap: Overlap | None,
    followed: TrackOverlap | None,
    cut: NDArray[np.bool_],
) -> NDArray[np.int8]:
    presence = np.full((groups, nodes.views), Presence.HIDDEN, np.int8)
    for v in range(nodes.views):
        if overlap is not None:
            share = overlap.seen[:, v] / np.maximum(overlap.mass, 1e-6)
            presence[group[share >= VISIBLE], v] = Presence.MISSED
        elif followed is not None:
            presence[group[(followed.area[:, v] > 0) & ~cut[:, v]], v] = Presence.MISSED
        presence[group[nodes.of_view(v)], v] = Presence.MASKED
    return presence
