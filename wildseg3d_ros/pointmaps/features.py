"""Local features of images and their matches, for the back ends that relate views by them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def root_sift(
    gray: NDArray[np.uint8], max_count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(M, 2) pixels of SIFT features (Lowe, IJCV 2004) and their (M, 128) RootSIFT descriptors
    (Arandjelovic and Zisserman, CVPR 2012) of unit length."""
    sift = cv2.SIFT_create(max_count)  # pyright: ignore[reportAttributeAccessIssue]
    found, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))
    return np.array([keypoint.pt for keypoint in found]), root


def match(
    a: NDArray[np.float32], b: NDArray[np.float32], ratio: float = 0.85
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices into descriptors (M, 128) and (L, 128) of unit length: mutual nearest neighbours
    whose distance is at most ``ratio`` times that to the second-best match (Lowe, IJCV 2004,
    section 7.1: 0.8)."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similarity = a @ b.T
    best_b = similarity.argmax(axis=1)
    best_a = similarity.argmax(axis=0)
    index_a = np.arange(len(best_b))
    top = similarity[index_a, best_b]
    similarity[index_a, best_b] = -1.0
    second = similarity.max(axis=1)
    # Squared distances of unit vectors are 2 - 2 s.
    distinct = (1.0 - top) < ratio**2 * (1.0 - second)
    keep = distinct & (best_a[best_b] == index_a)
    return index_a[keep], best_b[keep]
