"""Masks of one view: projected clusters, moved to the edges of the image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

REACH = 12
"""A mask can grow by this much over pixels without depth [px]: shadows beside an object are wider
than anything that its own depth lacks."""
DOUBT = 3
"""Half width of the band in which the outline is open [px]: depth edges are this far off."""


def refine(
    image: NDArray[np.uint8], projected: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels and soft scores of a view at the resolution of the projection.

    GrabCut (Rother et al., SIGGRAPH 2004) around each object. The eroded projection is object, the
    eroded projection of everything else is background, and what no cluster covers stays open:
    sensors see no depth just where outlines are.

    Args:
        image: (h, w, 3) uint8 RGB.
        projected: (h, w) int32, 0 background, > 0 objects, UNKNOWN elsewhere.

    Returns:
        (h, w) int32 labels, 0 for background and unknown, and (h, w) float32 scores.
    """
    height, width = projected.shape
    labels = np.zeros((height, width), np.int32)
    best = np.zeros((height, width), np.float32)
    for name in np.unique(projected[projected > 0]).tolist():
        mask = (projected == name).astype(np.uint8)
        if mask.sum() < 12:
            continue
        col, row, w, h = cv2.boundingRect(mask)
        margin = REACH + 8
        window = (
            slice(max(row - margin, 0), min(row + h + margin, height)),
            slice(max(col - margin, 0), min(col + w + margin, width)),
        )
        inside, soft = _refine_object(image[window], mask[window], projected[window])
        better = inside & (soft > best[window])
        labels[window][better] = name
        best[window] = np.maximum(best[window], soft)
    return labels, best


def _refine_object(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], projected: NDArray[np.int32]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """(h, w) mask and score of one object inside its window; doubt is where the two disagree."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    elsewhere = (projected >= 0) & (mask == 0)
    closed = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)))
    closed[elsewhere] = 0
    inner = cv2.erode(closed, cross, iterations=DOUBT)
    others = cv2.erode(elsewhere.astype(np.uint8), cross, iterations=DOUBT)
    # Far from the projection nothing can be part of the object, whatever its colour.
    far = cv2.dilate(closed, np.ones((3, 3), np.uint8), iterations=REACH) == 0
    trimap = np.full(mask.shape, cv2.GC_PR_BGD, np.uint8)
    trimap[closed > 0] = cv2.GC_PR_FGD
    trimap[inner > 0] = cv2.GC_FGD
    trimap[(others > 0) | far] = cv2.GC_BGD
    result = closed
    # OpenCV fits five colours to each side.
    sides = np.bincount((trimap & 1).ravel(), minlength=2)
    if inner.any() and sides.min() >= 5:
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        window = np.ascontiguousarray(image)
        cv2.grabCut(window, trimap, (0, 0, 1, 1), *models, 1, cv2.GC_INIT_WITH_MASK)
        result = trimap & 1
    # A cut that disagrees with the geometry by this much has followed the wrong colours.
    before, after = closed > 0, result > 0
    if np.count_nonzero(before & after) < 0.5 * np.count_nonzero(before | after):
        result = closed
    trust = 0.75 * result.astype(np.float32) + 0.25 * closed.astype(np.float32)
    return result > 0, np.asarray(cv2.GaussianBlur(trust, (0, 0), 1.5), np.float32)
