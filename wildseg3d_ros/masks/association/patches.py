"""The surface of all masks in patches, and which masks every view shows each patch on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association.evidence import (
    BLOCK,
    Evidence,
    membership,
    row_products,
    values_at,
)
from wildseg3d_ros.masks.association.nodes import MaskNodes

SAME = 0.8
"""Overlap from which two masks are of one surface for certain; outlines differ by the rest."""
MOST_OF_MASK = 0.6
"""Share of a mask that stands for all of it where others occlude it and its outline is wrong."""
EVEN = 0.3
"""Overlap at which two masks are as likely of one object as not."""
NO_MASK = 0.25
"""Weight of a view in which a patch is on no mask, as one may be missing there."""
FEW = 6.0
"""Patches from which a mask counts in full."""
MAX_PATCHES = 1 << 17
"""Of all masks together; with more than 512 masks each has fewer than 256."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of the masks, node after node; each stands for a patch of its mask's surface.

    Attributes:
        visibility: depth images of the views.
        points: (P, 3) float32 world points.
        node: (P,) int64 mask of each point.
        view: (P,) uint16 view that it comes from.
        pixel: (P,) int64 flat pixel there.
        weight: (P,) float32 in (0, 1], confidence of the mask there.
        count: (M,) points of each node.
        mass: (M,) float32, their summed weights.
        max_distance: of points of one surface, scene units.
    """

    visibility: Visibility
    points: NDArray[np.float32]
    node: NDArray[np.int64]
    view: NDArray[np.uint16]
    pixel: NDArray[np.int64]
    weight: NDArray[np.float32]
    count: NDArray[np.int64]
    mass: NDArray[np.float32]
    max_distance: float

    @property
    def thin(self) -> NDArray[np.bool_]:
        """(M,) masks one or two pixels wide: all outline, of a mean confidence below 0.34."""
        return self.mass < 0.34 * self.count

    def tolerance(self, view: int, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far depths of one surface lie apart as the view sees it at the depths ``z``."""
        return np.minimum(self.visibility.tolerance(view, z), np.float32(self.max_distance))

    def of(self, index: NDArray[np.int64]) -> tuple[Samples, NDArray[np.int64]]:
        """The points of some masks, which are numbered anew, and which of all points they are."""
        table = np.full(len(self.count), -1)
        table[index] = np.arange(len(index))
        mine = np.flatnonzero(table[self.node] >= 0)
        some = dataclasses.replace(
            self,
            points=self.points[mine],
            node=table[self.node[mine]],
            view=self.view[mine],
            pixel=self.pixel[mine],
            weight=self.weight[mine],
            count=self.count[index],
            mass=self.mass[index],
        )
        return some, mine


@dataclass(frozen=True, eq=False)
class Patches:
    """What every view shows of the patches, which its masks thereby cut at their outlines.

    Attributes:
        samples: one for each patch.
        on_mask: (P, M) float32, the weight of the patch in the view of each mask that it is on
            there, its own included.
        seen: (P, N) float32, its weight in each view that sees it, less where that is on no mask.
        hidden: (M, M) float32, patches of the row's mask that lie behind the column's mask in its
            view.
        visible: (M, N) bool, whether the view sees a tenth of the mask or more.
    """

    samples: Samples
    on_mask: sparse.csr_array
    seen: sparse.csr_array
    hidden: sparse.csr_array
    visible: NDArray[np.bool_]

    def of(self, index: NDArray[np.int64]) -> tuple[Patches, NDArray[np.int64]]:
        """Those of some masks, on these masks, numbered anew, and which of all they are."""
        if len(index) == self.on_mask.shape[1]:  # copies would be most of the memory
            return self, np.arange(len(self.samples.node))
        samples, mine = self.samples.of(index)
        some = Patches(
            samples,
            sparse.csr_array(self.on_mask[mine][:, index]),
            sparse.csr_array(self.seen[mine]),
            sparse.csr_array(self.hidden[index][:, index]),
            self.visible[index],
        )
        return some, mine


def mask_confidence(nodes: MaskNodes) -> tuple[NDArray[np.float32], ...]:
    """Per layer (H, W) float32 in (0, 1]: 1 inside masks and off them, near 0 along outlines.

    Outlines are where masks are wrong, depths are mixed, and errors of the poses matter. The band
    is as wide as 0.12 of the mask's size, and a pixel more.
    """
    confidence = []
    for owner in nodes.maps:
        uniform = np.ones(owner.shape, np.uint8)
        for masks, flat in ((owner, uniform), (owner.T, uniform.T)):
            step = masks[1:] != masks[:-1]
            flat[1:][step] = flat[:-1][step] = 0
        depth = np.asarray(cv2.distanceTransform(uniform, cv2.DIST_L2, 3), np.float32)
        width = np.append(0.12 * np.sqrt(nodes.area), 0.0).astype(np.float32) + 1.0
        width[-1] = float(np.median(width))
        confidence.append(np.minimum((depth + 0.5) / (width[owner] + 0.5), 1.0))
    return tuple(confidence)


def draw_samples(
    nodes: MaskNodes,
    world: WorldPointmaps,
    confidence: tuple[NDArray[np.float32], ...],
    visibility: Visibility,
    max_points: int = 256,
) -> Samples:
    """At most ``max_points`` points per mask, evenly over its pixels.

    More than 256 change the shares of a mask by less than 2 %.
    """
    max_points = min(max_points, max(MAX_PATCHES // max(len(nodes), 1), 32))
    parts = []
    for layer, owner in enumerate(nodes.maps):
        v = int(nodes.layer_view[layer])
        pixel = np.flatnonzero((owner >= 0) & world.valid(v))
        node = owner.ravel()[pixel]
        # A radix sort: the masks of a view are fewer than 2^16.
        order = np.argsort((node - nodes.offsets[v]).astype(np.uint16), kind="stable")
        pixel, node = pixel[order], node[order]
        count = np.bincount(node, minlength=len(nodes))
        rank = np.arange(len(node)) - (np.cumsum(count) - count)[node]
        # Pixel k of n is taken where k * max_points / n steps to the next whole number.
        share = np.minimum(max_points / np.maximum(count, 1), 1.0)[node]
        chosen = np.floor((rank + 1) * share + 1e-9) > np.floor(rank * share + 1e-9)
        pixel, node = pixel[chosen], node[chosen].astype(np.int64)
        point = world.points[v].reshape(-1, 3)[pixel].astype(np.float32)
        view = np.full(len(node), v, np.uint16)
        parts.append((point, node, view, pixel, confidence[layer].ravel()[pixel]))
    point, node, view, pixel, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    count = np.bincount(node, minlength=len(nodes))
    distance = np.linalg.norm(point - visibility.centres[view], axis=1)
    footprint = np.bincount(node, distance / visibility.focal[view], len(nodes))
    size = footprint / np.maximum(count, 1) * np.sqrt(nodes.area)
    # Where no two views share a surface, visibility's own tolerance is the thickness of objects:
    # points are of one surface within a quarter of the median mask's size.
    max_distance = 0.25 * float(np.median(size[count > 0])) if len(point) else 0.0
    mass = np.bincount(node, weight, len(nodes)).astype(np.float32)
    return Samples(visibility, point, node, view, pixel, weight, count, mass, max_distance)


def look_at_patches(
    nodes: MaskNodes, samples: Samples, confidence: tuple[NDArray[np.float32], ...]
) -> Patches:
    """Looks at the patches from all views.

    A patch weighs as much as its mask is sure there, in shares of its mask; a view as much as its
    own masks are sure where it shows the patch.
    """
    count = len(nodes)
    share = samples.weight / np.maximum(samples.mass, FEW)[samples.node]
    on, seen = _Entries((len(samples.node), count)), _Entries((len(samples.node), nodes.views))
    hidden = _Entries((count, count))
    visible = np.zeros((count, nodes.views), np.float32)

    def show(view: int, row: NDArray[np.intp], pixel: NDArray[np.intp]) -> None:
        layers = nodes.layers(view)
        masks = [nodes.maps[layer].ravel()[pixel] for layer in layers]
        sure = np.min([confidence[layer].ravel()[pixel] for layer in layers], axis=0)
        weight = share[row] * sure
        weight = np.where(np.any([mask >= 0 for mask in masks], axis=0), weight, NO_MASK * weight)
        seen.add(row, np.full(len(row), view), weight)
        for mask in masks:
            there = mask >= 0
            on.add(row[there], mask[there], weight[there])

    for b in range(nodes.views):
        for row, pixel, here in _looks(samples, b):
            node, behind = samples.node[row[~here]], pixel[~here]
            for layer in nodes.layers(b):
                mask = nodes.maps[layer].ravel()[behind]
                there = mask >= 0
                hidden.add(node[there], mask[there], np.ones(np.count_nonzero(there)))
            row, pixel = row[here], pixel[here]
            visible[:, b] += np.bincount(samples.node[row], samples.weight[row], count)
            show(b, row, pixel)
        own = np.flatnonzero(samples.view == b)
        show(b, own, samples.pixel[own])
    return Patches(
        samples, on.summed(), seen.summed(), hidden.summed(), _is_enough(visible, samples)
    )


class _Entries:
    """Entries of a sparse matrix that are summed up."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._parts = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))]

    def add(self, row: NDArray, column: NDArray, value: NDArray) -> None:
        self._parts.append(
            (row.astype(np.int32), column.astype(np.int32), value.astype(np.float32))
        )

    def summed(self) -> sparse.csr_array:
        row, column, value = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return sparse.csr_array((value, (row, column)), shape=self._shape)


def _looks(
    samples: Samples, view: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]]:
    """Block by block, the samples of the other views that a view sees or has something before:
    their rows, their pixels, and whether they are seen."""
    for start in range(0, len(samples.node), BLOCK):
        block = slice(start, start + BLOCK)
        row, z, pixel = samples.visibility.look(view, samples.points[block], samples.view[block])
        measured = samples.visibility.depth[view].ravel()[pixel]
        tolerance = samples.tolerance(view, z)
        here = np.abs(measured - z) < tolerance
        known = (measured > 0) & (here | (measured < z - tolerance))
        yield start + row[known], pixel[known], here[known]


def visible_masks(nodes: MaskNodes, samples: Samples) -> NDArray[np.bool_]:
    """(M, N) as ``visible`` of :class:`Patches`."""
    visible = np.zeros((len(nodes), nodes.views), np.float32)
    for b in range(nodes.views):
        for row, _, here in _looks(samples, b):
            row = row[here]
            visible[:, b] += np.bincount(samples.node[row], samples.weight[row], len(nodes))
    return _is_enough(visible, samples)


def _is_enough(visible: NDArray[np.float32], samples: Samples) -> NDArray[np.bool_]:
    # A view must see a tenth of a mask, or more, before one of its own is missed there.
    return visible / np.maximum(samples.mass, 1e-6)[:, None] >= 0.1


@dataclass(frozen=True, eq=False)
class Consensus:
    """Groups of patches, and the masks that every view shows these on, as sums.

    Attributes:
        on_mask: (G, M) summed weights of the patches on each mask.
        seen: (G, L) the same of those that the view of each mask layer sees.
        off: (G, L) of these, those on none of the layer's masks.
    """

    on_mask: sparse.csr_array
    seen: NDArray[np.float64]
    off: NDArray[np.float64]

    @classmethod
    def of(
        cls, nodes: MaskNodes, patches: Patches, group: NDArray[np.int64], groups: int
    ) -> Consensus:
        """Of groups 0, 1, ...

        Args:
            group: (P,) of each patch.
        """
        return cls.of_sums(nodes, patches, membership(group, groups).T)

    @classmethod
    def of_sums(cls, nodes: MaskNodes, patches: Patches, of: sparse.csr_array) -> Consensus:
        """Args: of: (G, P) share of each patch in each sum."""
        on_mask = sparse.csr_array(of @ patches.on_mask)
        on = np.asarray((on_mask @ membership(nodes.layer, len(nodes.maps))).todense())
        seen = np.asarray((of @ patches.seen).todense())[:, nodes.layer_view]
        return cls(on_mask, seen, seen - on)

    @property
    def factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Two (G, 2L), whose scalar products are the pairs of patches of two groups that a view
        sees, of which it has a mask of either."""
        seen, off = self.seen, self.off
        return np.concatenate([seen, off], axis=1), np.concatenate([seen, -off], axis=1)

    def evidence(self, even: float = EVEN) -> Evidence:
        """What all views say of two groups being of one object.

        A view that sees a patch of each has both on one mask, or on two: the share of the first,
        over all pairs of patches and all views, is that of the views that agree (MaskClustering
        and SAI3D, CVPR 2024). The two need not overlap: a third view may show both on one mask.

        Args:
            even: share at which two groups are as likely one object as not.
        """
        left, right = self.factors
        pairs = sparse.coo_array(self.on_mask @ self.on_mask.T)
        # Most pairs share a few pixels of an outline.
        seen = row_products(left, pairs.row, right, pairs.col)
        some = pairs.data >= 0.03 * seen
        entries = pairs.data[some] / even, (pairs.row[some], pairs.col[some])
        together = sparse.csr_array(entries, shape=pairs.shape)
        return Evidence(left, right, together, sparse.csr_array(pairs.shape))


def mask_evidence(nodes: MaskNodes, patches: Patches) -> Evidence:
    """What all views say of two masks being of one object."""
    samples = patches.samples
    consensus = Consensus.of(nodes, patches, samples.node, len(nodes))
    evidence = consensus.evidence()
    entries = evidence.overlap_affinity.tocoo()
    row, column = entries.row, entries.col
    against = evidence.repulsion(row, column)
    affinity, support = entries.data.copy(), np.zeros(len(row))
    # A whole and its part are on one mask in every view that has none of the part alone. Which
    # of the two a mask is of, only its own overlap with other masks can tell.
    pair = _about_nested(nodes, consensus)
    pair = pair[row] & pair[column]
    iou, looked = _overlap(nodes, samples, consensus, row[pair], column[pair])
    affinity[pair] = against[pair] + looked * agreement(iou, 0.85)
    support[pair] = looked - against[pair]
    # Of two thin masks side by side as much of either lies on the other as on itself.
    thin = samples.thin
    pair = thin[row] & thin[column]
    affinity[pair], support[pair] = against[pair], -against[pair]
    overlap_affinity, overlap_support = (
        sparse.csr_array((each, (row, column)), shape=entries.shape)
        for each in (affinity, support)
    )
    return Evidence(evidence.left, evidence.right, overlap_affinity, overlap_support)


def _about_nested(nodes: MaskNodes, consensus: Consensus) -> NDArray[np.bool_]:
    """(M,) masks that are nested, and those that lie on such masks, chain by chain."""
    shown = consensus.on_mask.tocoo()
    most = shown.data >= EVEN * consensus.seen[shown.row, nodes.layer[shown.col]]
    part = components(len(nodes), np.stack([shown.row[most], shown.col[most]], axis=1))
    return np.isin(part, part[np.concatenate(nodes.nested())])


def _overlap(
    nodes: MaskNodes,
    samples: Samples,
    consensus: Consensus,
    i: NDArray[np.integer],
    j: NDArray[np.integer],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P,) intersection over union of pairs of masks (i[k], j[k]) where both views see them, and
    how much that is worth, from 0 to 1."""
    seen = consensus.seen * np.maximum(samples.mass, FEW)[:, None]
    # Of less than 0.15 of a mask, a view sees little more than the outline.
    worth = seen / (seen + FEW) * np.minimum(1.0, consensus.seen / 0.15)
    # Where little is seen of a whole, its part must not be taken for all of it.
    inner, outer = nodes.nested()
    np.minimum.at(worth, inner, worth[outer])
    share, looked = [], []
    for one, other in ((i, j), (j, i)):
        layer = nodes.layer[other]
        hits = values_at(consensus.on_mask, one, other)
        share.append(hits / np.maximum(consensus.seen[one, layer], 1e-9))
        looked.append(worth[one, layer])
    # Where one of the two sees nothing of the other, the other's share stands for both.
    there = np.where(looked[0] > 0, share[0], share[1])
    back = np.where(looked[1] > 0, share[1], share[0])
    iou = there * back / np.maximum(there + back - there * back, 1e-9)
    return iou, 0.5 * (looked[0] + looked[1])


def overlapping_pairs(matrix: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs i < j of which (i, j) or (j, i) is an entry of a sparse matrix."""
    entries = matrix.tocoo()
    low = np.minimum(entries.row, entries.col).astype(np.int64)
    high = np.maximum(entries.row, entries.col).astype(np.int64)
    count = int(high.max(initial=0)) + 1
    key = np.unique(low * count + high)
    return key // count, key % count


def agreement(iou: NDArray[np.floating], at_same: float = 1.0) -> NDArray[np.float64]:
    """From -1 for masks that do not overlap over 0 at EVEN and ``at_same`` at SAME to 1."""
    return np.interp(iou, [0.0, EVEN, SAME, 1.0], [-1.0, 0.0, at_same, 1.0])
