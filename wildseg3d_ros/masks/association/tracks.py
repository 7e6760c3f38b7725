"""What a video tracker says of two masks, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import agreement

CONTRADICTED = -0.4
"""3D evidence below which a track is cut."""
TRUST = 0.7
"""Share of right tracks that is expected of two views before anything is known of them."""
TRUST_WORTH = 2.0
"""How many tracks that expectation counts for."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """The masks of one view, followed through the others.

    Attributes:
        anchor: the view whose masks are followed.
        labels: per view (H, W) label that the pixel's mask has in the anchor view, 0 = none; the
            anchor's own entry is not looked at. None where nothing was tracked.
        order: the views in the order in which they were visited, the anchor left out. A track
            that is wrong in one view is not believed in the ones after it. Two runs (forward and
            backward) are two tuples.
    """

    anchor: int
    labels: tuple[NDArray[np.integer] | None, ...]
    order: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class TrackOverlap:
    """Tracked masks against the masks of the views that they reach.

    Attributes:
        iou: (M, M) float32, of the row's mask as tracked into the column's view with the column's
            mask.
        area: (M, N) float32 pixels of the mask as tracked into the view, 0 where it is lost.
        runs: (anchor, views in the order of the visit) of each run.
    """

    iou: NDArray[np.float32]
    area: NDArray[np.float32]
    runs: tuple[tuple[int, tuple[int, ...]], ...]


def measure_tracks(nodes: MaskNodes, tracks: Sequence[Tracks]) -> TrackOverlap:
    """Overlap of each tracked mask with the masks of the view that it was tracked into."""
    iou = np.zeros((len(nodes), len(nodes)), np.float32)
    area = np.zeros((len(nodes), nodes.views), np.float32)
    runs = []
    for track in tracks:
        mine = nodes.of_view(track.anchor)
        names = nodes.label[mine]
        runs += [(track.anchor, tuple(run)) for run in track.order]
        for b, labels in enumerate(track.labels):
            theirs = nodes.of_view(b)
            if labels is None or b == track.anchor or mine.stop == mine.start:
                continue
            if labels.shape != nodes.maps[b].shape:
                raise ValueError(
                    f"tracks of view {track.anchor} in view {b} are {labels.shape}, its masks "
                    f"{nodes.maps[b].shape}"
                )
            pixel = np.flatnonzero(labels)
            followed = labels.ravel()[pixel]
            source = np.minimum(np.searchsorted(names, followed), len(names) - 1)
            known = names[source] == followed
            pixel, source = pixel[known], source[known]
            size = np.bincount(source, minlength=len(names))
            area[mine, b] = size
            target = nodes.maps[b].ravel()[pixel] - theirs.start
            width = theirs.stop - theirs.start
            on_mask = target >= 0
            key = source[on_mask] * width + target[on_mask]
            both = np.bincount(key, minlength=len(names) * width).reshape(len(names), width)
            union = size[:, None] + nodes.area[theirs] - both
            iou[mine, theirs] = both / np.maximum(union, 1)
    return TrackOverlap(iou, area, tuple(runs))


def cut_tracks(
    nodes: MaskNodes, found: TrackOverlap, from_overlap: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(M, N) bool: tracks that 3D contradicts in a view, and in those visited after it.

    Args:
        from_overlap: (M, M) evidence of the pointmaps, as of ``overlap_weights``.
    """
    cut = np.zeros(found.area.shape, np.bool_)
    for b in range(nodes.views):
        theirs = nodes.of_view(b)
        if theirs.stop == theirs.start:
            continue
        followed = found.iou[:, theirs].argmax(axis=1)
        rows = np.arange(len(nodes))
        claimed = found.iou[rows, theirs.start + followed] > 0.3
        cut[:, b] = claimed & (from_overlap[rows, theirs.start + followed] < CONTRADICTED)
    for anchor, order in found.runs:
        mine = nodes.of_view(anchor)
        lost = np.zeros(mine.stop - mine.start, np.bool_)
        for b in order:
            lost = lost | cut[mine, b]
            cut[mine, b] = lost
    return cut


def track_weights(
    nodes: MaskNodes, found: TrackOverlap, cut: NDArray[np.bool_], trust: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(M, M) evidence in [-1, 1] that two masks show one object, and its (M, M) amount in [0, 1].

    Args:
        cut: (M, N) tracks that do not count.
        trust: (N, N) share of right tracks from the row's view into the column's. Tracks that are
            wrong as often as right say nothing.
    """
    counts = (found.area > 0) & ~cut
    certainty = np.clip(2.0 * trust - 1.0, 0.0, 1.0)
    amount = counts[:, nodes.view] * certainty[np.ix_(nodes.view, nodes.view)]
    weight = amount * agreement(found.iou)
    amount = 0.5 * (amount + amount.T)
    return (0.5 * (weight + weight.T)).astype(np.float32), amount.astype(np.float32)


def trust_from_returns(nodes: MaskNodes, found: TrackOverlap) -> NDArray[np.float32]:
    """(N, N) share of right tracks, from those that come back: i to j, and j to i again.

    Where only one of two views was an anchor nothing comes back, and the expectation stands.
    """
    right = TRUST * TRUST_WORTH * np.ones((nodes.views, nodes.views))
    tried = TRUST_WORTH * np.ones((nodes.views, nodes.views))
    for a in range(nodes.views):
        for b in range(a + 1, nodes.views):
            mine, theirs = nodes.of_view(a), nodes.of_view(b)
            there, back = found.iou[mine, theirs], found.iou[theirs, mine]
            if not there.any() or not back.any():
                continue
            start = np.flatnonzero(there.max(axis=1) > 0.3)
            end = there[start].argmax(axis=1)
            answered = back[end].max(axis=1) > 0.3
            start, end = start[answered], end[answered]
            returned = np.count_nonzero(back[end].argmax(axis=1) == start)
            # Both ways are right with the square of one way's share.
            share = np.sqrt(returned / len(start)) if len(start) else TRUST
            for pair in ((a, b), (b, a)):
                right[pair] += share * len(start)
                tried[pair] += len(start)
    return (right / tried).astype(np.float32)


def trust_from_groups(
    nodes: MaskNodes, found: TrackOverlap, group: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(N, N) share of tracks that end on the mask of their own group, of those that end on one
    while their group has a mask there."""
    right = TRUST * TRUST_WORTH * np.ones((nodes.views, nodes.views))
    tried = TRUST_WORTH * np.ones((nodes.views, nodes.views))
    for b in range(nodes.views):
        theirs = nodes.of_view(b)
        if theirs.stop == theirs.start:
            continue
        end = found.iou[:, theirs].argmax(axis=1)
        claimed = found.iou[np.arange(len(nodes)), theirs.start + end] > 0.3
        known = claimed & np.isin(group, group[theirs])
        agrees = known & (group[theirs][end] == group)
        right[:, b] += np.bincount(nodes.view, agrees, nodes.views)
        tried[:, b] += np.bincount(nodes.view, known, nodes.views)
    return (right / tried).astype(np.float32)
