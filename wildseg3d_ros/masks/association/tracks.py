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
CLAIMED = 0.3
"""Overlap with a mask from which a track ends there."""
TRUST = 0.7
"""Share of right tracks that is expected of two views before anything is known of them."""
SURE = 100.0
"""Likelihood ratio at which a track is as good as evidence gets."""
TRUST_WORTH = 2.0
"""How many tracks that expectation counts for."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """The masks of one view, or of one layer of nested masks, followed through the others.

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
        order = np.argsort(nodes.label[mine])
        names = nodes.label[mine][order]
        runs += [(track.anchor, tuple(run)) for run in track.order]
        for b, labels in enumerate(track.labels):
            theirs = nodes.of_view(b)
            if labels is None or b == track.anchor or mine.stop == mine.start:
                continue
            size_of_b = nodes.maps[nodes.first_sheets[b]].shape
            if labels.shape != size_of_b:
                raise ValueError(
                    f"tracks of view {track.anchor} in view {b} are {labels.shape}, its masks "
                    f"{size_of_b}"
                )
            pixel = np.flatnonzero(labels)
            followed = labels.ravel()[pixel]
            source = np.minimum(np.searchsorted(names, followed), len(names) - 1)
            known = names[source] == followed
            pixel, source = pixel[known], order[source[known]]
            size = np.bincount(source, minlength=len(names))
            area[mine, b] = np.maximum(area[mine, b], size)
            width = theirs.stop - theirs.start
            both = np.zeros((len(names), width))
            for sheet in nodes.sheets(b):
                target = nodes.maps[sheet].ravel()[pixel] - theirs.start
                on_mask = target >= 0
                key = source[on_mask] * width + target[on_mask]
                counts = np.bincount(key, minlength=len(names) * width)
                both += counts.reshape(len(names), width)
            union = size[:, None] + nodes.area[theirs] - both
            iou[mine, theirs] = np.maximum(iou[mine, theirs], both / np.maximum(union, 1))
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
        claimed = found.iou[rows, theirs.start + followed] > CLAIMED
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

    The logarithm of the likelihood ratio: a track is right with the probability of its trust, else
    it ends on any of the view's masks. So a track of little trust that ends on a mask still says
    much for it, for few wrong ones end just there, and little against all others.

    Args:
        cut: (M, N) tracks that do not count.
        trust: (N, N) share of right tracks from the row's view into the column's.
    """
    counts = ((found.area > 0) & ~cut)[:, nodes.view]
    right = np.clip(trust, 0.0, 0.99)[np.ix_(nodes.view, nodes.view)]
    chance = (1.0 - right) / np.maximum(np.diff(nodes.offsets), 2)[nodes.view]
    clear = np.log(SURE)
    ends_here = np.clip(np.log((right + chance) / chance) / clear, 0.0, 1.0)
    ends_elsewhere = np.clip(-np.log((1.0 - right - chance) / (1.0 - chance)) / clear, 0.0, 1.0)
    same = agreement(found.iou)
    worth = np.where(same > 0, ends_here, ends_elsewhere) * counts
    # What is between the two says little, but it was looked at.
    weight, amount = worth * same, worth
    return (
        (0.5 * (weight + weight.T)).astype(np.float32),
        (0.5 * (amount + amount.T)).astype(np.float32),
    )


def trust_of_tracks(nodes: MaskNodes, found: TrackOverlap) -> NDArray[np.float32]:
    """(N, N) share of right tracks from the row's view into the column's, by the tracks alone.

    Where both views were anchors those that come back tell: i to j, and j to i again. Into the
    others the expectation stands, but no more than in the views that were visited before: a track
    that went wrong stays wrong.
    """
    right = TRUST * TRUST_WORTH * np.ones((nodes.views, nodes.views))
    tried = TRUST_WORTH * np.ones((nodes.views, nodes.views))
    for a in range(nodes.views):
        for b in range(a + 1, nodes.views):
            mine, theirs = nodes.of_view(a), nodes.of_view(b)
            there, back = found.iou[mine, theirs], found.iou[theirs, mine]
            if not there.any() or not back.any():
                continue
            start = np.flatnonzero(there.max(axis=1) > CLAIMED)
            end = there[start].argmax(axis=1)
            answered = back[end].max(axis=1) > CLAIMED
            start, end = start[answered], end[answered]
            returned = np.count_nonzero(back[end].argmax(axis=1) == start)
            # Both ways are right with the square of one way's share.
            share = np.sqrt(returned / len(start)) if len(start) else TRUST
            for pair in ((a, b), (b, a)):
                right[pair] += share * len(start)
                tried[pair] += len(start)
    trust = right / tried
    for anchor, order in found.runs:
        visited = list(order)
        trust[anchor, visited] = np.minimum.accumulate(trust[anchor, visited])
    return trust.astype(np.float32)


def trust_from_groups(
    nodes: MaskNodes, found: TrackOverlap, group: NDArray[np.int64], alone: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, N) share of tracks that end on the mask of their own group, of those that end on one
    while their group has a mask there; no more than what the tracks alone say by half of the way.

    Args:
        alone: of ``trust_of_tracks``; a group that a wrong track made agrees with it.
    """
    right, tried = np.zeros((2, nodes.views, nodes.views))
    for b in range(nodes.views):
        theirs = nodes.of_view(b)
        if theirs.stop == theirs.start:
            continue
        end = found.iou[:, theirs].argmax(axis=1)
        claimed = found.iou[np.arange(len(nodes)), theirs.start + end] > CLAIMED
        known = claimed & np.isin(group, group[theirs])
        agrees = known & (group[theirs][end] == group)
        right[:, b] += np.bincount(nodes.view, agrees, nodes.views)
        tried[:, b] += np.bincount(nodes.view, known, nodes.views)
    worth = np.maximum(tried, TRUST_WORTH)
    return ((right + worth * alone) / (tried + worth)).astype(np.float32)
