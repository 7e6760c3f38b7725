"""The points of a selection, and which views see them from where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types.tree import Selected
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.voxels import requested_grid


@dataclass(frozen=True, eq=False)
class Surface:
    """Points that cameras saw.

    Attributes:
        points: (M, 3) float32, the scene's frame.
        views: (M,) uint32; bit i is set when view i, of the first 32, sees the point.
        toward: (M, 3) float32 unit vectors to the camera that measured the point; thinned, to the
            middle of those.
        spacing: distance of neighbouring points, typically: of pixels, or the voxels' edge.
    """

    points: NDArray[np.float32]
    views: NDArray[np.uint32]
    toward: NDArray[np.float32]
    spacing: float


def seen_surface(
    scene: Scene, selected: Selected, visibility: Visibility, voxel_size: float = 0.0
) -> Surface:
    """The surface of the given objects.

    The points, and their order, are those of the scene's cloud of these objects, thinned alike.

    Args:
        selected: objects, at least one of them with a point, or nodes.
        visibility: of the scene.
        voxel_size: edge in the scene's unit; 0 keeps every point.

    Raises:
        PromptError: the voxels are too small for the objects' extent.
    """
    index = scene.index
    rows = scene.rows_of(selected)
    points, view = index.points[rows], index.view[rows]
    seen = visibility.seen_by(points, view)
    # Only the view that measured a point faces it for certain; others see it within a tolerance.
    toward = visibility.centres[view].astype(np.float32) - points
    distance = np.linalg.norm(toward, axis=1)
    bits = (seen[:, :32] * (1 << np.arange(min(32, seen.shape[1])))).sum(axis=1)
    spacing = float(np.median(distance / visibility.focal[view]))
    surface = Surface(points, bits.astype(np.uint32), _unit(toward), spacing)
    if voxel_size == 0:
        return surface
    cells = requested_grid(points, voxel_size)
    return Surface(
        cells.mean(points).astype(np.float32),
        cells.reduce(np.bitwise_or, surface.views),
        _unit(cells.mean(surface.toward).astype(np.float32)),
        max(voxel_size, spacing),
    )


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1. Cameras on opposite sides leave none: any direction is as good there."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    up = np.array([0, 0, 1], np.float32)
    return np.where(length > 1e-6, vectors / np.maximum(length, 1e-6), up).astype(np.float32)
