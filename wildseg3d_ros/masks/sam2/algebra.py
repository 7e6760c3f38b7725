"""What is done with masks after a network made them: quality, duplicates, clean-up, hierarchy.

After the automatic mask generation of Segment Anything (Kirillov et al., ICCV 2023, appendix B).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.association.nodes import INSIDE

if TYPE_CHECKING:
    import torch


SHARED = 0.05
"""Share of a mask that another one of its layer may take: outlines of neighbours cross."""


def stability(logits: torch.Tensor, offset: float) -> torch.Tensor:
    """(...) overlap of each (..., H, W) mask at threshold +offset with itself at -offset.

    The smaller mask lies in the larger one, so their areas are intersection and union. An empty
    mask is not stable: 0.
    """
    high = (logits > offset).flatten(-2).sum(-1)
    low = (logits > -offset).flatten(-2).sum(-1)
    return high / low.clamp(min=1)


def mask_boxes(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(K, 4) first and last column and row (u, v, u, v) of (K, H, W) masks; (0, 0, -1, -1) for
    empty ones."""
    columns, rows = np.asarray(masks.any(axis=1)), np.asarray(masks.any(axis=2))
    sides = (columns, rows, columns[:, ::-1], rows[:, ::-1])
    boxes = np.stack([side.argmax(axis=1) for side in sides], axis=1)
    boxes[:, 2:] = np.array([masks.shape[2], masks.shape[1]]) - 1 - boxes[:, 2:]
    boxes[~columns.any(axis=1)] = (0, 0, -1, -1)
    return boxes


def box_overlaps(box: NDArray[np.int64], boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) intersection over union of a box (4,) with (K, 4) others.

    Measured between the centres of the corner pixels, as the original does: a box of one row or
    column has no area, and overlaps nothing.
    """
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    both = np.maximum(sides, 0).prod(axis=1)
    area = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return both / np.maximum(area - both, 1)


def intersections(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K, K) common pixels of (K, H, W) masks; exact below 2^24 pixels."""
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2])
    both = np.zeros((len(masks), len(masks)))
    # As numbers, all pixels of all masks at once take four times the memory of the masks.
    for start in range(0, flat.shape[1], 8192):
        part = flat[:, start : start + 8192].astype(np.float32)
        both += part @ part.T
    return both


def suppress(
    boxes: NDArray[np.int64],
    quality: NDArray[np.floating],
    max_overlap: float,
    alike: Callable[[int, int], bool] = lambda _i, _j: True,
) -> NDArray[np.intp]:
    """Indices that are left, best first, when each drops those that are worse and whose boxes
    overlap its own by more than ``max_overlap``; of equals the first one stays.

    Args:
        boxes: (K, 4) first and last column and row (u, v, u, v).
        alike: asked of two of which one would be dropped, the better one first.
    """
    left = []
    dropped = np.zeros(len(quality), np.bool_)
    for i in np.argsort(-quality, kind="stable").tolist():
        if dropped[i]:
            continue
        left.append(i)
        dropped[i] = True
        near = np.flatnonzero(~dropped)
        near = near[box_overlaps(boxes[i], boxes[near]) > max_overlap]
        dropped[[j for j in near.tolist() if alike(i, j)]] = True
    return np.array(left, np.intp)


def clean(mask: NDArray[np.bool_], smallest: float) -> NDArray[np.bool_]:
    """The mask without islands and holes of fewer than ``smallest`` pixels.

    Islands are connected over corners, holes over edges, and the largest island stays whatever its
    size.
    """
    off = (~mask).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(off, connectivity=4)
    left, top, width, height, area = stats.T
    inner = (left > 0) & (top > 0)
    inner &= (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    small = inner & (area < smallest)
    small[0] = False  # the mask itself
    out = mask | np.isin(parts, np.flatnonzero(small)) if small.any() else mask.copy()
    _, parts, stats, _ = cv2.connectedComponentsWithStats(out.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    small = area < smallest
    small[0] = False  # what is off the mask
    if len(area) > 1:
        small[1 + area[1:].argmax()] = False
    return out & ~np.isin(parts, np.flatnonzero(small)) if small.any() else out


def parents(masks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(K,) smallest of the (K, H, W) masks that each mask is a part of, -1 for none.

    A part lies in its whole by INSIDE of its area, and is smaller by at least as much as two
    masks of one thing can differ.
    """
    if not len(masks):
        return np.zeros(0, np.intp)
    both = intersections(masks)
    area = np.diag(both)
    inside = (both >= INSIDE * area[:, None]) & (area[:, None] < INSIDE * area)
    inside[area == 0] = False
    size = np.where(inside, area, np.inf)
    return np.where(inside.any(axis=1), size.argmin(axis=1), -1)


def layers(
    masks: NDArray[np.bool_], quality: NDArray[np.floating], count: int
) -> NDArray[np.intp]:
    """(K,) layer of each of (K, H, W) masks, so that masks of one layer hardly share pixels.

    A mask lies in a later layer than the one that it is a part of. -1 for what is nested deeper
    than there are layers. Where more than ``count`` masks overlap at a pixel, the least is lost.
    """
    layer = np.full(len(masks), -1, np.intp)
    if not len(masks):
        return layer
    both, parent = intersections(masks), parents(masks)
    area = np.maximum(np.diag(both), 1)
    # A whole comes before its parts, and of others the better one first.
    for i in np.lexsort((-quality, -area)).tolist():
        first = 0 if parent[i] < 0 else layer[parent[i]] + 1
        if first >= count or (parent[i] >= 0 and first == 0):
            continue
        shared = both[i] / np.minimum(area, area[i])
        lost = [shared[layer == k].max(initial=0.0) for k in range(first, count)]
        free = np.flatnonzero(np.array(lost) <= SHARED)
        layer[i] = first + int(free[0] if len(free) else np.argmin(lost))
    return layer
