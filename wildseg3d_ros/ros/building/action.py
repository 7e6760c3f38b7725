"""The action ``build_scene``: one build at a time, and nothing else that changes the scene."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rclpy.node import Node

from wildseg3d_msgs.action import BuildScene
from wildseg3d_msgs.msg import StageTime
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError, shortened
from wildseg3d_ros.ros.building.goals import Goal, GoalServer
from wildseg3d_ros.ros.building.overall import BUILD_STAGES
from wildseg3d_ros.ros.guard import status_of
from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.ros.messages.reports import scene_reports
from wildseg3d_ros.scene.scene import Scene

_MOST_WARNINGS = 100


@dataclass
class Build:
    """One build while it runs.

    Attributes:
        cameras: names that were asked for; none for all.
        report: tells the caller stage and fraction.
        cancelled: whether it is to stop.
        changed: cameras that alone are to be renewed in the current scene; none: all is new.
        result: to be filled.
    """

    cameras: tuple[str, ...]
    report: Callable[[str, float], None]
    cancelled: Callable[[], bool]
    changed: tuple[str, ...] = ()
    result: BuildScene.Result = field(default_factory=BuildScene.Result)

    def describe(self, scene: Scene, seconds: float) -> None:
        """Fills the result with a scene that took so many seconds."""
        result, alignment = self.result, scene.alignment
        result.scene_id, result.header = scene.scene_id, header(scene.frame_id, scene.stamp_ns)
        result.objects = len(scene.object_ids)
        result.scale_sources = list(alignment.scale_sources)
        result.scale_factor = float(alignment.scale_factor)
        result.registration_residual = float(alignment.registration_residual)
        result.camera_reports = scene_reports(scene)
        result.seconds = seconds
        result.stages = [
            StageTime(stage=stage, seconds=float(spent)) for stage, spent in scene.seconds.items()
        ]

    def waiting(self, stage: str) -> Callable[[], bool]:
        """``cancelled`` for a step that only waits; reports once a second that it still does.

        A single report is lost on a client that DDS has not yet made known to the node.
        """
        reported = -1.0

        def cancelled() -> bool:
            nonlocal reported
            if time.monotonic() - reported >= 1.0:
                reported = time.monotonic()
                self.report(stage, 0.0)
            return self.cancelled()

        return cancelled


class BuildAction:
    """Serves ``build_scene``; what ``run`` raises is the result."""

    def __init__(self, node: Node, run: Callable[[Build], None]) -> None:
        self._node, self._run = node, run
        self._busy = threading.Lock()
        self._stage = ("", 0.0)
        self._doing, self._is_goal = "built", False
        self._stopping = threading.Event()
        self._server = GoalServer(
            node, BuildScene, "build_scene", BUILD_STAGES, self._work, self.stopping
        )

    @property
    def progress(self) -> str:
        """Stage and fraction of the running build; empty when none runs."""
        stage, fraction = self._stage
        return f"{stage}, {fraction:.0%}" if self._busy.locked() else ""

    def stopping(self) -> bool:
        """Whether all that builds or changes the scene is to stop."""
        return self._stopping.is_set()

    @contextmanager
    def kept_out(self, what: str, doing: str, is_goal: bool = False) -> Iterator[None]:
        """Refuses builds while the scene is built or changed.

        Args:
            what: is done meanwhile, for the text of a refusal.
            doing: what becomes of the scene: "built" or "changed".
            is_goal: whether a client can cancel it.

        Raises:
            WildSeg3DError: a scene is being built or changed already (BUSY).
        """
        if not self._busy.acquire(blocking=False):
            way_out = "ask again when that is done"
            if self._is_goal:
                way_out = "wait for it, or cancel that goal"
            raise WildSeg3DError(
                f"the scene is being {self._doing} already ({self.progress}); {way_out}",
                ErrorCode.BUSY,
            )
        try:
            self._stage, self._doing, self._is_goal = (what, 0.0), doing, is_goal
            yield
        finally:
            self._busy.release()

    def stop(self) -> None:
        """Ends a running build, and refuses others until :meth:`allow`."""
        self._stopping.set()
        if self._busy.locked():
            # The executor sends the result, so it has to run until that is done.
            if self._busy.acquire(timeout=5.0):
                self._busy.release()
            time.sleep(0.2)  # for the executor to send it

    def allow(self) -> None:
        """Takes goals again."""
        self._stopping.clear()

    def destroy(self) -> None:
        """Leaves the graph."""
        self._server.destroy()

    def rebuild(self, cameras: Sequence[str], changed: Sequence[str] = ()) -> bool:
        """Builds without a goal, unless a build runs; returns whether a scene was built.

        What goes wrong is logged. Of the cameras, only the ``changed`` are renewed, if any are.
        """
        if self._busy.locked():
            return False
        try:
            with self.kept_out("starting", "built"):
                build = Build(tuple(cameras), self._enter, self.stopping, tuple(changed))
                self._run(build)
        except Exception as error:  # noqa: BLE001
            status_of(error, self._node.get_logger())
            return False
        return True

    def _enter(self, stage: str, fraction: float) -> None:
        self._stage = (stage, fraction)

    def _work(self, goal: Goal) -> None:
        def report(stage: str, fraction: float) -> None:
            self._enter(stage, fraction)
            goal.report(stage, fraction)

        with self.kept_out("starting", "built", is_goal=True):
            cameras = tuple(goal.request.cameras)
            self._run(Build(cameras, report, goal.cancelled, result=goal.result))


def warn(build: Build, node: Node, warnings: Sequence[str]) -> None:
    """In the log and in the result, of a build that fails too: they often say why."""
    warnings = [shortened(warning) for warning in warnings[:_MOST_WARNINGS]]
    for warning in warnings:
        node.get_logger().warning(warning)
    build.result.warnings = [*build.result.warnings, *warnings]
