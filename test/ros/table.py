"""A small constructed scene, and builders that tests give to the build process by name.

Two balls, red and green, lie on a grey table; the views are ray traced, so depth and labels are
exact.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.geometry.cameras import back_project, rays
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, MaskCache, MaskTree, Prompt, View, WorldPointmaps
from wildseg3d_ros.editing import add_object, refine_object, undo
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.ros.building.process import Extended, Settings
from wildseg3d_ros.scene.scene import Scene

SIZE = (120, 160)
K = np.array([[150.0, 0, 80.0], [0, 150.0, 60.0], [0, 0, 1]])
BALLS = {1: ((-0.12, 0.0, 0.08), 0.08), 2: ((0.12, 0.03, 0.06), 0.06)}
"""Centre and radius [m] by label: 1 is red, 2 is green."""
RED, GREEN = 1, 2
NAMES = ("front", "left", "right")


def world_from_cam(azimuth: float, distance: float = 0.8, height: float = 0.5) -> np.ndarray:
    """Pose of a camera on a circle that looks at the middle of the table."""
    eye = np.array([distance * np.sin(azimuth), -distance * np.cos(azimuth), height])
    z = -eye / np.linalg.norm(eye)
    x = np.cross(z, [0.0, 0, 1])
    x /= np.linalg.norm(x)
    return make_transform(np.stack([x, np.cross(z, x), z], axis=1), eye)


def trace(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, depth and labels that a camera sees."""
    directions = rays(K, *SIZE).astype(np.float64) @ pose[:3, :3].T
    eye = pose[:3, 3]
    with np.errstate(divide="ignore"):
        depth = np.where(directions[..., 2] < 0, -eye[2] / directions[..., 2], 0.0)
    labels = np.zeros(SIZE, np.int32)
    point = eye + depth[..., None] * directions
    board = (np.floor(point[..., 0] / 0.04) + np.floor(point[..., 1] / 0.04)) % 2
    image = np.stack([120 + 40 * board] * 3, axis=-1)
    for label, (centre, radius) in BALLS.items():
        offset = eye - centre
        a = (directions**2).sum(-1)
        b = directions @ offset
        root = b**2 - a * (offset @ offset - radius**2)
        near = (-b - np.sqrt(np.maximum(root, 0))) / a
        hit = (root > 0) & (near > 0) & (near < depth)
        depth = np.where(hit, near, depth)
        labels[hit] = label
        normal = (eye + near[..., None] * directions - centre) / radius
        shade = 140 + 80 * normal[..., 2]
        color = np.zeros((*SIZE, 3))
        color[..., label - 1] = shade
        image = np.where(hit[..., None], color, image)
    return image.astype(np.uint8), depth.astype(np.float32), labels


POSES = {name: world_from_cam(0.45 * (i - 1)) for i, name in enumerate(NAMES)}


def make_views(names: Sequence[str] = NAMES) -> tuple[View, ...]:
    """Views from around the table, with poses."""
    views = []
    for name in names:
        image, depth, _ = trace(POSES[name])
        views.append(View(name, image, K, depth, POSES[name]))
    return tuple(views)


def make_recording(names: Sequence[str] = NAMES) -> Recording:
    """The same as a recording to be replayed, with its labels."""
    views = make_views(names)
    masks = [trace(view.world_from_cam_prior)[2].astype(np.uint8) for view in views]
    return Recording(views, tuple(masks), {1: "red ball", 2: "green ball"})


def pixel_on(view: View, label: int) -> tuple[float, float]:
    """Pixel of a ball's middle."""
    centre = np.array(BALLS[label][0])
    pose = view.world_from_cam_prior
    in_cam = pose[:3, :3].T @ (centre - pose[:3, 3])
    uv = K @ in_cam / in_cam[2]
    return round(uv[0]), round(uv[1])


# ---- builders ----------------------------------------------------------------------------------


def with_both_balls(cache: MaskCache, leaves: tuple[NDArray[np.int32], ...]) -> MaskCache:
    """The cache with a tree: leaf 0 is the red ball, 1 the green one, and node 2 is both."""
    start, stop, parent = (np.array(k, np.int32) for k in ([0, 1, 0], [1, 2, 2], [2, 2, -1]))
    tree = MaskTree(leaves, start, stop, parent, np.array([0.8, 0.9, 0.72], np.float32))
    records = tuple(
        dataclasses.replace(each, nodes=(each.object_id - 1,), score=0.75, ambiguity=0.5)
        for each in cache.objects
    )
    return dataclasses.replace(cache, tree=tree, objects=records)


def scene_by_color(
    views: Sequence[View],
    progress: Progress,
    world_frame: str,
    found: tuple[int, ...] = (RED, GREEN),
) -> Scene:
    """Labels by colour, points by depth, poses by name: exact and fast.

    Where a ball is not found, it is a node of the tree of masks all the same.
    """
    with progress.stage("color"):
        located = any(view.world_from_cam_prior is not None for view in views)
        poses = [POSES.get(view.name, view.world_from_cam_prior) for view in views]
        if not located:
            poses = [invert(poses[0]) @ pose for pose in poses]
        labels, leaves, points, confidence = [], [], [], []
        for view, pose in zip(views, poses, strict=True):
            red, green, _blue = (view.image[..., c].astype(int) for c in range(3))
            labels.append(
                (np.where(red > green + 60, RED, 0) + np.where(green > red + 60, GREEN, 0)).astype(
                    np.int32
                )
            )
            leaves.append(labels[-1] - 1)
            labels[-1] = np.where(np.isin(labels[-1], found), labels[-1], 0).astype(np.int32)
            depth = np.zeros(view.size, np.float32) if view.depth is None else view.depth
            points.append(apply(pose, back_project(depth, view.K)))
            confidence.append((depth > 0).astype(np.float32))
        n = len(views)
        alignment = Alignment(
            edges=np.zeros((0, 2), np.int64),
            world_from_pair=np.zeros((0, 4, 4)),
            pair_scale=np.ones(0),
            world_from_cam=np.stack(poses),
            K=np.stack([view.K for view in views]),
            pair_residual=np.zeros(0),
            view_residual=np.zeros(n),
            pair_used=np.ones(0, bool),
            converged=True,
            iterations=0,
            metric=True,
            in_prior_frame=located,
            prior_residual=np.zeros(n),
            scale_sources=("metric pairs",),
            registration_residual=0.002,
        )
        scores = tuple((x > 0).astype(np.float32) for x in labels)
        cache = MaskCache(tuple(labels), scores, found, objects=describe_objects([labels], scores))
        if len(found) < len(BALLS):
            cache = with_both_balls(cache, tuple(leaves))
        return Scene.create(
            views,
            alignment,
            WorldPointmaps(tuple(points), tuple(confidence)),
            cache,
            world_frame=world_frame,
            seconds=progress.seconds,
        )


class Builder:
    """Stands in for the pipeline: builds with a function, edits scenes without mask back end."""

    def __init__(self, settings: Settings, build: Callable[..., Scene] = scene_by_color) -> None:
        self._config, self._build = settings.config, build

    def __call__(self, views: Sequence[View], progress: Progress, world_frame: str) -> Scene:
        return self._build(views, progress, world_frame)

    def update(
        self,
        scene: Scene,
        changed: Sequence[str],
        views: Sequence[View],
        progress: Progress,
        world_frame: str,
    ) -> Scene:
        return self._build(views, progress, world_frame)

    def extend(self, scene: Scene, prompt: Prompt, refine: bool, progress: Progress) -> Extended:
        change = refine_object if refine else add_object
        changed, cloud = change(scene, prompt, self._config)
        return Extended(changed, cloud.object_ids[0])

    def find(
        self, images: Sequence[NDArray[np.uint8]], text: str, progress: Progress
    ) -> tuple[int, NDArray[np.bool_]]:
        """The green ball in the second image by its name; of a slow one, when PATIENT_UNTIL is
        there. Anything else is SAM 3's, as of the pipeline itself, without weights: that is said
        before seconds are spent on imports."""
        if text == "slow green ball":
            while not Path(os.environ["PATIENT_UNTIL"]).exists():
                progress.update(0.5)
                time.sleep(0.01)
        elif text != "green ball":
            nowhere = dataclasses.replace(self._config.text, weights="/nowhere/sam3")
            best = nowhere.load().find(images, text, progress)[0]
            return best.view, best.mask
        red, green = images[1][..., 0].astype(int), images[1][..., 1].astype(int)
        return 1, green > red + 60

    def undo(self, scene: Scene) -> Extended:
        before, edit = undo(scene, self._config)
        return Extended(before, edit.object_id)


color_builder = Builder
"""Builds at once."""


def forgetful_builder(settings: Settings) -> Builder:
    """Does not find the green ball."""
    return Builder(settings, functools.partial(scene_by_color, found=(RED,)))


class Renewing(Builder):
    """Builds at once; asked to renew some views, it writes their names to PATIENT_UNTIL."""

    def update(self, scene, changed, views, progress, world_frame) -> Scene:
        assert scene.view_names == tuple(view.name for view in views)
        Path(os.environ["PATIENT_UNTIL"]).write_text(" ".join(changed))
        return scene_by_color(views, progress, world_frame)


def patient_builder(settings: Settings) -> Builder:
    """Builds when the file that PATIENT_UNTIL names is there, and can be cancelled until then."""

    def build(views: Sequence[View], progress: Progress, world_frame: str) -> Scene:
        with progress.stage("waiting"):
            while not Path(os.environ["PATIENT_UNTIL"]).exists():
                progress.update(0.5)
                time.sleep(0.01)
        return scene_by_color(views, progress, world_frame)

    return Builder(settings, build)


class SlowEditor(Builder):
    """Builds at once; an edit goes on until it is cancelled."""

    def extend(self, scene, prompt, refine, progress) -> Extended:
        while True:
            progress.update(0.5)
            time.sleep(0.01)


def deaf_builder(settings: Settings) -> Builder:
    """Never looks up from its work."""

    def build(views: Sequence[View], progress: Progress, world_frame: str) -> Scene:
        progress.update(0.5)
        threading.Event().wait()
        raise AssertionError

    return Builder(settings, build)


def dying_builder(settings: Settings) -> Builder:
    """Is killed as by the kernel when memory runs out, the first time; builds afterwards."""

    def build(views: Sequence[View], progress: Progress, world_frame: str) -> Scene:
        marker = Path(os.environ["PATIENT_UNTIL"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return scene_by_color(views, progress, world_frame)

    return Builder(settings, build)


def broken_builder(settings: Settings) -> Builder:
    """Has a defect."""

    def build(views: Sequence[View], progress: Progress, world_frame: str) -> Scene:
        raise ZeroDivisionError("a defect made on purpose")

    return Builder(settings, build)


def unloadable_builder(settings: Settings) -> Builder:
    """Lacks its weights."""
    raise ConfigError("the weights are not there; download them")
