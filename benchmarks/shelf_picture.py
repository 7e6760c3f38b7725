"""The real shelf, all views in one cloud: with the given poses, and with the aligned ones.

``python -m benchmarks.shelf_picture before_after.png``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.recordings import depth_disagreement, shelf_pairs
from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.images import write_image
from wildseg3d_ros.io.rendering import DrawingCamera, render_cloud

REFERENCE = 7
"""Frame whose camera looks at the picture."""

_CLOSER = 2.2
"""Magnification of the middle of that frame, in which a doubled edge shows."""


def draw(views: Sequence[View], world_from_cam: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The cloud of all depth images, seen by the reference camera, magnified."""
    points, colors = [], []
    for view, pose in zip(views, world_from_cam, strict=True):
        if view.depth is None or view.K is None:
            continue
        # Far points are background, near ones the gripper.
        use = (view.depth > 0.2) & (view.depth < 1.2)
        points.append(apply(pose, back_project(view.depth, view.K)[use]))
        colors.append(view.image[use])
    reference = views[REFERENCE]
    height, width = reference.size
    focal = _CLOSER * float(np.asarray(reference.K)[0, 0])
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    camera = DrawingCamera(K, world_from_cam[REFERENCE], reference.size)
    return render_cloud(np.concatenate(points), np.concatenate(colors), camera)


def main(path: str) -> None:
    """Writes the picture, given poses left, aligned right, and prints both disagreements."""
    shelf = shelf_pairs()
    if shelf is None:
        sys.exit("the recordings are absent; set WILDSEG3D_DATA to their folder")
    views, predictions = shelf
    aligned = align(predictions, views, SceneConfig().alignment).world_from_cam
    given = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
    for name, poses in (("given", given), ("aligned", aligned)):
        print(f"{name:8} {1e3 * depth_disagreement(views, list(poses)):.2f} mm between depths")
    write_image(Path(path), np.concatenate([draw(views, given), draw(views, aligned)], axis=1))


if __name__ == "__main__":
    main(sys.argv[1])
