"""A running scene node, asked as any ROS client asks it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError, WildSeg3DError
from wildseg3d_ros.core.types import (
    CameraVerdict,
    Click,
    Point,
    Prompt,
)
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.robot.solids import PlacedSolid
from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.messages.answers import object_cloud
from wildseg3d_ros.ros.messages.replies import Edited
from wildseg3d_ros.ros.messages.requests import PromptOptions
from wildseg3d_ros.ros.robot_feed import RobotFeed
from wildseg3d_ros.ros.scene_feed import SceneFeed
from wildseg3d_ros.viewer.ros_captures import RosCaptures
from wildseg3d_ros.viewer.source import (
    Answer,
    CameraCheck,
    CapturesViews,
    LiveImage,
    ShownCamera,
    ShownScene,
    SourceState,
)

_PERIOD = 0.3
"""Seconds between two looks at what the node says."""
_SILENT = 4.0
"""Seconds without diagnostics, which come once a second, after which the node counts as gone."""
_NODE_TIMEOUT = 60.0
"""Seconds for an answer: adding an object takes some, on a busy machine many."""


class RosSource:
    """Asks a scene node, which may come and go.

    Args:
        namespace: of the node.
        robot: where the description of a robot is that is to be drawn, and its frames' prefix.
    """

    live = can_build = True
    no_check = ""

    def __init__(self, namespace: str = "", robot: RobotConfig | None = None) -> None:
        self.name = f"{namespace.strip('/')}/wildseg3d".lstrip("/")
        self._client = SceneClient(namespace, timeout=_NODE_TIMEOUT)
        self._feed = SceneFeed(self._client.node)
        self._captures = RosCaptures(self._client, self._feed)
        self.captures: CapturesViews | None = self._captures
        self._robot = RobotFeed(self._client.node, robot or RobotConfig())
        self.shown: ShownScene | None = None
        self._busy: tuple[str, float] | None = None
        self._failed, self._problem = "", "Looking for the scene node …"
        self._seen: tuple[str, int] | None = None
        self._cancelled, self._closing = threading.Event(), threading.Event()
        self._poses: dict[str, NDArray[np.float64]] = {}
        self._verdicts: dict[str, tuple[CameraVerdict, ...]] = {}
        self._checked = False
        self._stills: dict[str, tuple[int, NDArray[np.uint8]]] = {}
        self._thread = threading.Thread(target=self._watch, name="scene node", daemon=True)
        self._thread.start()

    @property
    def state(self) -> SourceState:
        """As the node says it."""
        state, stale = self._feed.state, ()
        if state is None or time.monotonic() - state.arrived > _SILENT:
            if state is None and self._problem:
                return SourceState(self._problem, failed=self._failed)
            text = (
                f"The scene node '{self.name}' does not answer. Start it, with the ROS_DOMAIN_ID "
                "of this page; it is found as soon as it is there."
            )
            return SourceState(text, failed=self._failed)
        busy = self._busy or state.building
        problem = self._problem if state.scene_id or busy else state.text
        if state.scene_id and not state.well and not busy:
            stale = (state.text,)
        cameras = (each for each in state.problems.values() if each not in state.text)
        told = (*stale, *cameras, *filter(None, [self._robot.problem]))
        return SourceState(problem, told, busy, self._failed)

    def ask(self, prompt: Prompt, stamps: dict[str, int] | None = None) -> Answer:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        clicks, options = self._options(prompt)
        if not prompt.text:
            return self._answer(clicks, options, stamps)
        looking = f"looking for '{prompt.text}'"
        return self._while_busy(looking, lambda: self._answer(clicks, options, stamps))

    def add(self, prompt: Prompt) -> Answer:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        clicks, options = self._options(prompt)
        return self._edit("adding", lambda: self._client.add_object(clicks, **options))

    def refine(self, prompt: Prompt) -> Answer:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        (object_id,) = prompt.object_ids
        clicks, options = self._options(prompt)
        return self._edit(
            "refining", lambda: self._client.refine_object(object_id, clicks, **options)
        )

    def undo(self) -> None:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        self._while_busy("undoing", self._client.undo)

    def click_at(self, point: Point) -> Click:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`: the nearest pixel of the object
        there, as the node's clouds of the object have it by pixel."""
        place = np.array([point.x, point.y, point.z], np.float32)
        reply = self._client.describe(
            points=[("", point.x, point.y, point.z)],
            target_frame=self._frame,
            organized_cameras=[camera.name for camera in self._known.cameras],
        )
        best, nearest = np.inf, None
        for name, points in reply.organized.items():
            distance = np.linalg.norm(points - place, axis=-1)
            if not np.isfinite(distance).any():
                continue
            row, column = np.unravel_index(int(np.nanargmin(distance)), distance.shape)
            if distance[row, column] < best:
                best = float(distance[row, column])
                nearest = Click(name, float(column), float(row))
        if nearest is None:
            raise PromptError(
                "no camera measured what is there; click in an image", ErrorCode.NO_DEPTH_AT_PIXEL
            )
        return nearest

    def build(self) -> None:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        self._cancelled.clear()
        self._failed, self._busy = "", ("starting", 0.0)

        def report(stage: str, fraction: float) -> None:
            self._busy = stage, fraction

        try:
            built = self._client.build(progress=report, cancelled=self._cancelled.is_set)
            self._poses = {c.verdict.name: c.frame_from_optical for c in built.cameras}
            # On /diagnostics they are rounded to millimetres.
            self._verdicts = {built.scene_id: tuple(c.verdict for c in built.cameras)}
            self._seen = None
        except (WildSeg3DError, TimeoutError) as error:
            self._failed = str(error)
        finally:
            self._busy = None

    def cancel(self) -> None:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        self._cancelled.set()

    def check(self) -> CameraCheck:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        rig = self._client.check_rig(pictures=True)
        verdicts = tuple(camera.verdict for camera in rig.cameras)
        return CameraCheck(rig.verdict, rig.problems, verdicts, rig.pictures)

    def robot(self) -> tuple[PlacedSolid, ...]:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        shown = self.shown
        return self._robot.links(shown.frame_id) if shown is not None and shown.frame_id else ()

    def live_image(self, camera: str) -> LiveImage | None:
        """See :class:`wildseg3d_ros.viewer.source.SceneSource`."""
        try:
            newest = self._feed.image(camera)
        except WildSeg3DError:
            return None  # the node says on /diagnostics what is wrong with it
        return None if newest is None else LiveImage(*newest)

    def close(self) -> None:
        """Leaves the graph."""
        self._closing.set()
        self._thread.join(timeout=2.0)
        self._client.close()

    @property
    def _known(self) -> ShownScene:
        if self.shown is None:
            raise WildSeg3DError("the scene node has not been found yet", ErrorCode.NO_SCENE)
        return self.shown

    @property
    def _frame(self) -> str:
        return self._known.frame_id

    def _while_busy(self, what: str, act: Callable):
        self._busy = what, 0.0
        try:
            return act()
        finally:
            self._busy = None

    def _options(self, prompt: Prompt) -> tuple[list, PromptOptions]:
        clicks = [(click.view, click.u, click.v, click.label) for click in prompt.clicks]
        options: PromptOptions = {
            "boxes": [(box.view, box.u0, box.v0, box.u1, box.v1) for box in prompt.boxes],
            "points": [("", point.x, point.y, point.z) for point in prompt.points],
            "object_ids": prompt.object_ids,
            "text": prompt.text,
            # Ids are those of one scene, places are of any.
            "scene_id": self._known.scene_id if prompt.object_ids else "",
            "level": prompt.level,
        }
        return clicks, options

    def _answer(
        self, clicks: list, options: PromptOptions, stamps: dict[str, int] | None = None
    ) -> Answer:
        start, frame = time.perf_counter(), self._frame
        asked: PromptOptions = {**options, "stamps": stamps or {}}
        found = self._client.segment(
            clicks, **asked, target_frame=frame, include_alternative_clouds=True, publish=True
        )
        asked["scene_id"] = found.scene_id
        more = self._client.describe(
            clicks, **asked, target_frame=frame, include_surface=True, include_masks=True
        )
        seconds = time.perf_counter() - start
        return Answer(object_cloud(found, more), more.box, seconds, found.warnings)

    def _edit(self, what: str, act: Callable[[], Edited]) -> Answer:
        edited = self._while_busy(what, act)
        return self._answer([], {"object_ids": edited.object_ids, "scene_id": edited.scene_id})

    # ---- what the node says

    def _watch(self) -> None:
        while not self._closing.wait(_PERIOD):
            try:
                self._look()
            except (WildSeg3DError, TimeoutError) as error:
                self._problem = str(error)
            except Exception as error:  # noqa: BLE001  the page must not go blind without a word
                self._problem = f"what the node says is not understood: {error}"
                self._client.node.get_logger().error(traceback.format_exc())

    def _look(self) -> None:
        feed, state = self._feed, self._feed.state
        self._robot.look()
        if state is None:
            self._problem = (
                f"The scene node '{self.name}' is not there. Start it, with the ROS_DOMAIN_ID of "
                "this page; it is found as soon as it is there."
            )
            return
        self._problem = ""
        self._captures.look()
        now = state.scene_id, feed.changes
        if not state.scene_id:
            self._show_cameras()
        elif now != self._seen and feed.labels and feed.cloud is not None:
            self._show_scene()
            self._seen = now
        if state.scene_id and not self._checked:
            self._checked = True
            self._ask_for_poses()
        shown = self.shown
        verdicts = self._verdicts.get(state.scene_id, state.verdicts)
        if shown is None or shown.scene_id != state.scene_id:
            return
        if repr(shown.verdicts) != repr(verdicts):  # by their text: NaN is not equal to itself
            self.shown = replace(shown, verdicts=verdicts)

    def _show_cameras(self) -> None:
        """Before there is a scene: the cameras alone."""
        state, shown = self._feed.state, self.shown
        names = list(state.topics) if state else []
        images = {name: self.live_image(name) for name in names}
        seen = [(name, live.image.shape[:2]) for name, live in images.items() if live]
        before = [(c.name, c.labels.shape) for c in shown.cameras] if shown else None
        if shown is not None and not shown.scene_id and seen == before:
            return
        self._seen = None
        self.shown = ShownScene(
            "",
            "",
            tuple(ShownCamera(name, None, np.zeros(size, np.int32)) for name, size in seen),
            np.zeros((0, 3), np.float32),
            np.zeros((0, 3), np.uint8),
            (),
        )

    def _show_scene(self) -> None:
        feed = self._feed
        assert feed.cloud is not None and feed.state is not None
        points, colors, frame = feed.cloud
        objects = self._client.list_objects(frame)
        order = np.random.default_rng(0).permutation(len(points))
        self.shown = ShownScene(
            scene_id=feed.state.scene_id,
            frame_id=frame,
            cameras=tuple(self._camera(name, *feed.labels[name]) for name in sorted(feed.labels)),
            points=points[order],
            colors=colors[order],
            objects=tuple(objects),
            verdicts=self._verdicts.get(feed.state.scene_id, feed.state.verdicts),
            edits=1,
            version=feed.changes,
        )

    def _camera(self, name: str, stamp_ns: int, labels: NDArray[np.int32]) -> ShownCamera:
        """The picture of a scene is what the camera saw when the scene came first."""
        still = self._stills.get(name)
        if still is None or still[0] != stamp_ns:
            live = self.live_image(name)
            if live is not None:
                self._stills[name] = still = stamp_ns, live.image
        info = self._feed.infos.get(name)
        K = None if info is None else np.array(info.k, np.float64).reshape(3, 3)
        image = None if still is None or still[1].shape[:2] != labels.shape else still[1]
        return ShownCamera(name, image, labels, K, self._poses.get(name))

    def _ask_for_poses(self) -> None:
        """Where the cameras stand by TF; a build that is asked for here says it better."""
        rig = self._client.check_rig()
        known = self.shown
        if not self._poses and known is not None and rig.frame_id == known.frame_id:
            self._poses = {c.verdict.name: c.frame_from_optical for c in rig.cameras}
        for stream in rig.streams:
            if stream.part == "camera_info":
                self._feed.watch_info(stream.camera, stream.topic)
        self._closing.wait(0.5)  # for the calibrations to come
        self._seen = None
