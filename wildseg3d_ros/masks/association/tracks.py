"""Masks that a video model followed: what they say of two masks, and how reliable they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import lsqr

from wildseg3d_ros.masks.association.evidence import Evidence, values_at
from wildseg3d_ros.masks.association.nodes import MaskNodes, dense_labels
from wildseg3d_ros.masks.association.overlap import EVEN, agreement, overlapping_pairs

CLEAR = float(np.log(1000.0))
"""Logarithm of the likelihood ratio at which a track is as good as evidence gets."""
PRIOR_TRACKS = 2.0
"""How many tracks count what was expected of a pair of views before."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """The masks of one view, or of one layer of nested masks, followed through the others.

    Attributes:
        anchor: the view whose masks are followed.
        labels: per view (H, W) label that the pixel's mask has in the anchor view, 0 = none; the
            anchor's own entry does not matter. None where nothing was tracked.
        order: the views in the order in which they were visited, the anchor left out. A track
            that is wrong in one view does not count in the ones after it. Two runs (forward and
            backward) are two tuples.
    """

    anchor: int
    labels: tuple[NDArray[np.integer] | None, ...]
    order: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class TrackOverlap:
    """Tracked masks against the masks of the views that they are tracked into.

    Attributes:
        iou: (M, M) float64, of the row's mask as tracked into the column's view with the column's
            mask.
        area: (M, N) float32 pixels of the mask as tracked into the view, 0 where it is lost.
        end: (M, N) int64 mask of the view that the track overlaps most, -1 = none.
        best: (M, N) float64 overlap with it.
        runs: (anchor, views in the order of the visit) of each run.
    """

    iou: sparse.csr_array
    area: NDArray[np.float32]
    end: NDArray[np.int64]
    best: NDArray[np.float64]
    runs: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def claimed(self) -> NDArray[np.bool_]:
        """(M, N) whether the track ends on a mask of the view."""
        return self.best > EVEN


_Shared = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _count_shared(nodes: MaskNodes, view: int, labels: NDArray[np.integer]) -> _Shared:
    """Labels (L,) of a map, their pixels (L,), and those that they share with the view's masks
    (L, M_view)."""
    names, tracked, size = dense_labels(labels)
    mine = nodes.of_view(view)
    width = mine.stop - mine.start
    both = np.zeros((len(names), width), np.int64)
    pixel = np.flatnonzero(tracked >= 0)
    for layer in nodes.layers(view):
        node = nodes.maps[layer].ravel()[pixel]
        key = tracked.ravel()[pixel].astype(np.int64) * width + node - mine.start
        counts = np.bincount(key[node >= 0], minlength=both.size)
        both += counts.reshape(both.shape)
    return names, size, both


def measure_tracks(nodes: MaskNodes, tracks: Sequence[Tracks]) -> TrackOverlap:
    """Overlap of each tracked mask with the masks of the view that it was tracked into."""
    area = np.zeros((len(nodes), nodes.views), np.float32)
    none, runs = np.zeros(0, np.int64), []
    parts = [(none, none, np.zeros(0))]
    # One map of a view may be the track of several anchors: what the masks share is counted once.
    shared: dict[tuple[int, int], _Shared] = {}
    for track in tracks:
        mine = nodes.of_view(track.anchor)
        runs += [(track.anchor, tuple(run)) for run in track.order]
        for b, labels in enumerate(track.labels):
            if labels is None or b == track.anchor or mine.stop == mine.start:
                continue
            if (b, id(labels)) not in shared:
                shared[b, id(labels)] = _count_shared(nodes, b, labels)
            names, size, both = shared[b, id(labels)]
            _, source, followed = np.intersect1d(
                nodes.label[mine], names, assume_unique=True, return_indices=True
            )
            source += mine.start
            area[source, b] = np.maximum(area[source, b], size[followed])
            row, column = np.nonzero(both[followed])
            common = both[followed[row], column]
            column += nodes.of_view(b).start
            iou = common / (size[followed[row]] + nodes.area[column] - common)
            parts.append((source[row], column, iou))
    i, j, iou = (np.concatenate(part) for part in zip(*parts, strict=True))
    # The best of each pair of masks, then the best of each track.
    order = np.argsort(-iou, kind="stable")
    order = order[np.unique((i * len(nodes) + j)[order], return_index=True)[1]]
    i, j, iou = i[order], j[order], iou[order]
    end, best = np.full(area.shape, -1), np.zeros(area.shape)
    rising = np.lexsort((-j, iou))
    end[i[rising], nodes.view[j[rising]]] = j[rising]
    best[i[rising], nodes.view[j[rising]]] = iou[rising]
    matrix = sparse.csr_array((iou, (i, j)), shape=(len(nodes), len(nodes)))
    return TrackOverlap(matrix, area, end, best, tuple(runs))


def cut_tracks(nodes: MaskNodes, found: TrackOverlap, evidence: Evidence) -> NDArray[np.bool_]:
    """(M, N) bool: tracks that 3D contradicts (an affinity below -0.4) in a view, and in those
    visited after it.

    Args:
        evidence: of the pointmaps.
    """
    cut = np.zeros(found.area.shape, np.bool_)
    row, b = np.nonzero(found.claimed)
    cut[row, b] = evidence.affinities(row, found.end[row, b]) < -0.4
    for anchor, order in found.runs:
        mine = nodes.of_view(anchor)
        lost = np.zeros(mine.stop - mine.start, np.bool_)
        for b in order:
            lost = lost | cut[mine, b]
            cut[mine, b] = lost
    return cut


def track_evidence(
    nodes: MaskNodes, found: TrackOverlap, cut: NDArray[np.bool_], trust: NDArray[np.float32]
) -> Evidence:
    """What tracks say of two masks being of one object.

    The logarithm of the likelihood ratio: a track is right with the probability of its trust, else
    it ends on any of the view's masks. A track of little trust that ends on a mask therefore still
    says much for it, as few wrong ones end just there, and little against all others.

    Args:
        cut: (M, N) tracks that do not count.
        trust: (N, N) share of right tracks from the row's view into the column's.
    """
    counts = (found.area > 0) & ~cut
    # No track is certain: the logarithms stay finite.
    right = np.clip(trust, 0.0, 0.99).astype(np.float64)
    chance = (1.0 - right) / np.maximum(np.diff(nodes.offsets), 2)
    ends_here = np.clip(np.log((right + chance) / chance) / CLEAR, 0.0, 1.0)
    ends_elsewhere = np.clip(-np.log((1.0 - right - chance) / (1.0 - chance)) / CLEAR, 0.0, 1.0)
    against = ends_elsewhere[nodes.view] * counts
    i, j = overlapping_pairs(found.iou)
    affinity, support = np.zeros(len(i)), np.zeros(len(i))
    for one, other in ((i, j), (j, i)):
        view = nodes.view[other]
        same = agreement(values_at(found.iou, one, other))
        weight = np.where(same > 0, ends_here[nodes.view[one], view], against[one, view])
        weight = weight * counts[one, view]
        # An overlap between the two says little, but it has support.
        affinity += 0.5 * (weight * same + against[one, view])
        support += 0.5 * (weight - against[one, view])
    return Evidence.of_pairs(against[:, nodes.layer_view], nodes.layer, i, j, affinity, support)


def trust_of_tracks(nodes: MaskNodes, found: TrackOverlap) -> NDArray[np.float32]:
    """(N, N) share of right tracks from the row's view into the column's, by the tracks alone.

    Two ways from a mask of one anchor into a view, straight and over a mask of another anchor, end
    on the same mask if all three tracks are right, and hardly ever otherwise. So the share of
    cycles that close is the product of three shares of right tracks, or of two for the way there
    and back; their logarithms are found by least squares. Where nothing closes a cycle the
    expectation stands, which falls with every view that is visited. A track that went wrong stays
    wrong: no view is trusted more than those before it.
    """
    closing = _closed_cycles(nodes, found)
    # How many views a track has gone through when it is in the column's.
    steps = np.ones((nodes.views, nodes.views), np.int64)
    for anchor, order in found.runs:
        steps[anchor, list(order)] = np.arange(1, len(order) + 1)
    # What all anchors have in common first: the first, second, ... view of a run, each expected to
    # keep 0.85 of the tracks right. It then counts for eight tracks of one pair of views.
    expected = np.log(0.85) * np.arange(steps.max(initial=0) + 1)
    by_step = _solve_trust(closing, steps.ravel(), expected, PRIOR_TRACKS)
    trust = _solve_trust(closing, np.arange(steps.size), by_step[steps.ravel()], 8.0)
    trust = np.exp(np.minimum(trust, 0.0)).reshape(steps.shape)
    for anchor, order in found.runs:
        visited = list(order)
        trust[anchor, visited] = np.minimum.accumulate(trust[anchor, visited])
    return trust.astype(np.float32)


_Cycles = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


def _closed_cycles(nodes: MaskNodes, found: TrackOverlap) -> _Cycles:
    """Shares of cycles of tracks that close: (C, 3) pairs of views a * N + b of the tracks of a
    cycle, the last -1 where two tracks lead there and back; (C,) logarithms of the shares; (C,)
    inverse variances of these."""
    claimed, count = found.claimed, nodes.views
    chance = 1.0 / np.maximum(np.diff(nodes.offsets), 2)
    parts = [(np.zeros((0, 3), np.int64), np.zeros(0), np.zeros(0))]
    for a, b in itertools.permutations(sorted({anchor for anchor, _ in found.runs}), 2):
        start = np.arange(nodes.offsets[a], nodes.offsets[a + 1])
        start = start[claimed[start, b]]
        over = found.end[start, b]
        both = claimed[start] & claimed[over]
        closed = both & (found.end[start] == found.end[over])
        # Into its own view a mask is not tracked: it is there.
        both[:, a] = claimed[over, a]
        closed[:, a] = both[:, a] & (found.end[over, a] == start)
        tried = np.count_nonzero(both, axis=0).astype(np.float64)
        share = (np.count_nonzero(closed, axis=0) + 0.5) / (tried + 1.0)
        share = np.clip((share - chance) / (1.0 - chance), 0.5 / (tried + 1.0), 1.0)
        worth = tried * share / (1.0 - share + 1.0 / (tried + 1.0))
        v = np.flatnonzero(tried)
        last = np.where(v == a, -1, a * count + v)
        ways = np.stack([np.full(len(v), a * count + b), b * count + v, last], axis=1)
        parts.append((ways, np.log(share[v]), worth[v]))
    ways, log_share, worth = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ways, log_share, worth


def _solve_trust(
    cycles: _Cycles, kind: NDArray[np.int64], expected: NDArray[np.float64], worth: float
) -> NDArray[np.float64]:
    """Logarithms of the shares of right tracks of each kind, by least squares.

    Args:
        kind: (N * N,) of the pairs of views.
        expected: of each kind, which counts as ``worth`` tracks.
    """
    ways, log_share, weight = cycles
    scale = np.sqrt(weight)
    factor = np.where(ways < 0, 0.0, scale[:, None]).ravel()
    entries = np.repeat(np.arange(len(ways)), 3), kind[ways].ravel()
    closed = sparse.coo_array((factor, entries), shape=(len(ways), len(expected)))
    system = sparse.vstack([closed, np.sqrt(worth) * sparse.eye_array(len(expected))])
    target = np.append(scale * log_share, np.sqrt(worth) * expected)
    return lsqr(system.tocsr(), target)[0]


def ambiguity_of_tracks(
    nodes: MaskNodes, found: TrackOverlap, trust: NDArray[np.float32]
) -> float:
    """Evidence that two groups must have of being one object where there are tracks alone.

    Before a track is seen, a mask is any of another view's masks. That must be outweighed, and the
    odds must then be 4 for one object, as a merge is worse than a split. Half of it, as evidence
    is the mean of both ways. That is the ambiguity of pairs of views that were not followed both
    ways; where all views are anchors, the tracks of the masks that a wrong one would take
    contradict it, if there are views enough to do so. Where tracks were seen to contradict each
    other, there is more ambiguity.

    Args:
        trust: of ``trust_of_tracks``.
    """
    masks = max(float(np.median(np.diff(nodes.offsets))), 2.0)
    anchors = sorted({anchor for anchor, _ in found.runs})
    followed = trust[anchors] * (np.arange(nodes.views) != np.array(anchors)[:, None])
    wrong = 1.0 - float(followed.sum()) / max(len(anchors) * (nodes.views - 1), 1)
    # Three other views contradict what is wrong in one. Views by pairs: two that contradict each
    # other leave a third to tell which is right.
    witnesses = min(1.0, 3 / max(nodes.views - 1, 1)) ** 2
    ambiguity = 1.0 - (len(anchors) / nodes.views) ** 2
    # Tracks of one view close no cycle that would show which are wrong. Where that is known, the
    # share of wrong ones counts four times: a merge is worse than a split.
    if len(anchors) > 1:
        ambiguity += 4.0 * wrong * witnesses
    return float(ambiguity * 0.5 * np.log(4.0 * masks) / CLEAR)


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
        known = found.claimed[:, b] & np.isin(group, group[nodes.of_view(b)])
        agrees = known & (group[found.end[:, b]] == group)
        right[:, b] += np.bincount(nodes.view, agrees, nodes.views)
        tried[:, b] += np.bincount(nodes.view, known, nodes.views)
    worth = np.maximum(tried, PRIOR_TRACKS)
    return ((right + worth * alone) / (tried + worth)).astype(np.float32)
