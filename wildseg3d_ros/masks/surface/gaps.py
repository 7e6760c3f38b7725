"""Links between patches that do not touch but meet in an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.supervoxels import Supervoxels
from wildseg3d_ros.masks.surface.voxels import VoxelCloud


@dataclass(frozen=True, eq=False)
class Gaps:
    """Pairs of patches on two sides of a gap.

    Attributes:
        pairs: (G, 2) int32, a < b.
        lengths: (G,) length over which they meet, in voxel edges of one contact.
    """

    pairs: NDArray[np.int32]
    lengths: NDArray[np.float64]


def links_over_gaps(
    cloud: VoxelCloud,
    patches: Supervoxels,
    regions: list[NDArray[np.int64]],
    observations: Sequence[Observation],
    max_gap: float,
) -> Gaps:
    """Patches that do not touch but meet in an image, inside one region of it.

    Examples are the wall of a cup and its inside, or the two halves of something behind a pole:
    where the surface is interrupted but the image region is not, the parts belong together.

    Args:
        max_gap: maximum distance of the patches, scene units.
    """
    count = len(patches)
    known = np.sort(patches.edges[:, 0].astype(np.int64) * count + patches.edges[:, 1])
    keys, lengths = [], []
    for view, (region, observation) in enumerate(zip(regions, observations, strict=True)):
        seen = np.nonzero(cloud.pixels[:, view] >= 0)[0]
        row, col = np.divmod(cloud.pixels[seen, view], observation.size[1])
        grid = np.full(region.shape, -1, np.int64)
        grid[row // 2, col // 2] = patches.of_voxel[seen]
        edge = 2.0 * observation.depth.ravel()[cloud.pixels[seen, view]] / observation.K[0, 0]
        # In voxel edges, of which a contact crosses 3 per voxel of its length.
        span = 3.0 * float(np.median(edge)) / cloud.size if len(seen) else 0.0
        height, width = region.shape
        for down, right in ((0, 1), (1, 0), (0, 2), (2, 0)):
            ends = np.s_[: height - down, : width - right], np.s_[down:, right:]
            a, b = (grid[end] for end in ends)
            one, other = (region[end] for end in ends)
            meet = (a >= 0) & (b >= 0) & (a != b) & (one == other)
            low, high = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
            keys.append(low * count + high)
            lengths.append(np.full(len(low), span))
    key, index = np.unique(np.concatenate(keys), return_inverse=True)
    length = np.bincount(index.reshape(-1), np.concatenate(lengths), len(key))
    pairs = np.stack([key // count, key % count], axis=1)
    apart = np.linalg.norm(patches.centres[pairs[:, 0]] - patches.centres[pairs[:, 1]], axis=1)
    new = ~np.isin(key, known) & (apart < max_gap)
    # The length is that of one view: more views of one gap do not make it longer.
    return Gaps(pairs[new].astype(np.int32), length[new] / np.sqrt(len(regions)))
