"""Regions of each image, as votes on which neighbouring voxels belong together."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from wildseg3d_ros.masks.surface.observations import Observation
from wildseg3d_ros.masks.surface.voxels import VoxelCloud


def image_regions(observation: Observation) -> NDArray[np.int64]:
    """(h/2, w/2) region of each pixel at half the working resolution.

    Felzenszwalb and Huttenlocher, "Efficient graph-based image segmentation", IJCV 2004: a region
    borders on another where the step between them exceeds the steps inside both.
    """
    height, width = observation.size
    half = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
    smooth = cv2.GaussianBlur(observation.lab, (0, 0), 1.0)
    lab = cv2.resize(smooth, half, interpolation=cv2.INTER_AREA).astype(np.float64) / 100.0
    # Smaller regions than 51 of 320x240 pixels join a neighbour. The images are smooth already:
    # sigma of 0.3 hardly adds to it.
    smallest = max(4, half[0] * half[1] // 1500)
    return felzenszwalb(lab, scale=100.0, sigma=0.3, min_size=smallest, channel_axis=2)


@dataclass(frozen=True, eq=False)
class Votes:
    """What the images say of neighbouring voxels.

    Attributes:
        same: (E,) float32 number of views in which the two ends of an edge lie in one region.
        both: (E,) float32 number of views that see both ends.
    """

    same: NDArray[np.float32]
    both: NDArray[np.float32]

    @property
    def share(self) -> NDArray[np.float32]:
        """(E,) share of the views in which both ends lie in one region; 1 where none sees both."""
        return ((self.same + 1.0) / (self.both + 1.0)).astype(np.float32)


def region_votes(cloud: VoxelCloud, regions: list[NDArray[np.int64]], widths: list[int]) -> Votes:
    """Votes per edge of the voxel graph.

    Args:
        regions: per view, as :func:`image_regions`.
        widths: width of each view at the working resolution.
    """
    first, second = cloud.edges.T
    same, both = np.zeros((2, len(first)), np.float32)
    for view, (region, width) in enumerate(zip(regions, widths, strict=True)):
        pixel = cloud.pixels[:, view]
        seen = pixel >= 0
        name = np.full(len(cloud), -1, np.int32)
        name[seen] = region[pixel[seen] // width // 2, pixel[seen] % width // 2]
        one, other = name[first], name[second]
        together = (one >= 0) & (other >= 0)
        both += together
        same += together & (one == other)
    return Votes(same, both)
