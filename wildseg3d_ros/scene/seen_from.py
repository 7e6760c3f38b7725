"""Clicks in an image that is not the scene's: of a camera that has moved since."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.cameras import rays_of
from wildseg3d_ros.core.types import Click
from wildseg3d_ros.scene.camera_pixels import to_camera
from wildseg3d_ros.scene.clicks import named
from wildseg3d_ros.scene.scene import Scene

_SURFACE = 0.02
"""Share of the distance within which points about a ray are of one surface."""


def click_seen_from(
    scene: Scene, click: Click, K: NDArray[np.float64], scene_from_cam: NDArray[np.float64]
) -> Click:
    """The click at the pixel, of any of the scene's images, that shows what a click means.

    It is what the pixel's ray meets first of the scene's surface, within ``click_radius`` pixels.
    What has come into the way since the scene was taken is not known.

    Args:
        click: in a pinhole image with intrinsics ``K``.
        scene_from_cam: (4, 4) pose of its camera.

    Raises:
        PromptError: the ray meets nothing that was measured (NO_DEPTH_AT_PIXEL).
    """
    ray = scene_from_cam[:3, :3] @ rays_of(np.array(click.u), np.array(click.v), K)
    ray = (ray / np.linalg.norm(ray)).astype(np.float32)
    centre = scene_from_cam[:3, 3].astype(np.float32)
    found = []
    for view, points in enumerate(scene.world.points):
        pixels = np.flatnonzero(scene.world.valid(view))
        offset = points.reshape(-1, 3)[pixels] - centre
        distance = offset @ ray
        aside = np.linalg.norm(offset - distance[:, None] * ray, axis=1)
        near = (distance > 0) & (aside <= scene.click_radius / K[0, 0] * distance)
        pixels, distance, aside = pixels[near], distance[near], aside[near]
        # A point stands for as much surface as a pixel shows, of its own image or of this one.
        own = np.linalg.norm(points.reshape(-1, 3)[pixels] - scene.world_from_cam[view][:3, 3],
                             axis=1)  # fmt: skip
        size = np.maximum(own / scene.K[view][0, 0], distance / K[0, 0])
        found.append(np.stack([np.full(len(pixels), view), pixels, distance, aside / size], 1))
    views, pixels, distance, off = np.concatenate(found).T
    if not len(views):
        raise PromptError(
            f"{named(click)}: where that camera was at the time, nothing of the scene is at this "
            "pixel; click on what the scene shows, or build it anew",
            ErrorCode.NO_DEPTH_AT_PIXEL,
        )
    # Of the surface that lies under the middle, and not of one that only begins beside it.
    within = off <= max(float(off.min()), 1.0)
    front = distance[within].min()
    best = int(np.where(within & (distance <= (1 + _SURFACE) * front), off, np.inf).argmin())
    view = int(views[best])
    v, u = divmod(int(pixels[best]), scene.labels[view].shape[1])
    return Click(scene.view_names[view], *to_camera(scene, view, u, v), click.label)
