"""What is done with masks after a network made them: quality, duplicates, clean-up, hierarchy.

After the automatic mask generation of Segment Anything (Kirillov et al., ICCV 2023, appendix B).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.association.nodes import INSIDE

if TYPE_CHECKING:
    import torch


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


def box_overlaps(boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K) intersection over union of (K, 4) boxes of inclusive pixels."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = np.maximum(high - low + 1, 0).prod(axis=2)
    area = np.maximum(boxes[:, 2:] - boxes[:, :2] + 1, 0).prod(axis=1)
    return both / np.maximum(area[:, None] + area - both, 1)


def intersections(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K, K) common pixels of (K, H, W) masks; exact below 2^24 pixels."""
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2])
    both = np.zeros((len(masks), len(masks)))
    # As numbers, all pixels of all masks at once take four times the memory of the masks.
    for start in range(0, flat.shape[1], 8192):
        part = flat[:, start : start + 8192].astype(np.float32)
        both += part @ part.T
    return both


def mask_overlaps(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K, K) intersection over union of (K, H, W) masks."""
    both = intersections(masks)
    area = np.diag(both)
    return both / np.maximum(area[:, None] + area - both, 1)


def suppress(
    overlaps: NDArray[np.float64], quality: NDArray[np.floating], max_overlap: float
) -> NDArray[np.intp]:
    """Indices that are left, best first, when each drops those that overlap it by more than
    ``max_overlap`` and are worse; of equals the first one stays."""
    left = []
    dropped = np.zeros(len(quality), np.bool_)
    for i in np.argsort(-quality, kind="stable"):
        if not dropped[i]:
            left.append(i)
            dropped |= overlaps[i] > max_overlap
    return np.array(left, np.intp)


def suppress_copies(
    masks: NDArray[np.bool_],
    quality: NDArray[np.floating],
    box_overlap: float,
    mask_overlap: float,
) -> NDArray[np.intp]:
    """Indices of (K, H, W) masks that are left, best first, without copies of better ones.

    Boxes tell most copies, cheaply, but a mug's rim has the box of the mug. So a copy must have
    the better one's area as well, and lie on it by half.

    Args:
        box_overlap: overlap of boxes beyond which two may be copies.
        mask_overlap: the same of the ratio of their areas, which bounds the masks' overlap.
    """
    overlaps = box_overlaps(mask_boxes(masks))
    area = np.count_nonzero(masks, axis=(1, 2))
    left = []
    dropped = np.zeros(len(quality), np.bool_)
    for i in np.argsort(-quality, kind="stable"):
        if dropped[i]:
            continue
        left.append(i)
        like = np.minimum(area, area[i]) > mask_overlap * np.maximum(area, area[i])
        like = np.flatnonzero(~dropped & like & (overlaps[i] > box_overlap))
        common = np.count_nonzero(masks[like] & masks[i], axis=(1, 2))
        dropped[like[2 * common > np.minimum(area[like], area[i])]] = True
        dropped[i] = True
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


def depths(parent: NDArray[np.intp]) -> NDArray[np.intp]:
    """(K,) number of masks that each one is nested in."""
    depth = np.zeros(len(parent), np.intp)
    above = parent
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parent[above], -1)
    return depth
