"""What lies about an object, and the scene without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.arrays import read_pixels
from wildseg3d_ros.core.geometry.flying import flying_pixels
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.voxels import requested_grid


@dataclass(frozen=True, eq=False)
class PlainCloud:
    """Points with colours, and which of them belong to an object.

    Attributes:
        points: (M, 3) float32, the scene's frame.
        colors: (M, 3) uint8 RGB.
        on_object: (M,) bool.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    on_object: NDArray[np.bool_]


def solid_pixels(scene: Scene, visibility: Visibility) -> tuple[NDArray[np.bool_], ...]:
    """Per view (H, W): pixels that have a point and are no flying ones."""
    slant = IndexConfig().max_slant
    return tuple(
        scene.world.valid(view) & ~flying_pixels(depth, float(visibility.focal[view]), slant)
        for view, depth in enumerate(visibility.depth)
    )


def whole_scene(scene: Scene, voxel_size: float) -> PlainCloud:
    """All that the views measured, background included, to look at.

    Args:
        scene: to show; of more than 400,000 pixels only every n-th row and column is taken.
        voxel_size: edge of the voxels that the cloud is thinned to; 0 keeps all points.
    """
    valid = [scene.world.valid(view) for view in range(len(scene.view_names))]
    return _thinned(scene, _every_nth(valid), None, voxel_size)


def context_edge(size: NDArray[np.float64], metric: bool) -> float:
    """Edge of the cube about an object that a grasp is planned in.

    Args:
        size: (3,) edges of the object's box.
        metric: whether they are in metres; else there is nothing to clip them to.
    """
    edge = 2.0 * float(size.max())
    # The regions of Contact-GraspNet (Sundermeyer et al. 2021) have such edges.
    return float(np.clip(edge, 0.3, 0.6)) if metric else edge


def context(
    scene: Scene,
    solid: Sequence[NDArray[np.bool_]],
    masks: Mapping[str, NDArray[np.bool_]],
    centre: NDArray[np.float64],
    edge: float,
    voxel_size: float,
) -> PlainCloud:
    """All that the views measured in a cube about an object, itself included.

    Args:
        solid: see :func:`solid_pixels`.
        masks: the object's, by view name.
        centre: (3,) of the cube, whose edges are along the axes of the scene's frame.
        edge: of the cube.
        voxel_size: edge > 0 of the voxels that the cloud is thinned to, the object and the rest
            each for itself.
    """
    low, high = centre - edge / 2, centre + edge / 2
    chosen = [
        (cv2.inRange(points, low, high) > 0) & usable
        for points, usable in zip(scene.world.points, solid, strict=True)
    ]
    return _thinned(scene, chosen, [masks[name] for name in scene.view_names], voxel_size)


def without_object(
    scene: Scene,
    solid: Sequence[NDArray[np.bool_]],
    masks: Mapping[str, NDArray[np.bool_]],
    object_points: NDArray[np.float32],
    voxel_size: float,
) -> PlainCloud:
    """The whole scene less an object, for a planner's collision world.

    Left out are the pixels of the object's masks, with a border of one pixel, and the voxels that
    its points occupy: masks are never exact, and no part of the object may stay behind.

    Args:
        solid, masks, voxel_size: as of :func:`context`.
        object_points: (M, 3).
    """
    border = np.ones((3, 3), np.uint8)
    chosen = [
        usable & ~(cv2.dilate(masks[name].astype(np.uint8), border) > 0)
        for name, usable in zip(scene.view_names, _every_nth(solid), strict=True)
    ]
    rest = _thinned(scene, chosen, None, voxel_size)
    cell = VoxelGrid.of(np.concatenate([object_points, rest.points]), voxel_size).cell
    free = ~np.isin(cell[len(object_points) :], cell[: len(object_points)])
    return PlainCloud(rest.points[free], rest.colors[free], rest.on_object[free])


def _every_nth(chosen: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Of more than 400,000 pixels only those of every n-th row and column."""
    total = sum(int(np.count_nonzero(pixels)) for pixels in chosen)
    # Bounds time and memory; the cloud is there to look at, or thinned to voxels.
    step = max(1, int(np.ceil(np.sqrt(total / 400_000))))
    fewer = [np.zeros_like(pixels) for pixels in chosen]
    for few, pixels in zip(fewer, chosen, strict=True):
        few[::step, ::step] = pixels[::step, ::step]
    return fewer


def _thinned(
    scene: Scene,
    chosen: Sequence[NDArray[np.bool_]],
    masks: Sequence[NDArray[np.bool_]] | None,
    voxel_size: float,
) -> PlainCloud:
    """The points of the chosen pixels, thinned; arguments by view, masks None for no object."""
    masks = [np.zeros_like(pixels) for pixels in chosen] if masks is None else masks
    pixels = [np.flatnonzero(of_view) for of_view in chosen]
    points, colors, on_object = (
        np.concatenate([read_pixels(image, at) for image, at in zip(maps, pixels, strict=True)])
        for maps in (scene.world.points, scene.images, masks)
    )
    if not (len(points) and voxel_size):
        return PlainCloud(points, colors, on_object)
    cells = requested_grid(points, voxel_size, on_object.astype(np.int64))
    return PlainCloud(
        cells.mean(points).astype(np.float32),
        np.rint(cells.mean(colors)).astype(np.uint8),
        cells.reduce(np.maximum, on_object.astype(np.uint8)) > 0,
    )
