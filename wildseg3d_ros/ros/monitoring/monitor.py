"""The node's timers: diagnostics once a second, and whether its scene is still valid.

``/diagnostics`` is the one absolute name of the node: aggregators listen there.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.ros.building.action import BuildAction
from wildseg3d_ros.ros.cameras.captured import camera_of
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.lifecycle import ManagedNode
from wildseg3d_ros.ros.monitoring.diagnostics import (
    ERROR,
    OK,
    WARN,
    CameraMonitor,
    pose_status,
    status,
    steady_timer,
)
from wildseg3d_ros.ros.monitoring.validity import SceneMonitor
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.streams.config import NodeConfig


class NodeMonitor:
    """Checks cameras and scene periodically while the node is active.

    Args:
        node, cameras, scene_monitor: what is checked.
        builds: builds a stale scene anew.
        config, scene: give settings and scene as they are now.
    """

    def __init__(
        self,
        node: ManagedNode,
        cameras: Cameras,
        scene_monitor: SceneMonitor,
        builds: BuildAction,
        config: Callable[[], NodeConfig],
        scene: Callable[[], Scene | None],
    ) -> None:
        self._node, self._builds, self._cameras = node, builds, cameras
        self._scene_monitor, self._config, self._scene = scene_monitor, config, scene
        self._camera_monitors = [CameraMonitor(cameras, name, node) for name in cameras.names]
        self._stale: tuple[str, ...] = ()
        self._since = self._retry = 0.0
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady_timer(node, 1.0, self._publish)
        if config().monitor_period > 0:
            steady_timer(node, config().monitor_period, self._compare)

    def _compare(self) -> None:
        try:
            if self._node.state != "active":
                return
            config = self._config()
            self._scene_monitor.compare(config)
            if self._scene_monitor.stale != self._stale:
                if not self._stale:
                    self._since = time.monotonic()
                self._stale = self._scene_monitor.stale
                for warning in self._scene_monitor.warnings():
                    self._node.get_logger().warning(warning)
            scene = self._scene()
            if not (self._stale and config.rebuild_when_stale and scene is not None):
                return
            now = time.monotonic()
            if now < self._retry:
                return
            # What one camera sees the others soon see, too: one renewal takes them all, unless
            # something never comes to rest.
            if self._scene_monitor.changing and now - self._since < config.change_seconds:
                return
            # Where more than half of the views changed, or an image size, all views are new.
            few = 2 * len(self._stale) <= len(scene.view_names)
            few = few and not any(map(self._scene_monitor.size_warning, self._stale))
            # What was left out may be related to the others by new images, not by an update.
            left_out = () if few else (view.name for view in scene.left_out)
            cameras = tuple(dict.fromkeys(map(camera_of, (*scene.view_names, *left_out))))
            if not self._builds.rebuild(cameras, self._stale if few else ()):
                # The arm may still be in the way, the camera still elsewhere.
                self._retry = time.monotonic() + 30.0
        except Exception:  # noqa: BLE001  a callback that raises ends the node
            self._node.get_logger().error(
                f"the scene could not be monitored:\n{traceback.format_exc()}",
                throttle_duration_sec=30.0,
            )

    def _publish(self) -> None:
        try:
            # The hardware id, and the head of every status' name.
            name = self._node.get_fully_qualified_name().lstrip("/")
            statuses = [self._node_status(), *self._camera_statuses(), *self._pose_statuses()]
            for one in statuses:
                one.name, one.hardware_id = f"{name}: {one.name}", name
            message = DiagnosticArray(status=statuses)
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._publisher.publish(message)
        except Exception:  # noqa: BLE001  a callback that raises ends the node
            self._node.get_logger().error(
                f"no diagnostics:\n{traceback.format_exc()}", throttle_duration_sec=30.0
            )

    def _node_status(self) -> DiagnosticStatus:
        try:
            self._node.require_active()
        except WildSeg3DError as error:
            level = WARN if self._node.problem is None else ERROR
            return status("scene", level, str(error), state=self._node.state)
        progress, scene = self._builds.progress, self._scene()
        building = f"; building ({progress})" if progress else ""
        twin = self._twin()
        if scene is None:
            text = "; ".join(filter(None, [twin, f"there is no scene yet{building}"]))
            return status("scene", ERROR if twin else WARN, text, state="active")
        now_ns = self._node.get_clock().now().nanoseconds
        unseen = self._scene_monitor.problems(self._config())
        elsewhere = self._scene_monitor.elsewhere
        problems = [
            *filter(None, [twin]),
            *self._scene_monitor.warnings(),
            *(f"camera '{k}' has moved since the scene was taken" for k in elsewhere),
            *(f"camera '{k}' gives no images any more" for k in self._silent(scene)),
            *(f"camera '{k}' is not compared with the scene: {v}" for k, v in unseen.items()),
        ]
        values = {
            "state": "active",
            "scene id": scene.scene_id,
            "objects": len(scene.object_ids),
            "views": len(scene.view_names),
            "views left out": ", ".join(view.name for view in scene.left_out),
            "frame": scene.frame_id,
            "age of its images [s]": (now_ns - scene.stamp_ns) / 1e9,
            "registration residual [m]": float(scene.alignment.registration_residual),
            "stale cameras": ", ".join(self._scene_monitor.stale),
            "cameras elsewhere": ", ".join(elsewhere),
            "cameras not compared": ", ".join(unseen),
        }
        text = ("; ".join(problems) or "the scene answers") + building
        level = ERROR if twin else WARN if problems else OK
        return status("scene", level, text, **values)

    def _twin(self) -> str:
        """That another node has this one's name, so that requests reach either; else empty."""
        mine = self._node.get_name(), self._node.get_namespace()
        others = self._node.get_node_names_and_namespaces().count(mine) - 1
        if others < 1:
            return ""
        return (
            f"{others} other node(s) have the name '{self._node.get_fully_qualified_name()}': a "
            "request reaches any of them; stop them, or start this one with another name or "
            "namespace (__node:=, __ns:=)"
        )

    def _camera_statuses(self) -> Sequence[DiagnosticStatus]:
        if self._node.state != "active":
            return []
        config = self._config()
        self._cameras.adapt()
        return [monitor.status(config) for monitor in self._camera_monitors]

    def _silent(self, scene: Scene) -> list[str]:
        """Cameras of the scene that have given nothing for ``max_image_age``."""
        age = self._config().max_image_age
        return [
            name for name in scene.view_names
            if name in self._cameras.names and self._cameras[name].matcher.newest(age) is None
        ]  # fmt: skip

    def _pose_statuses(self) -> Sequence[DiagnosticStatus]:
        """What the current scene's build found about the given pose of each camera."""
        scene = self._scene() if self._node.state == "active" else None
        return [] if scene is None else [pose_status(c) for c in scene.verdicts]
