"""Labelled voxels drawn into a view, their outlines moved to the edges of its image."""

from __future__ import annotations

import itertools

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

    Voxels are drawn as squares of their true size, 15 px at most; the nearest one wins a pixel.
    Where the view has depth its own point says what is there, sharper than drawn voxels do.

    Args:
        own: (h, w) voxels that the pixels' own points lie in, -1 = none.
    """
    height, width = observation.size
    index = np.full(height * width, -1, np.int32)
    buffer = np.full(height * width, np.inf, np.float32)
    max_edge = 15
    uv, z = project(apply(invert(observation.world_from_cam), cloud.points), observation.K)
    with np.errstate(invalid="ignore"):
        in_image = (uv > -max_edge) & (uv < np.array([width, height]) + max_edge)
        seen = np.nonzero((z > 0) & in_image.all(axis=1))[0]
    # Far points first: of several writes to one pixel NumPy keeps the last, the nearest.
    seen = seen[np.argsort(-z[seen], kind="stable")]
    uv, z = uv[seen], z[seen]
    edge = np.ceil(cloud.size * observation.K[0, 0] / z).clip(1, max_edge).astype(np.int64)
    col, row = np.rint(uv - (edge[:, None] - 1) / 2).astype(np.int64).T
    for dy, dx in itertools.product(range(int(edge.max(initial=0))), repeat=2):
        part = (edge > dy) & (edge > dx)
        r, c = row[part] + dy, col[part] + dx
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        flat = r[inside] * width + c[inside]
        depth, point = z[part][inside], seen[part][inside]
        nearer = depth < buffer[flat]
        buffer[flat[nearer]] = depth[nearer]
        index[flat[nearer]] = point[nearer]
    return np.where(own >= 0, own, index.reshape(height, width))


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
    size, small = observation.full_size[::-1], observation.size[::-1]
    projected = np.where(seen >= 0, labels[seen], UNKNOWN).astype(np.int32)
    if observation.stride > 1:
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
    label, score = _refine(image, projected)
    if observation.stride > 1:
        label = cv2.resize(label.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        score = cv2.resize(score, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(label, np.int32), np.asarray(score, np.float32).clip(0.0, 1.0)


def _refine(
    image: NDArray[np.uint8], projected: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels and soft scores of a view at the resolution of the projection.

    GrabCut (Rother et al., SIGGRAPH 2004) around each object. The eroded projection is object, the
    eroded projection of everything else is background, and what no cluster covers stays open:
    sensors see no depth just where outlines are. ``projected`` (h, w) is 0 on the background, > 0
    on objects, else UNKNOWN; labels are 0 on both of these.
    """
    labels = np.zeros(projected.shape, np.int32)
    best = np.zeros(projected.shape, np.float32)
    for name in np.unique(projected[projected > 0]).tolist():
        mask = (projected == name).astype(np.uint8)
        if mask.sum() < 12:
            continue
        col, row, w, h = cv2.boundingRect(mask)
        margin = GROWTH + 8
        top, left = max(row - margin, 0), max(col - margin, 0)
        window = np.s_[top : row + h + margin, left : col + w + margin]
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


def leaves_in_view(
    observation: Observation,
    seen: NDArray[np.int32],
    of_voxel: NDArray[np.int32],
    labels: NDArray[np.int32],
    mask: NDArray[np.int32],
) -> NDArray[np.int32]:
    """(H, W) patch of each pixel, -1 = none; a pixel of an object has one of the object's patches.

    Args:
        seen: (h, w) as of :func:`voxels_in_view`.
        of_voxel: (V,) patch of each voxel.
        labels: (V,) of the voxels, as of :func:`draw_labels`.
        mask: (H, W) labels as drawn.
    """
    size = observation.full_size[::-1]
    patch = np.where(seen >= 0, of_voxel[seen], -1)
    shown = np.where(seen >= 0, labels[seen], UNKNOWN)
    leaves, shown = (
        cv2.resize(each.astype(np.float32), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
        for each in (patch, shown)
    )
    for name in np.unique(mask[(mask > 0) & (mask != shown)]).tolist():
        row, column = np.nonzero((mask == name) | (shown == name))
        window = np.s_[row.min() : row.max() + 1, column.min() : column.max() + 1]
        mine = shown[window] == name
        wrong = (mask[window] == name) & ~mine
        _, nearest = cv2.distanceTransformWithLabels(
            (~mine).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        of_label = np.zeros(int(nearest.max()) + 1, np.int32)
        of_label[nearest[mine]] = leaves[window][mine]
        leaves[window][wrong] = of_label[nearest[wrong]]
    return leaves
