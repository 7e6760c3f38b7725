"""What the pointmaps say of two masks: masks lifted into the other views, occlusion respected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association.evidence import Evidence, values_at
from wildseg3d_ros.masks.association.nodes import MaskNodes

SAMPLES = 256
"""Points that stand for a mask; more of them change the shares below by less than 2 %."""
FEW = 6.0
"""Visible samples at which evidence counts half."""
OUTLINE = 0.12
"""Width of the band along its outline in which a mask is not sure, as a share of its size."""
SLIVER = 0.34
"""Mean sureness of a mask that is one or two pixels wide: all of it is outline."""
RIM = 0.15
"""Share of a mask below which what another view sees of it is little more than its outline."""
SAME = 0.8
"""Overlap from which two masks are surely of one surface; outlines differ by this much."""
CLEAR = 0.85
"""Evidence of that overlap for masks that have parts or are parts: of a mask and its largest part
the one that overlaps more is the right one."""
OTHER = 0.3
"""Overlap at which two masks are as likely of one object as not."""
APART = 0.25
"""Distance of points that are not of one surface, as a share of the median mask's size: where no
two views share a surface, what the views disagree by is the thickness of the objects."""
BARE = 0.5
"""Weight of samples that lie on no mask of the other view: masks are missing, too."""
_BLOCK = 1 << 16  # samples per pass: what one pass holds is bounded


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of the masks, node after node.

    Attributes:
        points: (P, 3) float32 world points.
        node: (P,) int64 mask of each point.
        view: (P,) uint16 view that it comes from.
        weight: (P,) float32 in (0, 1], sureness of the mask there.
        count: (M,) points of each node.
        mass: (M,) float32, their weights.
        reach: largest distance of points of one surface, scene units.
    """

    points: NDArray[np.float32]
    node: NDArray[np.int64]
    view: NDArray[np.uint16]
    weight: NDArray[np.float32]
    count: NDArray[np.int64]
    mass: NDArray[np.float32]
    reach: float

    def tolerance(
        self, visibility: Visibility, view: int, z: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How far depths of one surface lie apart as the view sees it at the depths ``z``."""
        return np.minimum(visibility.tolerance(view, z), np.float32(self.reach))

    def of(self, index: NDArray[np.int64]) -> Samples:
        """The points of some masks, which are numbered anew."""
        table = np.full(len(self.count), -1)
        table[index] = np.arange(len(index))
        mine = table[self.node] >= 0
        return Samples(
            self.points[mine],
            table[self.node[mine]],
            self.view[mine],
            self.weight[mine],
            self.count[index],
            self.mass[index],
            self.reach,
        )


@dataclass(frozen=True, eq=False)
class Overlap:
    """Masks lifted into the other views.

    Attributes:
        hits: (M, M) float64, samples of the row's mask that the column's view sees on the
            column's mask, by the sureness of both masks there.
        hidden: (M, M) float64, samples of the row's mask that lie behind the column's mask in its
            view.
        seen: (M, S) float32, samples of a mask that the sheet's view sees, on a mask or on none,
            by how sure the mask and the sheet are there.
        bare: (M, S) float32, the same of those that are on no mask of the view.
        shown: (M, N) float32 in [0, 1], share of the mask, by its own sureness, that the view
            sees.
        count: (M,) samples of each mask.
        mass: (M,) float32, the same by sureness.
    """

    hits: sparse.csr_array
    hidden: sparse.csr_array
    seen: NDArray[np.float32]
    bare: NDArray[np.float32]
    shown: NDArray[np.float32]
    count: NDArray[np.int64]
    mass: NDArray[np.float32]

    def of(self, index: NDArray[np.int64], sheets: NDArray[np.int64]) -> Overlap:
        """That of some masks with each other, numbered anew, and some sheets."""
        pick = np.ix_(index, sheets)
        return Overlap(
            sparse.csr_array(self.hits[index][:, index]),
            sparse.csr_array(self.hidden[index][:, index]),
            self.seen[pick],
            self.bare[pick],
            self.shown[index],
            self.count[index],
            self.mass[index],
        )


def sureness(nodes: MaskNodes) -> tuple[NDArray[np.float32], ...]:
    """Per sheet (H, W) float32 in (0, 1]: 1 inside masks and off them, near 0 along outlines.

    Outlines are where masks are wrong, depths are mixed, and errors of the poses tell.
    """
    sure = []
    for owner in nodes.maps:
        uniform = np.ones(owner.shape, np.uint8)
        for axis in (0, 1):
            step = np.diff(owner, axis=axis) != 0
            before = [slice(None), slice(None)]
            after = [slice(None), slice(None)]
            before[axis], after[axis] = slice(None, -1), slice(1, None)
            uniform[tuple(before)][step] = 0
            uniform[tuple(after)][step] = 0
        depth = np.asarray(cv2.distanceTransform(uniform, cv2.DIST_L2, 3), np.float32)
        width = np.append(OUTLINE * np.sqrt(nodes.area), 0.0).astype(np.float32) + 1.0
        width[-1] = float(np.median(width))
        sure.append(np.minimum((depth + 0.5) / (width[owner] + 0.5), 1.0))
    return tuple(sure)


def draw_samples(
    nodes: MaskNodes,
    world: WorldPointmaps,
    sure: tuple[NDArray[np.float32], ...],
    visibility: Visibility,
    most: int = SAMPLES,
) -> Samples:
    """At most ``most`` points per mask, evenly over its pixels."""
    points, owners, views, weights = [], [], [], []
    for sheet, owner in enumerate(nodes.maps):
        v = int(nodes.sheet_view[sheet])
        pixel = np.flatnonzero((owner >= 0) & world.valid(v))
        node = owner.ravel()[pixel]
        # A radix sort: the masks of a view are fewer than 2^16.
        order = np.argsort((node - nodes.offsets[v]).astype(np.uint16), kind="stable")
        pixel, node = pixel[order], node[order]
        count = np.bincount(node, minlength=len(nodes))
        rank = np.arange(len(node)) - (np.cumsum(count) - count)[node]
        # Pixel k of n is taken where k * most / n steps to the next whole number.
        share = np.minimum(most / np.maximum(count, 1), 1.0)[node]
        chosen = np.floor((rank + 1) * share + 1e-9) > np.floor(rank * share + 1e-9)
        points.append(world.points[v].reshape(-1, 3)[pixel[chosen]].astype(np.float32))
        owners.append(node[chosen].astype(np.int64))
        views.append(np.full(len(owners[-1]), v, np.uint16))
        weights.append(sure[sheet].ravel()[pixel[chosen]])
    point, view = np.concatenate(points), np.concatenate(views)
    node, weight = np.concatenate(owners), np.concatenate(weights)
    count = np.bincount(node, minlength=len(nodes))
    distance = np.linalg.norm(point - visibility.centres[view], axis=1)
    footprint = np.bincount(node, distance / visibility.focal[view], len(nodes))
    size = footprint / np.maximum(count, 1) * np.sqrt(nodes.area)
    return Samples(
        point,
        node,
        view,
        weight,
        count,
        np.bincount(node, weight, len(nodes)).astype(np.float32),
        APART * float(np.median(size[count > 0])) if len(point) else 0.0,
    )


def measure_overlap(
    nodes: MaskNodes,
    samples: Samples,
    sure: tuple[NDArray[np.float32], ...],
    visibility: Visibility,
) -> Overlap:
    """Looks at the samples of every mask from all other views."""
    count = len(nodes)
    seen, bare = np.zeros((2, count, len(nodes.maps)), np.float32)
    shown = np.zeros((count, nodes.views), np.float32)
    hits, hidden = sparse.csr_array((count, count)), sparse.csr_array((count, count))
    for b in range(nodes.views):
        on, behind = [_NOTHING], [_NOTHING]
        for row, pixel, here in _looks(samples, visibility, b):
            node, depth = samples.node[row], ~here
            for sheet in nodes.sheets(b):
                target = nodes.maps[sheet].ravel()[pixel[depth]]
                held = target >= 0
                behind.append((node[depth][held], target[held], np.ones(np.count_nonzero(held))))
            row, pixel, node = row[here], pixel[here], node[here]
            shown[:, b] += np.bincount(node, samples.weight[row], count)
            # What lies on no part of a mug lies on the mug all the same: its masks are not
            # missing.
            off = np.ones(len(pixel), np.bool_)
            for sheet in nodes.sheets(b):
                off &= nodes.maps[sheet].ravel()[pixel] < 0
            for sheet in nodes.sheets(b):
                target = nodes.maps[sheet].ravel()[pixel]
                weight = samples.weight[row] * sure[sheet].ravel()[pixel]
                seen[:, sheet] += np.bincount(node, weight, count)
                bare[:, sheet] += np.bincount(node, weight * off, count)
                held = target >= 0
                on.append((node[held], target[held], weight[held].astype(np.float64)))
        hits = hits + _summed(on, count)
        hidden = hidden + _summed(behind, count)
    shown /= np.maximum(samples.mass, 1e-6)[:, None]
    return Overlap(
        sparse.csr_array(hits),
        sparse.csr_array(hidden),
        seen,
        bare,
        shown,
        samples.count,
        samples.mass,
    )


def _looks(
    samples: Samples, visibility: Visibility, view: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]]:
    """Block by block, the samples of the other views that a view sees or has something before:
    their rows, their pixels, and whether they are seen."""
    for start in range(0, len(samples.node), _BLOCK):
        block = slice(start, start + _BLOCK)
        row, z, pixel = visibility.look(view, samples.points[block], samples.view[block])
        measured = visibility.depth[view].ravel()[pixel]
        tolerance = samples.tolerance(visibility, view, z)
        here = np.abs(measured - z) < tolerance
        known = (measured > 0) & (here | (measured < z - tolerance))
        yield start + row[known], pixel[known], here[known]


_Entries = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.float64]]
_NOTHING: _Entries = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def _summed(entries: list[_Entries], count: int) -> sparse.csr_array:
    """(count, count) sums of the values of (rows, columns, values)."""
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    return sparse.csr_array((value, (row, column)), shape=(count, count))


def shown_in_views(
    nodes: MaskNodes, samples: Samples, visibility: Visibility
) -> NDArray[np.float32]:
    """(M, N) float32 in [0, 1], share of each mask, by its sureness, that each view sees."""
    shown = np.zeros((len(nodes), nodes.views), np.float32)
    for b in range(nodes.views):
        for row, _, here in _looks(samples, visibility, b):
            row = row[here]
            shown[:, b] += np.bincount(samples.node[row], samples.weight[row], len(nodes))
    return (shown / np.maximum(samples.mass, 1e-6)[:, None]).astype(np.float32)


def overlap_evidence(nodes: MaskNodes, overlap: Overlap) -> Evidence:
    """What the lifted masks say of two masks being of one object.

    The overlap is the intersection over union of the parts that both views see. What only one of
    the two can see says nothing, and what is seen of a mask's rim alone says little.
    """
    visible = (overlap.seen - (1.0 - BARE) * overlap.bare).astype(np.float64)
    amount = visible / (visible + FEW)
    amount *= np.minimum(1.0, visible / np.maximum(RIM * overlap.mass, 0.5)[:, None])
    # Where little is seen of a whole, its part must not be taken for all of it.
    child, holder = nodes.nested()
    np.minimum.at(amount, child, amount[holder])
    i, j = meeting_pairs(overlap.hits)
    share, seen = [], []
    for one, other in ((i, j), (j, i)):
        sheet = nodes.sheet[other]
        hits = values_at(overlap.hits, one, other)
        share.append(hits / np.maximum(visible[one, sheet], 1e-6))
        seen.append(amount[one, sheet] > 0)
    # Where one of the two sees nothing of the other, the other's word stands for both.
    there = np.where(seen[0], share[0], share[1])
    back = np.where(seen[1], share[1], share[0])
    iou = there * back / np.maximum(there + back - there * back, 1e-6)
    layered = np.zeros(len(nodes), np.bool_)
    layered[child], layered[holder] = True, True
    weight = np.where(layered[i] | layered[j], agreement(iou, CLEAR), agreement(iou))
    both = 0.5 * (amount[i, nodes.sheet[j]] + amount[j, nodes.sheet[i]])
    # Of two slivers side by side as much of either lies on the other as on itself.
    sliver = overlap.mass < SLIVER * overlap.count
    sliver = sliver[i] & sliver[j]
    meeting = np.where(sliver, both, both * (1.0 + weight))
    return Evidence.of_pairs(amount, nodes.sheet, i, j, meeting, np.where(sliver, -both, 0.0))


def meeting_pairs(
    matrix: sparse.csr_array,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs i < j of which (i, j) or (j, i) is an entry of a sparse matrix."""
    entries = matrix.tocoo()
    low = np.minimum(entries.row, entries.col).astype(np.int64)
    high = np.maximum(entries.row, entries.col).astype(np.int64)
    count = int(high.max(initial=0)) + 1
    key = np.unique(low * count + high)
    return key // count, key % count


def agreement(iou: NDArray[np.floating], clear: float = 1.0) -> NDArray[np.float64]:
    """From -1 for masks that do not overlap over 0 at OTHER and ``clear`` at SAME to 1."""
    return np.interp(iou, [0.0, OTHER, SAME, 1.0], [-1.0, 0.0, clear, 1.0])
