"""A scene in a file, or built from a recording, answered in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wildseg3d_ros.cli.commands import read_config
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.types import Click, ObjectCloud, Point, Prompt
from wildseg3d_ros.editing import (
    add_object,
    config_as_built,
    load_editing_masks,
    refine_object,
    undo,
)
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.grasping.objects import scene_objects
from wildseg3d_ros.grasping.surroundings import whole_scene
from wildseg3d_ros.io.loading import load_recording
from wildseg3d_ros.io.pictures import jpeg
from wildseg3d_ros.rig.aligned import check_rig
from wildseg3d_ros.rig.check_pictures import draw_check
from wildseg3d_ros.rig.live import PackedPicture
from wildseg3d_ros.robot.solids import PlacedSolid
from wildseg3d_ros.scene.camera_pixels import (
    camera_image,
    camera_intrinsics,
    camera_labels,
    mask_at_camera,
)
from wildseg3d_ros.scene.file.snapshot import load_scene
from wildseg3d_ros.scene.nearest import click_at_point
from wildseg3d_ros.scene.prompting import answer, selected_by
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.viewer.building import build_folder
from wildseg3d_ros.viewer.source import (
    Answer,
    CameraCheck,
    CapturesViews,
    LiveImage,
    ShownCamera,
    ShownScene,
    SourceState,
)

if TYPE_CHECKING:
    from wildseg3d_ros.masks.text.sam3 import TextFinder


_NO_CHECK = (
    "the cameras cannot be checked in a scene's file: it has the poses that the alignment found, "
    "but neither the given ones nor the measured depth; open the recording instead, or run "
    "`wildseg3d check RECORDING --report FOLDER`"
)


class FileSource:
    """Answers from a scene's file; a folder is a recording, which is built first.

    Edits change the scene in memory. Who wants to keep them saves the scene.

    Args:
        settings: ``group.key=value``, of builds, edits and texts.

    Raises:
        FileError: a file that is no scene. ConfigError: settings that do not fit.
    """

    live = False
    captures: CapturesViews | None = None

    def __init__(self, path: Path, settings: Sequence[str] = ()) -> None:
        self._path, self.name, self._settings = path, path.name, settings
        self._config()
        self._finder: TextFinder | None = None
        self.can_build = path.is_dir()
        self.no_check = "" if self.can_build else _NO_CHECK
        self._edit, self._cancelled, self._failed = threading.Lock(), threading.Event(), ""
        self._busy: tuple[str, float] | None = None
        self._scene: Scene | None = None
        self._graspable: GraspableScene | None = None
        self.shown: ShownScene | None = None
        if not self.can_build:
            self._adopt(load_scene(path))

    @property
    def state(self) -> SourceState:
        """A scene in memory is never stale."""
        problem = ""
        if self.shown is None and self._busy is None and not self._failed:
            problem = "There is no scene yet. Press Build."
        return SourceState(problem, busy=self._busy, failed=self._failed)

    @property
    def scene(self) -> Scene:
        """The scene that answers.

        Raises:
            WildSeg3DError: there is none (NO_SCENE).
        """
        if self._scene is None:
            raise WildSeg3DError("there is no scene yet; build it first", ErrorCode.NO_SCENE)
        return self._scene

    def ask(self, prompt: Prompt, stamps: dict[str, int] | None = None) -> Answer:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`; there are no other images."""
        start = time.perf_counter()
        scene = self.scene
        cloud = answer(scene, self._found(scene, prompt))
        return self._answered(scene, cloud, time.perf_counter() - start)

    def add(self, prompt: Prompt) -> Answer:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        return self._change(add_object, "adding", prompt)

    def refine(self, prompt: Prompt) -> Answer:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        return self._change(refine_object, "refining", prompt)

    def undo(self) -> None:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        with self._changing("undoing"):
            scene = self.scene
            config = self._config(scene)
            masks = load_editing_masks(scene, config, prompted=False)
            self._adopt(undo(scene, config, masks)[0])

    def click_at(self, point: Point) -> Click:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        return click_at_point(self.scene, point)

    def build(self) -> None:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        self._cancelled.clear()

        def report(stage: str, fraction: float) -> None:
            self._busy = stage, fraction

        try:
            with self._changing("starting"):
                self._failed = ""
                self._adopt(
                    build_folder(self._path, self._config(), report, self._cancelled.is_set)
                )
        except WildSeg3DError as error:
            self._failed = str(error)

    def cancel(self) -> None:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        self._cancelled.set()

    def check(self) -> CameraCheck:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        checked = check_rig(load_recording(self._path).views)
        return CameraCheck(
            checked.verdict,
            (*checked.warnings, *checked.report.doubts),
            checked.cameras,
            tuple(PackedPicture(each.title, jpeg(each.image)) for each in draw_check(checked).all),
        )

    def robot(self) -> tuple[PlacedSolid, ...]:
        """None: a file has no robot."""
        return ()

    def live_image(self, camera: str) -> LiveImage | None:
        """None: a file has no camera."""
        return None

    def close(self) -> None:
        """Nothing runs beside."""

    def _answered(self, scene: Scene, cloud: ObjectCloud, seconds: float) -> Answer:
        graspable = self._graspable
        if graspable is None or graspable.scene is not scene:
            graspable = GraspableScene(scene)
        return Answer(cloud, graspable.box(selected_by(scene, cloud)), seconds)

    def _change(self, edit: Callable[..., tuple], what: str, prompt: Prompt) -> Answer:
        start = time.perf_counter()
        prompt = self._found(self.scene, prompt)
        with self._changing(what):
            scene = self.scene
            config = self._config(scene)
            changed, cloud = edit(scene, prompt, config, load_editing_masks(scene, config))
            if changed is not scene:
                self._adopt(changed)
        return self._answered(changed, cloud, time.perf_counter() - start)

    def _found(self, scene: Scene, prompt: Prompt) -> Prompt:
        """The prompt, in which a mask stands for words."""
        if not prompt.text:
            return prompt
        with self._changing(f"looking for '{prompt.text}'"):
            if self._finder is None:
                self._finder = self._config(scene).text.load()
            best = self._finder.find(scene.images, prompt.text)[0]
        return prompt.with_found(mask_at_camera(scene, best.view, best.mask))

    def _config(self, scene: Scene | None = None) -> SceneConfig:
        return read_config(None, self._settings, scene and config_as_built(scene))

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        if not self._edit.acquire(blocking=False):
            raise WildSeg3DError(
                "the scene is being changed from another page; ask again when that is done",
                ErrorCode.BUSY,
            )
        try:
            self._busy = what, 0.0
            yield
        finally:
            self._busy = None
            self._edit.release()

    def _adopt(self, scene: Scene) -> None:
        graspable = GraspableScene(scene)
        shown = shown_scene(scene, graspable, self.shown)
        self._scene, self._graspable, self.shown = scene, graspable, shown


def shown_scene(
    scene: Scene, graspable: GraspableScene, before: ShownScene | None = None
) -> ShownScene:
    """What the page shows of a scene; edits leave its cloud as it was before."""
    if before is not None and scene.edits and before.frame_id == scene.frame_id:
        points, colors = before.points, before.colors
    else:
        cloud = whole_scene(scene, 0.0)
        order = np.random.default_rng(0).permutation(len(cloud.points))
        points, colors = cloud.points[order], cloud.colors[order]
    up = (0.0, 0.0, 1.0)
    if not scene.alignment.in_prior_frame:
        x, y, z = (-scene.world_from_cam[0, :3, 1]).tolist()
        up = (x, y, z)
    return ShownScene(
        scene_id=scene.scene_id,
        frame_id=scene.frame_id,
        cameras=tuple(
            ShownCamera(
                name,
                camera_image(scene, view),
                camera_labels(scene, view),
                camera_intrinsics(scene, view),
                scene.world_from_cam[view],
            )
            for view, name in enumerate(scene.view_names)
        ),
        points=points,
        colors=colors,
        objects=tuple(scene_objects(graspable)),
        verdicts=scene.verdicts,
        warnings=scene.warnings,
        up=up,
        metric=scene.alignment.metric,
        edits=len(scene.edits),
    )
