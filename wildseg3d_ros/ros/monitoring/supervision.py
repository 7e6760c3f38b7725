"""What the node says of itself unasked: diagnostics, and whether its scene still holds."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.ros.building.action import BuildAction
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.lifecycle import ManagedNode
from wildseg3d_ros.ros.monitoring.diagnostics import (
    ERROR,
    OK,
    WARN,
    CameraMonitor,
    Diagnostics,
    status,
)
from wildseg3d_ros.ros.monitoring.validity import SceneWatch
from wildseg3d_ros.ros.parameters import NodeConfig
from wildseg3d_ros.scene.scene import Scene

_RETRY_SECONDS = 30.0
"""After a rebuild that failed: the arm may still be in the way, the camera still away."""


class Supervision:
    """Timers that look at cameras and scene while the node is active.

    Args:
        node: that is looked after.
        cameras: of the node.
        watch: compares them with the scene.
        builds: for a stale scene that is to be built anew.
        config: settings of the node as they are now.
        scene: the current scene.
    """

    def __init__(
        self,
        node: ManagedNode,
        cameras: Cameras,
        watch: SceneWatch,
        builds: BuildAction,
        config: Callable[[], NodeConfig],
        scene: Callable[[], Scene | None],
    ) -> None:
        self._node, self._watch, self._builds, self._cameras = node, watch, builds, cameras
        self._config, self._scene = config, scene
        self._monitors = [CameraMonitor(cameras, name, node) for name in cameras.names]
        self._stale: tuple[str, ...] = ()
        self._retry = 0.0
        Diagnostics(node, [self._node_status, self._camera_statuses])
        if config().watch_period > 0:
            # Not the node's clock, as for the diagnostics.
            steady, group = (
                Clock(clock_type=ClockType.STEADY_TIME),
                MutuallyExclusiveCallbackGroup(),
            )
            node.create_timer(config().watch_period, self._look, group, steady)

    def _look(self) -> None:
        try:
            if self._node.state != "active":
                return
            config = self._config()
            self._watch.look(config)
            if self._watch.stale != self._stale:
                self._stale = self._watch.stale
                for warning in self._watch.warnings():
                    self._node.get_logger().warning(warning)
            scene = self._scene()
            if not (self._stale and config.rebuild_when_stale and scene is not None):
                return
            if time.monotonic() < self._retry:
                return
            # Where most of the views changed, or images have another size, all of it is new.
            few = 2 * len(self._stale) <= len(scene.view_names)
            few = few and not any(map(self._watch.of_size, self._stale))
            if not self._builds.rebuild(scene.view_names, self._stale if few else ()):
                self._retry = time.monotonic() + _RETRY_SECONDS
        except Exception:  # noqa: BLE001  a callback that raises ends the node
            self._node.get_logger().error(
                f"the scene could not be watched:\n{traceback.format_exc()}",
                throttle_duration_sec=30.0,
            )

    def _node_status(self) -> Sequence[DiagnosticStatus]:
        try:
            self._node.require_active()
        except WildSeg3DError as error:
            level = WARN if self._node.trouble is None else ERROR
            return [status("scene", level, str(error), state=self._node.state)]
        progress, scene = self._builds.progress, self._scene()
        building = f"; building ({progress})" if progress else ""
        if scene is None:
            return [status("scene", WARN, f"there is no scene yet{building}", state="active")]
        now_ns = self._node.get_clock().now().nanoseconds
        unseen = self._watch.problems(self._config())
        troubles = [
            *self._watch.warnings(),
            *(f"camera '{k}' is not compared with the scene: {v}" for k, v in unseen.items()),
        ]
        return [
            status(
                "scene",
                WARN if troubles else OK,
                ("; ".join(troubles) or "the scene answers") + building,
                **{
                    "state": "active",
                    "scene id": scene.scene_id,
                    "objects": len(scene.object_ids),
                    "views": len(scene.view_names),
                    "frame": scene.frame_id,
                    "age of its images [s]": (now_ns - scene.stamp_ns) / 1e9,
                    "registration residual [m]": float(scene.alignment.registration_residual),
                    "stale cameras": ", ".join(self._watch.stale),
                    "cameras elsewhere": ", ".join(self._watch.elsewhere),
                    "cameras not compared": ", ".join(unseen),
                },
            )
        ]

    def _camera_statuses(self) -> Sequence[DiagnosticStatus]:
        if self._node.state != "active":
            return []
        config = self._config()
        self._cameras.adapt()
        return [monitor.status(config) for monitor in self._monitors]
