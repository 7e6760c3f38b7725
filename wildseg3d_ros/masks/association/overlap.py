"""Masks lifted into the other views by the pointmaps, occlusion respected, and compared there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association.evidence import BLOCK, Evidence, values_at
from wildseg3d_ros.masks.association.nodes import MaskNodes

SAME = 0.8
"""Overlap from which two masks are of one surface for certain; outlines differ by the rest."""
MOST_OF_MASK = 0.6
"""Share of a mask that stands for all of it where others occlude it and its outline is wrong."""
EVEN = 0.3
"""Overlap at which two masks are as likely of one object as not."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of the masks, node after node.

    Attributes:
        visibility: depth images of the views.
        points: (P, 3) float32 world points.
        node: (P,) int64 mask of each point.
        view: (P,) uint16 view that it comes from.
        weight: (P,) float32 in (0, 1], confidence of the mask there.
        count: (M,) points of each node.
        mass: (M,) float32, their summed weights.
        max_distance: of points of one surface, scene units.
    """

    visibility: Visibility
    points: NDArray[np.float32]
    node: NDArray[np.int64]
    view: NDArray[np.uint16]
    weight: NDArray[np.float32]
    count: NDArray[np.int64]
    mass: NDArray[np.float32]
    max_distance: float

    def tolerance(self, view: int, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far depths of one surface lie apart as the view sees it at the depths ``z``."""
        return np.minimum(self.visibility.tolerance(view, z), np.float32(self.max_distance))

    def of(self, index: NDArray[np.int64]) -> Samples:
        """The points of some masks, which are numbered anew."""
        table = np.full(len(self.count), -1)
        table[index] = np.arange(len(index))
        mine = table[self.node] >= 0
        return dataclasses.replace(
            self,
            points=self.points[mine],
            node=table[self.node[mine]],
            view=self.view[mine],
            weight=self.weight[mine],
            count=self.count[index],
            mass=self.mass[index],
        )


@dataclass(frozen=True, eq=False)
class Overlap:
    """Masks lifted into the other views.

    Attributes:
        samples: of the masks.
        hits: (M, M) float64, samples of the row's mask that the column's view sees on the
            column's mask, weighted by the confidence of both masks there.
        hidden: (M, M) float64, samples of the row's mask that lie behind the column's mask in its
            view.
        seen: (M, L) float32, samples of a mask that the layer's view sees, on a mask or on none,
            weighted by the confidence of the mask and of the layer there.
        unmasked: (M, L) float32, the same of those that are on no mask of the view.
        visible: (M, N) bool, whether the view sees a tenth of the mask or more.
    """

    samples: Samples
    hits: sparse.csr_array
    hidden: sparse.csr_array
    seen: NDArray[np.float32]
    unmasked: NDArray[np.float32]
    visible: NDArray[np.bool_]

    def of(self, index: NDArray[np.int64], layers: NDArray[np.int64]) -> Overlap:
        """The overlap of some masks with each other, numbered anew, in some layers."""
        if len(index) == len(self.seen) and len(layers) == self.seen.shape[1]:  # as it is
            return self
        pick = np.ix_(index, layers)
        return Overlap(
            self.samples.of(index),
            sparse.csr_array(self.hits[index][:, index]),
            sparse.csr_array(self.hidden[index][:, index]),
            self.seen[pick],
            self.unmasked[pick],
            self.visible[index],
        )


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
        parts.append((point, node, view, confidence[layer].ravel()[pixel]))
    point, node, view, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    count = np.bincount(node, minlength=len(nodes))
    distance = np.linalg.norm(point - visibility.centres[view], axis=1)
    footprint = np.bincount(node, distance / visibility.focal[view], len(nodes))
    size = footprint / np.maximum(count, 1) * np.sqrt(nodes.area)
    # Where no two views share a surface, visibility's own tolerance is the thickness of objects:
    # points are of one surface within a quarter of the median mask's size.
    max_distance = 0.25 * float(np.median(size[count > 0])) if len(point) else 0.0
    mass = np.bincount(node, weight, len(nodes)).astype(np.float32)
    return Samples(visibility, point, node, view, weight, count, mass, max_distance)


def measure_overlap(
    nodes: MaskNodes, samples: Samples, confidence: tuple[NDArray[np.float32], ...]
) -> Overlap:
    """Looks at the samples of every mask from all other views."""
    count = len(nodes)
    seen, unmasked = np.zeros((2, count, len(nodes.maps)), np.float32)
    visible = np.zeros((count, nodes.views), np.float32)
    hits, hidden = sparse.csr_array((count, count)), sparse.csr_array((count, count))
    for b in range(nodes.views):
        on, behind = [_NOTHING], [_NOTHING]
        for row, pixel, here in _looks(samples, b):
            node, there = samples.node[row], ~here
            for layer in nodes.layers(b):
                target = nodes.maps[layer].ravel()[pixel[there]]
                masked = target >= 0
                ones = np.ones(np.count_nonzero(masked))
                behind.append((node[there][masked], target[masked], ones))
            row, pixel, node = row[here], pixel[here], node[here]
            visible[:, b] += np.bincount(node, samples.weight[row], count)
            targets = [nodes.maps[layer].ravel()[pixel] for layer in nodes.layers(b)]
            # A sample on a mug but on none of its parts is not unmasked in the parts' layer.
            off = np.all([target < 0 for target in targets], axis=0)
            for layer, target in zip(nodes.layers(b), targets, strict=True):
                weight = samples.weight[row] * confidence[layer].ravel()[pixel]
                seen[:, layer] += np.bincount(node, weight, count)
                unmasked[:, layer] += np.bincount(node, weight * off, count)
                masked = target >= 0
                on.append((node[masked], target[masked], weight[masked].astype(np.float64)))
        hits = hits + _summed(on, count)
        hidden = hidden + _summed(behind, count)
    hits, hidden = sparse.csr_array(hits), sparse.csr_array(hidden)
    return Overlap(samples, hits, hidden, seen, unmasked, _is_enough(visible, samples))


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


_Entries = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.float64]]
_NOTHING: _Entries = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def _summed(entries: list[_Entries], count: int) -> sparse.csr_array:
    """(count, count) sums of the values of (rows, columns, values)."""
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    return sparse.csr_array((value, (row, column)), shape=(count, count))


def visible_masks(nodes: MaskNodes, samples: Samples) -> NDArray[np.bool_]:
    """(M, N) as ``visible`` of :class:`Overlap`."""
    visible = np.zeros((len(nodes), nodes.views), np.float32)
    for b in range(nodes.views):
        for row, _, here in _looks(samples, b):
            row = row[here]
            visible[:, b] += np.bincount(samples.node[row], samples.weight[row], len(nodes))
    return _is_enough(visible, samples)


def _is_enough(visible: NDArray[np.float32], samples: Samples) -> NDArray[np.bool_]:
    # A view must see a tenth of a mask, or more, before one of its own is missed there.
    return visible / np.maximum(samples.mass, 1e-6)[:, None] >= 0.1


def overlap_evidence(nodes: MaskNodes, overlap: Overlap) -> Evidence:
    """What the lifted masks say of two masks being of one object.

    The overlap is the intersection over union of the parts that both views see. What only one of
    the two can see says nothing, and what is seen of a mask's outline alone says little.
    """
    # Samples on no mask count half: the view's mask may be missing.
    visible = (overlap.seen - 0.5 * overlap.unmasked).astype(np.float64)
    support = visible / (visible + 6.0)  # half at six samples
    # Of less than 0.15 of a mask, a view sees little more than the outline.
    support *= np.minimum(1.0, visible / np.maximum(0.15 * overlap.samples.mass, 0.5)[:, None])
    # Where little is seen of a whole, its part must not be taken for all of it.
    inner, outer = nodes.nested()
    np.minimum.at(support, inner, support[outer])
    i, j = overlapping_pairs(overlap.hits)
    share, seen = [], []
    for one, other in ((i, j), (j, i)):
        layer = nodes.layer[other]
        hits = values_at(overlap.hits, one, other)
        share.append(hits / np.maximum(visible[one, layer], 1e-6))
        seen.append(support[one, layer] > 0)
    # Where one of the two sees nothing of the other, the other's share stands for both.
    there = np.where(seen[0], share[0], share[1])
    back = np.where(seen[1], share[1], share[0])
    iou = there * back / np.maximum(there + back - there * back, 1e-6)
    # Of a mask and its largest part the one that overlaps more is the right one: with nested
    # masks, an overlap of SAME is not the end of the scale.
    nested = np.zeros(len(nodes), np.bool_)
    nested[inner], nested[outer] = True, True
    affinity = np.where(nested[i] | nested[j], agreement(iou, 0.85), agreement(iou))
    both = 0.5 * (support[i, nodes.layer[j]] + support[j, nodes.layer[i]])
    # A mask one or two pixels wide is all outline, of a mean confidence below 0.34. Of two such
    # masks side by side as much of either lies on the other as on itself.
    thin = overlap.samples.mass < 0.34 * overlap.samples.count
    thin = thin[i] & thin[j]
    overlap_affinity = np.where(thin, both, both * (1.0 + affinity))
    overlap_support = np.where(thin, -both, 0.0)
    return Evidence.of_pairs(support, nodes.layer, i, j, overlap_affinity, overlap_support)


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
