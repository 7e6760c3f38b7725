"""Errors in millimetres: of depth images before and after the alignment, of an object's cloud."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.figures.built_scenes import TABLETOP, Built, tabletop
from wildseg3d_ros.core.geometry.cameras import back_project, project
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import apply, invert

SHOWN_ERROR = 0.012
"""Disagreement [m] that has the brightest colour."""
GATE = 0.03
"""Beyond this the other camera sees another surface [m]."""


def alignment_error() -> Any:
    """How far each pixel is from what the other cameras say, before and after the alignment."""
    import matplotlib.pyplot as plt

    built = tabletop()
    views = built.recording.views
    rows = {
        "given poses": [np.asarray(view.world_from_cam_prior) for view in views],
        "aligned": list(built.scene.world_from_cam),
    }
    shown = (0, 3, 5)
    figure, axes = plt.subplots(2, len(shown), figsize=(10, 5.4), layout="constrained")
    drawn = None
    for row, (title, poses) in zip(axes, rows.items(), strict=True):
        for axis, index in zip(row, shown, strict=True):
            error = 1e3 * disagreement(views, poses, index)
            axis.set_facecolor("#b0b0b0")
            drawn = axis.imshow(error, cmap="viridis", vmin=0, vmax=1e3 * SHOWN_ERROR)
            median = np.nanmedian(error)
            axis.set_title(f"{views[index].name}, {title}: median {median:.1f} mm", fontsize=9)
            axis.tick_params(labelsize=6, length=2)
    bar = figure.colorbar(drawn, ax=axes, extend="max", shrink=0.9)
    bar.set_label("distance to the surface that others measured [mm]")
    return figure


FACING = 0.3
"""Cosine of the angle to a surface from which a camera counts as seeing it."""


def disagreement(views: Sequence[Any], poses: Sequence[NDArray], index: int) -> NDArray:
    """(H, W) median distance [m] of a view's pixels, along the normal of their surface, to what
    the other cameras that it faces measured in their direction; NaN where there is none."""
    view = views[index]
    points = back_project(view.depth, view.K)
    normals = smooth_normals(points, view.depth > 0).reshape(-1, 3) @ poses[index][:3, :3].T
    world = apply(poses[index], points.reshape(-1, 3).astype(np.float64))
    found = np.full((len(views), len(world)), np.nan)
    for number, other in enumerate(views):
        if number == index:
            continue
        to_camera = poses[number][:3, 3] - world
        cosine = (normals * to_camera).sum(axis=1) / np.linalg.norm(to_camera, axis=1)
        uv, z = project(apply(invert(poses[number]), world), other.K)
        height, width = other.size
        with np.errstate(invalid="ignore"):
            column, row = np.round(uv).T
            inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            inside &= cosine > FACING
        pixels = row[inside].astype(int), column[inside].astype(int)
        theirs = back_project(other.depth, other.K)[pixels].astype(np.float64)
        apart = apply(poses[number], theirs) - world[inside]
        near = (other.depth[pixels] > 0) & (np.abs(z[inside] - other.depth[pixels]) < GATE)
        error = np.abs((apart * normals[inside]).sum(axis=1))
        found[number, inside] = np.where(near, error, np.nan)
    found[:, view.depth.ravel() <= 0] = np.nan
    result = np.full(len(world), np.nan)
    seen = ~np.isnan(found).all(axis=0)
    result[seen] = np.nanmedian(found[:, seen], axis=0)
    return result.reshape(view.size)


def smooth_normals(points: NDArray, valid: NDArray[np.bool_], reach: int = 5) -> NDArray:
    """(H, W, 3) unit normals towards the camera of points (H, W, 3), over so many pixels to all
    sides; NaN where there is no surface."""
    window = (2 * reach + 1, 2 * reach + 1)
    weight = cv2.boxFilter(valid.astype(np.float64), -1, window, normalize=False)
    held = np.where(valid[..., None], points, 0.0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = cv2.boxFilter(held, -1, window, normalize=False) / weight[..., None]
        across, down = (
            np.roll(mean, -reach, axis=axis) - np.roll(mean, reach, axis=axis) for axis in (1, 0)
        )
        normals = np.cross(down, across)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    inner = np.full_like(normals, np.nan)
    within = slice(reach, -reach), slice(reach, -reach)
    inner[within] = normals[within]
    return inner


def cloud_error() -> Any:
    """A box's cloud by its distance to the true box, from two sides, with a scale bar."""
    import matplotlib.pyplot as plt

    from wildseg3d_ros.core.types import Click, Prompt
    from wildseg3d_ros.scene.prompting import answer

    built = tabletop()
    cloud = answer(built.scene, Prompt((Click("cam_3", 175, 180),)))
    local, size = in_true_box(built, cloud.points.astype(np.float64), "cereal_box")
    error = 1e3 * distance_to_box(local, size)
    chosen = np.random.default_rng(0).permutation(len(local))[:30_000]
    figure, axes = plt.subplots(1, 3, figsize=(10, 4.4), layout="constrained")
    for axis, (across, up, depth), title in (
        (axes[0], (0, 2, 1), "front"),
        (axes[1], (1, 2, 0), "side"),
    ):
        order = chosen[np.argsort(-local[chosen, depth])]
        drawn = axis.scatter(
            *(1e2 * local[order, across], 1e2 * local[order, up]), c=error[order], s=0.4,
            cmap="viridis", vmin=0, vmax=6,
        )  # fmt: skip
        half, top = 50 * size[across], 1e2 * size[2]
        axis.plot([-half, half, half, -half, -half], [0, 0, top, top, 0], color="#D55E00", lw=1)
        axis.plot([-half, -half + 5], [-2, -2], color="black", lw=3)
        axis.text(-half + 2.5, -3.4, "5 cm", fontsize=8, ha="center")
        axis.set_ylim(-4.5, top + 1.5)
        axis.set_aspect("equal")
        axis.set_title(f"{title}; true box in orange", fontsize=9)
        axis.set_xlabel("[cm]", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.colorbar(drawn, ax=axes[:2], extend="max", label="distance to the true box [mm]")
    axes[2].hist(error, bins=np.linspace(0, 12, 49), color="#0072B2")
    shares = np.percentile(error, [50, 90])
    axes[2].set_title(f"median {shares[0]:.1f} mm, 90 % below {shares[1]:.1f} mm", fontsize=9)
    axes[2].set_xlabel("distance [mm]", fontsize=8)
    axes[2].set_ylabel("points", fontsize=8)
    axes[2].tick_params(labelsize=7)
    figure.get_layout_engine().set(w_pad=0.12)
    return figure


def in_true_box(built: Built, points: NDArray, name: str) -> tuple[NDArray, NDArray]:
    """Points in a true object's frame, and its size [m].

    The scene's frame is that of the reported poses, which are off by millimetres; it is brought
    onto the true one by the cameras, rigidly.
    """
    truth = json.loads((TABLETOP / "truth.json").read_text())
    cameras = [truth["cameras"][view]["world_from_cam"] for view in built.scene.view_names]
    true = np.array(cameras)[:, :3, 3]
    found = np.asarray(built.scene.world_from_cam)[:, :3, 3]
    _, true_from_scene = umeyama(found, true, with_scale=False)
    thing = truth["objects"][name]
    pose = np.array(thing["world_from_object"])
    return apply(invert(pose) @ true_from_scene, points), np.array(thing["size"])


def distance_to_box(points: NDArray, size: NDArray) -> NDArray:
    """Distance to the surface of a box that stands on its frame's origin."""
    half = size / 2
    offset = np.abs(points - [0, 0, half[2]]) - half
    outside = np.linalg.norm(np.maximum(offset, 0), axis=1)
    return np.where(outside > 0, outside, -offset.max(axis=1))
