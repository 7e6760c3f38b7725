"""Local features of images and their matches, for the back ends that relate views by them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.resizing import pixel_at, size_within


def root_sift(
    gray: NDArray[np.uint8], max_count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(M, 2) pixels of SIFT features (Lowe, IJCV 2004) and their (M, 128) RootSIFT descriptors
    (Arandjelovic and Zisserman, CVPR 2012) of unit length."""
    sift = cv2.SIFT_create(max_count)  # pyright: ignore[reportAttributeAccessIssue]
    return _rooted(sift, gray)


def affine_sift(
    gray: NDArray[np.uint8], max_count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The same, of up to ``max_count`` features in each of 17 images as the surface would be seen
    from aside (Morel and Yu, SIAM J. Imaging Sciences 2009), by up to 60 degrees or more between
    two views: a place has several descriptors. Ten times the cost."""
    sift = cv2.SIFT_create(max_count)  # pyright: ignore[reportAttributeAccessIssue]
    # Tilts of 1, 1.4, 2 and 2.8 between one view and what it stands for.
    affine = cv2.AffineFeature_create(  # pyright: ignore[reportAttributeAccessIssue]
        sift, maxTilt=3, minTilt=0
    )
    return _rooted(affine, gray)


MEGAPIXELS = 1.0
"""Features are looked for in images of at most this size. SIFT takes 500 bytes a pixel, and finds
the largest octave at twice the size anyway."""


def _rooted(detector: Any, gray: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray]:
    full = gray.shape[:2]
    size = size_within(full, MEGAPIXELS)
    if size != full:
        gray = np.asarray(cv2.resize(gray, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    found, descriptors = detector.detectAndCompute(gray, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))
    uv = np.array([keypoint.pt for keypoint in found], np.float64)
    return np.column_stack(pixel_at(uv[:, 0], uv[:, 1], size, full)), root


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


SAME_PLACE = 3.0
"""Features nearer to each other than this [px] are descriptions of one place."""


def match_places(
    uv_a: NDArray[np.float64],
    a: NDArray[np.float32],
    uv_b: NDArray[np.float64],
    b: NDArray[np.float32],
    ratio: float = 0.85,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """:func:`match` of features (M, 2), (M, 128) of which several may describe one place: the
    second-best match is that to another place, mutual are matches of places, and two places match
    once."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similarity = a @ b.T
    best_b, best_a = similarity.argmax(axis=1), similarity.argmax(axis=0)
    index_a = np.arange(len(best_b))
    top = similarity[index_a, best_b]
    # Among the 32 best there is one of another place, unless that one is far worse anyway.
    few = min(32, len(b))
    near = np.argpartition(similarity, -few, axis=1)[:, -few:]
    apart = np.linalg.norm(uv_b[near] - uv_b[best_b][:, None], axis=-1) > SAME_PLACE
    second = np.where(apart, np.take_along_axis(similarity, near, axis=1), -1.0).max(axis=1)
    keep = (1.0 - top) < ratio**2 * (1.0 - second)
    keep &= np.linalg.norm(uv_a[best_a[best_b]] - uv_a, axis=1) < SAME_PLACE
    index_a, index_b = index_a[keep], best_b[keep]
    cells = np.rint(np.concatenate([uv_a[index_a], uv_b[index_b]], axis=1) / SAME_PLACE)
    once = np.sort(np.unique(cells, axis=0, return_index=True)[1])
    return index_a[once], index_b[once]
