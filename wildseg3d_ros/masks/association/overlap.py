"""What the pointmaps say of two masks: masks lifted into the other views, occlusion respected."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.types import WorldPointmaps

SAMPLES = 256
"""Points that stand for a mask; more of them change the shares below by less than 2 %."""
FEW = 6.0
"""Visible samples at which evidence counts half."""
OUTLINE = 0.12
"""Width of the band along its outline in which a mask is not sure, as a share of its size."""
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
        hits: (M, M) float32, samples of the row's mask that the column's view sees on the
            column's mask, by the sureness of both masks there.
        seen: (M, S) float32, samples of a mask that the sheet's view sees, on a mask or on none,
            by how sure the mask and the sheet are there.
        bare: (M, S) float32, the same of those that are on no mask of the view.
        count: (M,) samples of each mask.
        mass: (M,) float32, the same by sureness.
    """

    hits: NDArray[np.float32]
    seen: NDArray[np.float32]
    bare: NDArray[np.float32]
    count: NDArray[np.int64]
    mass: NDArray[np.float32]

    def of(self, index: NDArray[np.int64], sheets: NDArray[np.int64]) -> Overlap:
        """That of some masks with each other, numbered anew, and some sheets."""
        pick = np.ix_(index, sheets)
        return Overlap(
            self.hits[np.ix_(index, index)],
            self.seen[pick],
            self.bare[pick],
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
) -> Samples:
    """At most SAMPLES points per mask, evenly over its pixels."""
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
        # Pixel k of n is taken where k * SAMPLES / n steps to the next whole number.
        share = np.minimum(SAMPLES / np.maximum(count, 1), 1.0)[node]
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
    hits = np.zeros((count, count), np.float32)
    seen, bare = np.zeros((2, count, len(nodes.maps)), np.float32)
    for b in range(nodes.views):
        row, z, pixel = visibility.look(b, samples.points, samples.view)
        measured = visibility.depth[b].ravel()[pixel]
        tolerance = samples.tolerance(visibility, b, z)
        here = (measured > 0) & (np.abs(measured - z) < tolerance)
        row, pixel = row[here], pixel[here]
        node = samples.node[row]
        # What lies on no part of a mug lies on the mug all the same: its masks are not missing.
        off = np.ones(len(pixel), np.bool_)
        for sheet in nodes.sheets(b):
            off &= nodes.maps[sheet].ravel()[pixel] < 0
        for sheet in nodes.sheets(b):
            target = nodes.maps[sheet].ravel()[pixel]
            weight = samples.weight[row] * sure[sheet].ravel()[pixel]
            seen[:, sheet] = np.bincount(node, weight, count)
            bare[:, sheet] = np.bincount(node, weight * off, count)
            mine = nodes.of_sheet(sheet)
            width = mine.stop - mine.start
            if width:
                on_mask = target >= 0
                key = node[on_mask] * width + (target[on_mask] - mine.start)
                sums = np.bincount(key, weight[on_mask], count * width)
                hits[:, mine] = sums.reshape(count, width)
    return Overlap(hits, seen, bare, samples.count, samples.mass)


def overlap_weights(
    nodes: MaskNodes, overlap: Overlap
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(M, M) evidence in [-1, 1] that two masks show one object, and its (M, M) amount in [0, 1].

    The overlap is the intersection over union of the parts that both views see. What only one of
    the two can see says nothing, and what is seen of a mask's rim alone says little.
    """
    visible = overlap.seen - (1.0 - BARE) * overlap.bare
    amount = visible / (visible + FEW)
    amount *= np.minimum(1.0, visible / np.maximum(RIM * overlap.mass, 0.5)[:, None])
    # Where little is seen of a whole, its part must not be taken for all of it.
    child, holder = nodes.nested()
    np.minimum.at(amount, child, amount[holder])
    amount = amount[:, nodes.sheet]
    share = overlap.hits / np.maximum(visible[:, nodes.sheet], 1e-6)
    # Where one of the two sees nothing of the other, the other's word stands for both.
    share = np.where(amount > 0, share, share.T)
    both = np.maximum(share + share.T - share * share.T, 1e-6)
    iou = (share * share.T / both).astype(np.float32)
    weight = agreement(iou)
    if len(child):
        layered = np.isin(np.arange(len(nodes)), [*child, *holder])
        weight = np.where(layered[:, None] | layered, agreement(iou, CLEAR), weight)
    amount = (0.5 * (amount + amount.T)).astype(np.float32)
    amount[nodes.view[:, None] == nodes.view] = 0.0
    return amount * weight, amount


def agreement(iou: NDArray[np.float32], clear: float = 1.0) -> NDArray[np.float32]:
    """From -1 for masks that do not overlap over 0 at OTHER and ``clear`` at SAME to 1."""
    return np.interp(iou, [0.0, OTHER, SAME, 1.0], [-1.0, 0.0, clear, 1.0]).astype(np.float32)
