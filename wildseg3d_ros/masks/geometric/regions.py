"""Regions of each image, as votes on which neighbouring voxels belong together."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from wildseg3d_ros.masks.geometric.observations import Observation
from wildseg3d_ros.masks.geometric.supervoxels import Supervoxels
from wildseg3d_ros.masks.geometric.voxels import VoxelCloud


def image_regions(observation: Observation, scale: float = 0.6) -> NDArray[np.int64]:
    """(h/2, w/2) region of each pixel at half the working resolution.

    Felzenszwalb and Huttenlocher, "Efficient graph-based image segmentation", IJCV 2004: a region
    borders on another where the step between them exceeds the steps inside both.
    """
    height, width = observation.size
    half = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
    lab = cv2.resize(cv2.GaussianBlur(observation.lab, (0, 0), 1.0), half, interpolation=cv2.INTER_AREA)
    smallest = max(4, half[0] * half[1] // 2000)
    return felzenszwalb(
        lab.astype(np.float64) / 100.0, scale=scale, sigma=0.5, min_size=smallest, channel_axis=2
    )


def region_votes(
    cloud: VoxelCloud,
    patches: Supervoxels,
    regions: list[NDArray[np.int64]],
    widths: list[int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Votes per supervoxel edge: of (E,) pairs seen together, how many lie in one region.

    Args:
        regions: per view, as :func:`image_regions`.
        widths: width of each view at the working resolution.

    Returns:
        (E,) number of (voxel edge, view) pairs in one region, and (E,) of all such pairs.
    """
    a, b = patches.of_voxel[cloud.edges].T
    low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b)
    crossing = np.nonzero(low != high)[0]
    keys = patches.edges[:, 0].astype(np.int64) * len(patches) + patches.edges[:, 1]
    edge = np.searchsorted(keys, low[crossing] * len(patches) + high[crossing])
    first, second = cloud.edges[crossing].T
    same, both = np.zeros(len(keys)), np.zeros(len(keys))
    for view, (region, width) in enumerate(zip(regions, widths, strict=True)):
        pixel = cloud.pixels[:, view]
        seen = pixel >= 0
        name = np.full(len(cloud), -1, np.int64)
        row, col = pixel[seen] // width // 2, pixel[seen] % width // 2
        name[seen] = region[row, col]
        one, other = name[first], name[second]
        together = (one >= 0) & (other >= 0)
        both += np.bincount(edge[together], minlength=len(keys))
        same += np.bincount(edge[together & (one == other)], minlength=len(keys))
    return same, both
