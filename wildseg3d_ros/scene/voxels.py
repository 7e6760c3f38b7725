"""Clouds thinned to one point per voxel."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.voxel_grid import MAX_CELLS, VoxelGrid
from wildseg3d_ros.core.types import ObjectCloud


def voxel_downsample(cloud: ObjectCloud, voxel_size: float) -> ObjectCloud:
    """A cloud with one point per occupied voxel.

    Points, colours and confidences are averaged, the number of views is the largest. Voxels are
    those of a grid through the origin of the cloud's frame, so clouds of one frame stay
    comparable.

    Args:
        cloud: any answer.
        voxel_size: edge in the cloud's unit; 0 leaves the cloud as it is.

    Raises:
        PromptError: the size is negative, not finite, or too small for the cloud's extent.
    """
    check_voxel_size(voxel_size)
    if voxel_size == 0 or len(cloud) == 0:
        return cloud
    cells = requested_grid(cloud.points, voxel_size)
    return dataclasses.replace(
        cloud,
        points=cells.mean(cloud.points).astype(np.float32),
        colors=np.rint(cells.mean(cloud.colors)).astype(np.uint8),
        confidence=cells.mean(cloud.confidence[:, None])[:, 0].astype(np.float32),
        view_count=cells.reduce(np.maximum, cloud.view_count),
    )


def check_voxel_size(voxel_size: float, name: str = "voxel_size") -> None:
    """Raises PromptError unless the size is 0 or more."""
    if not np.isfinite(voxel_size) or voxel_size < 0:
        raise PromptError(f"{name} must be 0 or more metres, got {voxel_size}")


def requested_grid(
    points: NDArray[np.float32], voxel_size: float, group: NDArray[np.integer] | None = None
) -> VoxelGrid:
    """:meth:`VoxelGrid.of` with an edge that a caller asked for.

    Raises:
        PromptError: the edge is too small for the points' extent.
    """
    extent = max(float(np.ptp(column)) for column in points.T)
    if extent >= MAX_CELLS * voxel_size:
        raise PromptError(
            f"voxels of {voxel_size} are too small for a cloud that extends over {extent:.3g}; at "
            f"most {MAX_CELLS} fit along an axis",
            ErrorCode.BAD_REQUEST,
        )
    return VoxelGrid.of(points, voxel_size, group)
