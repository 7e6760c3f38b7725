"""The pixel that shows what lies at a 3D point."""

from __future__ import annotations

import numpy as np

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.cameras import window
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import Click, Point
from wildseg3d_ros.scene.camera_pixels import to_camera
from wildseg3d_ros.scene.scene import Scene

MAX_DISTANCE = 0.05
"""Distance of a point from what was measured at which it is still on it, over its depth."""


def click_at_point(scene: Scene, point: Point) -> Click:
    """A positive click at the pixel, of any view, whose point is nearest to the given one.

    Args:
        point: in the scene's frame.

    Raises:
        PromptError: nothing was measured about there (POINT_OUTSIDE_SCENE).
    """
    place = np.array([point.x, point.y, point.z])
    best, nearest = np.inf, None
    for view, (K, pose) in enumerate(zip(scene.K, scene.world_from_cam, strict=True)):
        in_camera = apply(invert(pose), place)
        if in_camera[2] <= 0:
            continue
        column, row = np.clip((K @ in_camera)[:2] / in_camera[2], -1e6, 1e6)
        # What is close enough to the point shows within so many pixels of where it would.
        radius = int(np.ceil(MAX_DISTANCE * max(K[0, 0], K[1, 1]))) + 1
        crop = window(round(row), round(column), radius)
        points = scene.world.points[view][crop]
        if not points.size:
            continue
        distance = np.linalg.norm(points - place.astype(np.float32), axis=-1)
        distance[~(scene.world.confidence[view][crop] > 0)] = np.inf
        at = np.unravel_index(distance.argmin(), distance.shape)
        if distance[at] < best and distance[at] <= MAX_DISTANCE * in_camera[2]:
            best = float(distance[at])
            v, u = (float(part.start + x) for part, x in zip(crop, at, strict=True))
            nearest = Click(scene.view_names[view], *to_camera(scene, view, u, v))
    if nearest is None:
        raise PromptError(
            f"nothing was measured at ({point.x:.4g}, {point.y:.4g}, {point.z:.4g}) in frame "
            f"'{scene.frame_id}'{_how_far(scene, place)}; give a point on a surface that the "
            "cameras see",
            ErrorCode.POINT_OUTSIDE_SCENE,
        )
    return nearest


def _how_far(scene: Scene, place: np.ndarray) -> str:
    valid = [scene.world.valid(view)[::4, ::4] for view in range(len(scene.images))]
    measured = [points[::4, ::4][at] for points, at in zip(scene.world.points, valid, strict=True)]
    if not any(map(len, measured)):
        return ""
    distance = np.linalg.norm(np.concatenate(measured) - place, axis=1).min()
    unit = "m" if scene.alignment.metric else "units"
    return f": the nearest surface is {distance:.3g} {unit} away"
