"""Labelled voxels drawn into a view, their outlines moved to the edges of its image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.objects import UNKNOWN
from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.projection import splat
from wildseg3d_ros.masks.surface.refinement import refine
from wildseg3d_ros.masks.surface.voxels import VoxelCloud


def voxels_in_view(
    observation: Observation, cloud: VoxelCloud, own: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(h, w) voxel that each working pixel shows, -1 = none.

    Where the view has depth its own point says what is there, sharper than drawn voxels do.

    Args:
        own: (h, w) voxels that the pixels' own points lie in, -1 = none.
    """
    seen, _ = splat(
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
    label, score = refine(image, projected)
    if observation.stride > 1:
        size = (width, height)
        label = cv2.resize(label.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        score = cv2.resize(score, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(label, np.int32), np.asarray(score, np.float32).clip(0.0, 1.0)
