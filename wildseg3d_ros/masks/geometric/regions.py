"""Regions of each image, as votes on which neighbouring voxels belong together."""

from __future__ import annotations

from collections.abc import Sequence

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
    lab = cv2.resize(
        cv2.GaussianBlur(observation.lab, (0, 0), 1.0), half, interpolation=cv2.INTER_AREA
    )
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


def links_over_gaps(
    cloud: VoxelCloud,
    patches: Supervoxels,
    regions: list[NDArray[np.int64]],
    observations: Sequence[Observation],
    reach: float,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Patches that do not touch but meet in an image, inside one region of it.

    The wall of a cup and its inside, or the two halves of something behind a pole: where surface is
    interrupted but the picture is not, the parts belong together.

    Args:
        reach: largest distance of the patches, scene units.

    Returns:
        (G, 2) int32 pairs a < b, and the (G,) length over which they meet, in voxel edges.
    """
    count = len(patches)
    known = np.sort(patches.edges[:, 0].astype(np.int64) * count + patches.edges[:, 1])
    keys, lengths = [], []
    for view, (region, observation) in enumerate(zip(regions, observations, strict=True)):
        width = observation.size[1]
        seen = np.nonzero(cloud.pixels[:, view] >= 0)[0]
        row, col = np.divmod(cloud.pixels[seen, view], width)
        grid = np.full(region.shape, -1, np.int64)
        grid[row // 2, col // 2] = patches.of_voxel[seen]
        edge = 2.0 * observation.depth.ravel()[cloud.pixels[seen, view]] / observation.K[0, 0]
        span = 3.0 * float(np.median(edge)) / cloud.size if len(seen) else 0.0
        for step in ((0, 1), (1, 0), (0, 2), (2, 0)):
            one, other = (_shifted(array, step) for array in (grid, region))
            a, b = one
            meet = (a >= 0) & (b >= 0) & (a != b) & (other[0] == other[1])
            low, high = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
            keys.append(low * count + high)
            lengths.append(np.full(len(low), span))
    key, index, hits = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    length = np.bincount(index.reshape(-1), np.concatenate(lengths), len(key))
    pairs = np.stack([key // count, key % count], axis=1)
    apart = np.linalg.norm(patches.centres[pairs[:, 0]] - patches.centres[pairs[:, 1]], axis=1)
    new = ~np.isin(key, known) & (apart < reach)
    # The length is that of one view: more views of one gap do not make it longer.
    return pairs[new].astype(np.int32), length[new] / np.maximum(1.0, np.sqrt(len(regions)))


def _shifted(array: NDArray, step: tuple[int, int]) -> tuple[NDArray, NDArray]:
    down, right = step
    height, width = array.shape
    return array[: height - down, : width - right], array[down:, right:]
