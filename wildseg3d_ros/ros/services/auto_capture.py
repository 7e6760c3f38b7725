"""Views of cameras that move, captured without being asked: key frames of what they publish."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.ros.cameras.captured import CapturedViews
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.lifecycle import ManagedNode
from wildseg3d_ros.ros.services.captures import require_still
from wildseg3d_ros.streams.capture import capture
from wildseg3d_ros.streams.config import NodeConfig
from wildseg3d_ros.streams.key_frames import KeyFrame, KeyFrames
from wildseg3d_ros.streams.tf.buffer import Transforms

_PERIOD = 0.2
"""Seconds between looks at a camera's newest image."""


@dataclass
class _Moving:
    """What is known of one camera.

    Attributes:
        most: views that are kept; world_frame: of the poses.
        names: of the views that key frames have become, by their stamps.
        last_ns: stamp of the last image that was looked at.
    """

    key_frames: KeyFrames
    most: int
    world_frame: str
    names: dict[int, str] = field(default_factory=dict)
    last_ns: int = -1

    def is_void(self, config: NodeConfig, views: CapturedViews) -> bool:
        """Whether settings changed, or somebody dropped all of its views."""
        there = {each.view.name for each in views.all}
        dropped = bool(self.names) and there.isdisjoint(self.names.values())
        return dropped or (self.most, self.world_frame) != (
            config.max_captured_views,
            config.world_frame,
        )


class AutoCapture:
    """Looks at the cameras while the node is active and ``auto_capture`` is set.

    A camera that stands all the time gives no view: its newest image counts, as ever.

    Args:
        node, cameras, transforms: of the scene node; config gives its settings.
        views: that are kept.
    """

    def __init__(
        self,
        node: ManagedNode,
        cameras: Cameras,
        transforms: Transforms,
        config: Callable[[], NodeConfig],
        views: CapturedViews,
    ) -> None:
        self._node, self._cameras, self._transforms = node, cameras, transforms
        self._config, self._views = config, views
        self._of_camera: dict[str, _Moving] = {}
        node.create_timer(
            _PERIOD,
            self._look,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def _look(self) -> None:
        try:
            config = self._config()
            if config.auto_capture == "off" or self._node.state != "active":
                self._of_camera.clear()
                return
            for name in self._cameras.names:
                self._look_at(name, config)
        except Exception:  # noqa: BLE001  a callback that raises ends the node
            self._node.get_logger().error(
                f"no view was captured:\n{traceback.format_exc()}", throttle_duration_sec=30.0
            )

    def _look_at(self, name: str, config: NodeConfig) -> None:
        camera = self._cameras[name]
        frames = camera.matcher.newest(config.max_image_age)
        moving = self._of_camera.get(name)
        if moving is None or moving.is_void(config, self._views):
            most = config.max_captured_views
            moving = _Moving(KeyFrames(camera.decoder, most), most, config.world_frame)
            self._of_camera[name] = moving
        if frames is None or frames.stamp_ns == moving.last_ns:
            return
        frame, world = frames.image.header.frame_id, config.world_frame
        stands = config.auto_capture == "standing"
        try:
            pose = self._transforms.lookup(world, frame, frames.stamp_ns)
            if stands:
                place = name, frame, frames.stamp_ns, pose
                require_still(*place, world, self._transforms)
        except WildSeg3DError:
            return  # it moves, or TF is late: the next image may do
        moving.last_ns = frames.stamp_ns
        moving.key_frames.offer(frames, pose)
        if stands:
            moving.key_frames.finish()
        self._keep(name, moving, config)

    def _keep(self, name: str, moving: _Moving, config: NodeConfig) -> None:
        """Captures what has become a key frame, and forgets what is none any more."""
        kept = moving.key_frames.kept
        if len(kept) < 2:
            return
        there = {each.frames.stamp_ns for each in kept}
        gone = [ns for ns in moving.names if ns not in there]
        self._views.forget(moving.names.pop(ns) for ns in gone)
        for each in kept:
            if each.frames.stamp_ns in moving.names:
                continue
            try:
                view = self._view(name, each, config)
            except WildSeg3DError as error:
                self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)
                continue
            moving.names[each.frames.stamp_ns] = view
            self._node.get_logger().info(f"captured {view}")

    def _view(self, name: str, frame: KeyFrame, config: NodeConfig) -> str:
        """The name of the view that a key frame has become.

        Raises:
            PromptError: views that were captured on request take up all the room.
        """
        decoder, world = self._cameras[name].decoder, config.world_frame
        made = capture({name: frame.frames}, {name: decoder}, {name: frame.pose}, {}, world)
        made = self._cameras.without_robot(made, config, self._transforms)
        return self._views.add(made, config.max_captured_views)[0].view.name
