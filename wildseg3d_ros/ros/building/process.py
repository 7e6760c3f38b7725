"""The process that builds scenes, free of ROS; :mod:`wildseg3d_ros.ros.building.worker` starts it.

It keeps the loaded back ends between builds, and ends when the node's end of the channel closes,
however the node ended.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import PromptError, WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import MaskCache, Prompt, View, ViewPrompts
from wildseg3d_ros.editing import add_object, refine_object, undo
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.grasping.graspable import bounding_boxes
from wildseg3d_ros.grasping.surroundings import PlainCloud, whole_scene
from wildseg3d_ros.masks import PromptedMaskBackend
from wildseg3d_ros.masks.sources import MaskSource, Proposals
from wildseg3d_ros.pipeline import build_scene, update_scene
from wildseg3d_ros.ros.building.ipc import Channel
from wildseg3d_ros.ros.building.scene_masks import SceneMasks
from wildseg3d_ros.scene.scene import Scene

if TYPE_CHECKING:
    from wildseg3d_ros.masks.text.sam3 import TextFinder

PIPELINE = "wildseg3d_ros.ros.building.process:Pipeline"
"""Tests name builders of their own."""


@dataclass(frozen=True)
class Settings:
    """What a build process is started with.

    Attributes:
        config: of the pipeline.
        builder: ``module:name`` of what is made and used as :class:`Pipeline` is.
        overview_voxel: voxel edge [m] of the cloud of the whole scene; 0 keeps all of its points.
        masks_chosen: whether the user named the mask back end: then it also changes scenes that
            another one built.
    """

    config: SceneConfig
    builder: str = PIPELINE
    overview_voxel: float = 0.005
    masks_chosen: bool = False


@dataclass(frozen=True)
class Built:
    """A new scene, the cloud of all of it to look at, and boxes about its objects by id."""

    scene: Scene
    overview: PlainCloud
    boxes: Mapping[int, OrientedBox]


@dataclass(frozen=True)
class Extended:
    """A scene with an object added or corrected, or that taken back; the object's id, and boxes
    about all objects, by id."""

    scene: Scene
    object_id: int
    boxes: Mapping[int, OrientedBox] = field(default_factory=dict)


@dataclass
class WatchedMasks:
    """A back end for prompts that says how many views it was asked about, and can be stopped.

    Attributes:
        backend: that answers.
        progress: told, and asked whether to stop.
        views: of the scene.
    """

    backend: PromptedMaskBackend
    progress: Progress
    views: int
    _asked: int = 0

    def prompts(self, images: Sequence[NDArray[np.uint8]], cache: MaskCache) -> MaskSource:
        """See :class:`PromptedMaskBackend`."""
        self._source = self.backend.prompts(images, cache)
        return self

    def propose(self, view: int, prompts: ViewPrompts) -> Proposals:
        """See :class:`MaskSource`."""
        self.progress.update(self._asked / (self._asked + self.views))
        self._asked += 1
        return self._source.propose(view, prompts)


class Pipeline:
    """The pipeline with its back ends loaded."""

    def __init__(self, settings: Settings) -> None:
        # Modules that are loaded at first use cost seconds: now, not in the first build.
        importlib.import_module("wildseg3d_ros.alignment.aligner")
        from wildseg3d_ros.pointmaps import load_ahead

        self._config = settings.config
        self._pointmaps = load_ahead(self._config.pointmaps)
        self._masks = SceneMasks(self._config.masks, settings.masks_chosen)

    def __call__(self, views: Sequence[View], progress: Progress, world_frame: str) -> Scene:
        """Builds a scene."""
        return build_scene(
            views, self._config, progress, self._pointmaps, self._masks.backend, world_frame
        )

    def update(
        self,
        scene: Scene,
        changed: Sequence[str],
        views: Sequence[View],
        progress: Progress,
        world_frame: str,
    ) -> Scene:
        """The scene with the named views replaced or, where it has none, joined to it, one after
        the other."""
        masks, note = self._masks.of(scene)
        if note:
            progress.warn(note)
        known = {*scene.view_names, *(view.name for view in scene.left_out)}
        for name in changed:
            known.add(name)
            there = [view for view in views if view.name in known]
            scene = update_scene(
                scene, there, name, self._config, progress, self._pointmaps, masks, world_frame
            )
        return scene

    def extend(self, scene: Scene, prompt: Prompt, refine: bool, progress: Progress) -> Extended:
        """Adds the object that a prompt means, or corrects the one that it names."""
        masks, note = None, ""
        if scene.object_tree.derived:  # a tree needs no back end
            masks, note = self._masks.of(scene)
        if isinstance(masks, PromptedMaskBackend):
            masks = WatchedMasks(masks, progress, len(scene.view_names))
        change = refine_object if refine else add_object
        try:
            changed, cloud = change(scene, prompt, self._config, masks)
        except PromptError as error:
            raise PromptError(f"{error} ({note})" if note else str(error), error.code) from error
        if note and note not in changed.warnings:
            changed = replace(changed, warnings=(*changed.warnings, note))
        return Extended(changed, cloud.object_ids[0])

    def find(
        self, images: Sequence[NDArray[np.uint8]], text: str, progress: Progress
    ) -> tuple[int, NDArray[np.bool_]]:
        """The view and the mask of what a text names most surely."""
        best = self._finder.find(images, text, progress)[0]
        return best.view, best.mask

    @functools.cached_property
    def _finder(self) -> TextFinder:
        return self._config.text.load()

    def undo(self, scene: Scene) -> Extended:
        """Takes the newest change by a prompt back; the id is of the object that it was about."""
        masks = self._masks.of(scene)[0] if scene.object_tree.derived else None
        before, edit = undo(scene, self._config, masks)
        return Extended(before, edit.object_id)


class _Process:
    """Answers jobs one at a time while a second thread listens for the order to stop."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel, self._settings = channel, settings
        self._jobs: queue.Queue[tuple[str, int, tuple]] = queue.Queue()
        self._cancelled: set[int] = set()
        self._sending = threading.Lock()
        self._load: Callable[[], Pipeline]
        self._load = functools.cache(lambda: pkgutil.resolve_name(settings.builder)(settings))
        self._work = {
            "build": self._build,
            "extend": self._extend,
            "undo": self._undo,
            "find": self._find,
        }

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._load()
            self._send("ready")
        except Exception as error:  # noqa: BLE001  the node must hear of any defect
            self._send("unloadable", *_described(error, "the back ends could not be loaded"))
        while True:
            kind, job, content = self._jobs.get()
            try:
                self._send("done", job, self._work[kind](job, *content))
            except MemoryError:
                text = "the build ran out of memory; use fewer views or smaller images"
                self._send("failed", job, WildSeg3DError(text), "")
            except Exception as error:  # noqa: BLE001  the node must hear of any defect
                self._send("failed", job, *_described(error, "defect in the build"))
            # Until the next job comes, the last one's images must not stay in memory.
            del content

    def _build(
        self,
        job: int,
        views: Sequence[View],
        world_frame: str,
        update: tuple[Scene, Sequence[str]] | None,
    ) -> Built:
        progress, pipeline = self._progress(job), self._load()
        if update is None:
            scene = pipeline(views, progress, world_frame)
        else:
            scene = pipeline.update(*update, views, progress, world_frame)
        overview = whole_scene(scene, self._settings.overview_voxel)
        return Built(scene, overview, bounding_boxes(scene))

    def _extend(self, job: int, scene: Scene, prompt: Prompt, refine: bool) -> Extended:
        progress = self._progress(job)
        with progress.stage("masks"):
            found = self._load().extend(scene, prompt, refine, progress)
        with progress.stage("boxes"):
            return replace(found, boxes=bounding_boxes(found.scene))

    def _undo(self, _: int, scene: Scene) -> Extended:
        found = self._load().undo(scene)
        return replace(found, boxes=bounding_boxes(found.scene))

    def _find(
        self, job: int, images: Sequence[NDArray[np.uint8]], text: str
    ) -> tuple[int, NDArray[np.bool_]]:
        return self._load().find(images, text, self._progress(job))

    def _progress(self, job: int) -> Progress:
        last = ("", 0.0)

        def report(stage: str, fraction: float) -> None:
            nonlocal last
            now = time.monotonic()
            if stage != last[0] or fraction in (0.0, 1.0) or now - last[1] > 0.05:
                last = (stage, now)
                self._send("progress", job, stage, fraction)

        return Progress(report, lambda: job in self._cancelled)

    def _send(self, *message: Any) -> None:
        with self._sending:
            self._channel.send(message)

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if message[0] in self._work:
                    self._jobs.put((message[0], message[1], message[2:]))
                elif message[0] == "cancel":
                    self._cancelled.add(message[1])
                del message
        except (EOFError, OSError):
            os._exit(0)


def _described(error: Exception, what: str) -> tuple[WildSeg3DError, str]:
    """An error for the node, and the traceback where it is a defect."""
    if isinstance(error, WildSeg3DError):
        return error, ""
    return WildSeg3DError(f"{what}: {type(error).__name__}: {error}"), traceback.format_exc()


def main() -> None:
    """Serves the channel whose descriptor is the first argument."""
    # Ctrl-C reaches the whole process group; the node decides what becomes of a running build.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Answers and camera callbacks of the node go first where processors are scarce.
    os.nice(10)
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        _Process(channel, channel.receive()).run()
    except (EOFError, OSError):
        os._exit(0)
