"""Pictures of rigs for the documentation: poses as given beside better ones.

``python -m benchmarks.figures shelf rig`` writes them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.figures.errors import SHOWN_ERROR, disagreement
from benchmarks.recordings import depth_disagreement, shelf_pairs
from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.images import read_color
from wildseg3d_ros.io.rendering import BACKGROUND, DrawingCamera, render_cloud

REFERENCE = 7
"""Frame of the shelf whose camera looks at the picture."""
SWAPPED = 2, 3
"""Cameras of the table that get each other's pose."""
WIDTH = 1100
"""Of a picture [px]."""

_CLOSER = 2.2
"""Magnification of the middle of that frame, in which a doubled edge shows."""


def shelf_picture() -> Any:
    """The real shelf, all views in one cloud, and how far the pixels of the one that the alignment
    moved most are from what the others measured: with the given poses, and with the aligned ones.

    None where the recording is absent.
    """
    shelf = shelf_pairs()
    if shelf is None:
        return None
    import matplotlib.pyplot as plt

    views, predictions = shelf
    aligned = align(predictions, views, SceneConfig().alignment).world_from_cam
    given = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.4), layout="constrained")
    moved, drawn = most_moved(given, aligned), None
    for (above, below), (name, poses) in zip(
        axes.T, (("given poses", given), ("aligned", aligned)), strict=True
    ):
        apart = 1e3 * depth_disagreement(views, list(poses))
        above.imshow(draw_cloud(views, poses))
        above.set_title(f"{name}: depth images differ by {apart:.1f} mm", fontsize=9)
        draw_scale(above, views[REFERENCE])
        above.set_xlabel(f"pixels, {_CLOSER:g} times those of {views[REFERENCE].name}", fontsize=7)
        error = 1e3 * disagreement(views, list(poses), moved)
        below.set_facecolor("#b0b0b0")
        drawn = below.imshow(error, cmap="viridis", vmin=0, vmax=1e3 * SHOWN_ERROR)
        median = np.nanmedian(error)
        below.set_title(f"{name}, {views[moved].name}: median {median:.1f} mm", fontsize=9)
        for axis in (above, below):
            axis.tick_params(labelsize=6, length=2)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=axes[1], extend="max")
    bar.set_label("distance to the surface that others measured [mm]", fontsize=8)
    return figure


def most_moved(given: NDArray[np.float64], aligned: NDArray[np.float64]) -> int:
    """The camera before which a point at the things' distance moves farthest."""
    ahead = np.array([0.0, 0.0, 0.7, 1.0])
    return int(np.linalg.norm((aligned - given) @ ahead, axis=1).argmax())


def draw_cloud(views: Sequence[View], world_from_cam: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The cloud of all depth images, seen by the reference camera, magnified."""
    points, colors = [], []
    for view, pose in zip(views, world_from_cam, strict=True):
        if view.depth is None or view.K is None:
            continue
        # Far points are background, near ones the gripper.
        use = (view.depth > 0.2) & (view.depth < 1.2)
        points.append(apply(pose, back_project(view.depth, view.K)[use]))
        # Brighter: the shelf is dark.
        colors.append((255 * (view.image[use] / 255.0) ** 0.6).astype(np.uint8))
    reference = views[REFERENCE]
    height, width = reference.size
    K = np.array([[focal(reference), 0, (width - 1) / 2], [0, focal(reference), (height - 1) / 2],
                  [0, 0, 1.0]])  # fmt: skip
    camera = DrawingCamera(K, world_from_cam[REFERENCE], reference.size)
    return render_cloud(np.concatenate(points), np.concatenate(colors), camera)


def focal(reference: View) -> float:
    """Of the magnified picture [px]."""
    return _CLOSER * float(np.asarray(reference.K)[0, 0])


def draw_scale(axis: Any, reference: View) -> None:
    """5 cm at the distance of what the middle of the reference image shows."""
    height, width = reference.size
    middle = np.asarray(reference.depth)[height // 3 : -height // 3, width // 3 : -width // 3]
    distance = float(np.median(middle[(middle > 0.2) & (middle < 1.2)]))
    length = 0.05 * focal(reference) / distance
    left, top = width - length - 30, height - 34
    axis.plot([left, left + length], [top, top], color="white", lw=3)
    axis.text(
        *(left + length / 2, top + 8, f"5 cm at {distance:.2f} m"),
        color="white", fontsize=7, ha="center", va="top",
    )  # fmt: skip


def swapped_rig(views: Sequence[View]) -> NDArray[np.uint8]:
    """The report of `wildseg3d check` on two cameras with each other's pose: all cameras from
    above, and one of the two in the other's image, as given and without the mistake."""
    from wildseg3d_ros.rig.aligned import check_rig
    from wildseg3d_ros.rig.page import write_report

    first, second = SWAPPED
    rig = list(views)
    for a, b in ((first, second), (second, first)):
        rig[a] = replace(views[a], world_from_cam_prior=views[b].world_from_cam_prior)
    with tempfile.TemporaryDirectory() as folder:
        write_report(Path(folder), check_rig(rig))
        names = ("cameras_1.png", "cameras_2.png", "pair_01.png")
        *overviews, pair = (read_color(Path(folder) / name, upright=False) for name in names)
    # Of an overview the left half is from above.
    above = np.concatenate([each[:, : each.shape[1] // 2] for each in overviews], axis=1)
    top, bottom = scaled(above), scaled(pair)
    gap = np.full((8, WIDTH, 3), BACKGROUND, np.uint8)
    return np.concatenate([top, gap, bottom])


def scaled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture in the width of all of them."""
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    smaller = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8)
