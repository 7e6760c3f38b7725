"""Labelled voxels drawn into a view, their outlines moved to the edges of its image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.masks.surface.objects import UNKNOWN
from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.voxels import VoxelCloud

GROWTH = 12
"""A mask can grow by this much over pixels without depth [px]: shadows beside an object are wider
than anything that its own depth lacks."""
BAND = 3
"""Half width of the band in which the outline is open [px]: depth edges are this beyond off."""


def voxels_in_view(
    observation: Observation, cloud: VoxelCloud, own: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(h, w) voxel that each working pixel shows, -1 = none.

    Where the view has depth its own point says what is there, sharper than drawn voxels do.

    Args:
        own: (h, w) voxels that the pixels' own points lie in, -1 = none.
    """
    seen = _splat(
        cloud.points, cloud.size, observation.world_from_cam, observation.K, observation.size
    )
    return np.where(own >= 0, own, seen)


def draw_labels(
    image: NDArray[np.uint8],
    observation: Observation,
    seen: NDArray[np.int32],
    labels: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(H, W) labels and soft scores of a view at full resolution.

    Args:
        image: (H, W, 3) uint8 RGB.
        seen: (h, w) as of :func:`voxels_in_view`.
        labels: (V,) of the voxels: 0 background, 1, 2, ... objects, or UNKNOWN.
    """
    height, width = observation.full_size
    h, w = observation.size
    projected = np.where(seen >= 0, labels[seen], UNKNOWN).astype(np.int32)
    if observation.stride > 1:
        image = np.asarray(cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
    label, score = _refine(image, projected)
    if observation.stride > 1:
        size = (width, height)
        label = cv2.resize(label.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        score = cv2.resize(score, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(label, np.int32), np.asarray(score, np.float32).clip(0.0, 1.0)


def _splat(
    points: NDArray[np.float32],
    point_size: float,
    world_from_cam: NDArray[np.float64],
    K: NDArray[np.float64],
    size: tuple[int, int],
    max_edge: int = 15,
) -> NDArray[np.int32]:
    """Draws points as squares of their true size; the nearest one wins a pixel.

    Args:
        points: (M, 3) world points.
        point_size: edge of the square that a point stands for, scene units.
        world_from_cam, K: the camera, K at the resolution of the drawing.
        size: (h, w) of the drawing.
        max_edge: largest edge of a drawn square [px].

    Returns:
        (h, w) int32 index of the point that each pixel shows, -1 for none.
    """
    height, width = size
    index = np.full(height * width, -1, np.int32)
    buffer = np.full(height * width, np.inf, np.float32)
    uv, z = project(apply(invert(world_from_cam), points.astype(np.float32)), K)
    with np.errstate(invalid="ignore"):
        in_image = (uv > -max_edge) & (uv < np.array([width, height]) + max_edge)
        seen = np.nonzero((z > 0) & in_image.all(axis=1))[0]
    # Far points first: of several writes to one pixel NumPy keeps the last, the nearest.
    seen = seen[np.argsort(-z[seen], kind="stable")]
    uv, z = uv[seen], z[seen]
    edge = np.clip(np.ceil(point_size * K[0, 0] / z), 1, max_edge).astype(np.int64)
    col = np.rint(uv[:, 0] - (edge - 1) / 2).astype(np.int64)
    row = np.rint(uv[:, 1] - (edge - 1) / 2).astype(np.int64)
    for dy in range(int(edge.max(initial=0))):
        for dx in range(int(edge.max(initial=0))):
            part = (edge > dy) & (edge > dx)
            r, c = row[part] + dy, col[part] + dx
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            flat = r[inside] * width + c[inside]
            depth, point = z[part][inside], seen[part][inside]
            nearer = depth < buffer[flat]
            flat, depth, point = flat[nearer], depth[nearer], point[nearer]
            buffer[flat] = depth
            index[flat] = point
    return index.reshape(size)


def _refine(
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
        margin = GROWTH + 8
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
    """(h, w) mask and score of one object in its window; a score is low where the cut and the
    projection disagree."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    elsewhere = (projected >= 0) & (mask == 0)
    closed = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)))
    closed[elsewhere] = 0
    inner = cv2.erode(closed, cross, iterations=BAND)
    others = cv2.erode(elsewhere.astype(np.uint8), cross, iterations=BAND)
    # Far from the projection nothing can be part of the object, whatever its colour.
    beyond = cv2.dilate(closed, np.ones((3, 3), np.uint8), iterations=GROWTH) == 0
    trimap = np.full(mask.shape, cv2.GC_PR_BGD, np.uint8)
    trimap[closed > 0] = cv2.GC_PR_FGD
    trimap[inner > 0] = cv2.GC_FGD
    trimap[(others > 0) | beyond] = cv2.GC_BGD
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
