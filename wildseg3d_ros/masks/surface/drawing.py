"""Labelled voxels drawn into a view, their outlines moved to the edges of its image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.masks.learned.network import PixelAffinities
from wildseg3d_ros.masks.surface.objects import UNKNOWN
from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.outlines import label_log_odds, outline_evidence
from wildseg3d_ros.masks.surface.voxels import VoxelCloud


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
    max_edge = 15
    uv, z = project(apply(invert(observation.world_from_cam), cloud.points), observation.K)
    with np.errstate(invalid="ignore"):
        in_image = (uv > -max_edge) & (uv < np.array([width, height]) + max_edge)
        seen = np.nonzero((z > 0) & in_image.all(axis=1))[0]
    # Far points first: of several writes to one pixel NumPy keeps the last, the nearest.
    seen = seen[np.argsort(-z[seen], kind="stable")]
    uv, z = uv[seen], z[seen]
    edge = np.ceil(cloud.size * observation.K[0, 0] / z).clip(1, max_edge).astype(np.int64)
    # The margin holds the corners of what is in the image by a part.
    margin = 2 * max_edge
    col, row = np.rint(uv - (edge[:, None] - 1) / 2).astype(np.int64).T + margin
    # A number is larger the nearer its point is, so a square's maximum is its nearest point.
    # OpenCV dilates no integers of 32 bits; float32 holds 16 million of them exactly.
    number = np.arange(1, len(seen) + 1, dtype=np.float32)
    nearest = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    for size in np.unique(edge).tolist():
        corners, part = np.zeros_like(nearest), edge == size
        corners[row[part], col[part]] = number[part]
        square, last = np.ones((size, size), np.uint8), (size - 1, size - 1)
        np.maximum(nearest, cv2.dilate(corners, square, anchor=last), out=nearest)
    nearest = nearest[margin : margin + height, margin : margin + width].astype(np.intp)
    index = np.concatenate([[-1], seen]).astype(np.int32)[nearest]
    return np.where(own >= 0, own, index)


def draw_labels(
    image: NDArray[np.uint8],
    observation: Observation,
    seen: NDArray[np.int32],
    labels: NDArray[np.int32],
    network: PixelAffinities | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(H, W) labels and soft scores of a view at full resolution.

    A score is the probability that the pixel is of its label, where there is none that it is of
    the likeliest object: calibrated on simulated scenes, given that the voxels are labelled right
    up to faults about the outlines.

    Args:
        image: (H, W, 3) uint8 RGB.
        seen: (h, w) as of :func:`voxels_in_view`.
        labels: (V,) of the voxels: 0 background, 1, 2, ... objects, or UNKNOWN.
        network: what it says of the view, if one was asked.
    """
    size, small = observation.full_size[::-1], observation.size[::-1]
    projected = np.where(seen >= 0, labels[seen], UNKNOWN).astype(np.int32)
    if observation.stride > 1:
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
    label, score, none = likeliest_labels(image, projected, network)
    label = np.where(score > none, label, 0)
    if observation.stride > 1:
        label = cv2.resize(label.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        score = cv2.resize(score, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(label, np.int32), np.asarray(score, np.float32).clip(0.0, 1.0)


def likeliest_labels(
    image: NDArray[np.uint8],
    projected: NDArray[np.int32],
    network: PixelAffinities | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """The likeliest object of each pixel, 0 where none is possible; its probability; that of none.

    Args:
        image: (h, w, 3) uint8 RGB.
        projected: (h, w), 0 on the background, > 0 on objects, else UNKNOWN.
        network: what it says of the view, if one was asked.
    """
    label = np.zeros(projected.size, np.int32)
    best = np.zeros(projected.size, np.float32)  # odds of the likeliest object
    total = np.ones(projected.size, np.float32)  # of all objects and of none
    for evidence in outline_evidence(image, projected, network):
        pixels = evidence.pixels
        odds = np.exp(label_log_odds(evidence).clip(-20.0, 20.0))
        total[pixels] += odds
        better = odds > best[pixels]
        best[pixels[better]], label[pixels[better]] = odds[better], evidence.labels[better]
    shape = projected.shape
    return label.reshape(shape), (best / total).reshape(shape), (1.0 / total).reshape(shape)


def leaves_in_view(
    observation: Observation,
    seen: NDArray[np.int32],
    labels: NDArray[np.int32],
    patches: NDArray[np.int32],
    drawn: NDArray[np.int32],
) -> NDArray[np.int32]:
    """(H, W) patch of each pixel at full resolution, -1 = none.

    A pixel has a patch of what is drawn there, an object or the background: the one that it
    shows, else the nearest such patch in the image. Where nothing is known, it has none.

    Args:
        seen: (h, w) as of :func:`voxels_in_view`.
        labels: (V,) of the voxels, as given to :func:`draw_labels`.
        patches: (V,) of the voxels.
        drawn: (H, W) labels as of :func:`draw_labels`.

    Raises:
        ValueError: a drawn object has no voxel in the view: other labels or another view.
    """
    if observation.stride > 1:
        size = observation.full_size[::-1]
        # As float64, for OpenCV resizes no int32 and float32 does not hold all indices.
        resized = cv2.resize(seen.astype(np.float64), size, interpolation=cv2.INTER_NEAREST)
        seen = np.asarray(resized, np.int32)
    shown = np.where(seen >= 0, patches[seen], -1).astype(np.int32)
    leaves = shown.copy()
    label = np.where(seen >= 0, labels[seen], UNKNOWN)
    moved = (drawn != label) & ((drawn > 0) | (label > 0))
    for name in np.unique(drawn[moved]).tolist():
        source, target = label == name, moved & (drawn == name)
        if source.any():
            _, nearest = cv2.distanceTransformWithLabels(
                (~source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
            )
            of_source = np.zeros(int(nearest.max()) + 1, np.int32)
            of_source[nearest[source]] = shown[source]
            leaves[target] = of_source[nearest[target]]
        elif name == 0:
            leaves[target] = -1
        else:
            raise ValueError(
                f"object {name} is drawn but no voxel of it is in the view: give the labels and "
                "the view that draw_labels was given"
            )
    return leaves
