"""The node's cameras together: their newest frames of one time as views."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from wildseg3d_ros.core.errors import Cancelled, ErrorCode, InputError, PromptError, WildSeg3DError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.types import View, check_names
from wildseg3d_ros.ros.cameras.camera import Camera
from wildseg3d_ros.ros.cameras.diagnostics import why_no_set
from wildseg3d_ros.ros.cameras.robot import RobotDescription
from wildseg3d_ros.streams.capture import Capture, capture, poses_of
from wildseg3d_ros.streams.config import CameraConfig, NodeConfig
from wildseg3d_ros.streams.frames import FrameMatcher, FrameSet, aligned
from wildseg3d_ros.streams.tf.buffer import Transforms
from wildseg3d_ros.streams.tf.errors import TooEarly

_POLL_SECONDS = 0.02
"""Below the 33 ms between two images of a camera."""


class Cameras:
    """All cameras of a node, with the group of all their subscriptions.

    Attributes:
        names: as configured.
    """

    def __init__(
        self,
        node: Node,
        configs: Mapping[str, CameraConfig],
        config: NodeConfig,
        callback_group: CallbackGroup,
    ) -> None:
        self._node, self._configs, self._group = node, dict(configs), callback_group
        self.names = tuple(configs)
        self._slop, self._history = config.sync_slop, 4 if config.camera_slop > 0 else 1
        self._cameras = {name: self._make(name) for name in self._configs}
        self._robot = RobotDescription(node, config.robot, callback_group)
        self._listening, self._lock = False, threading.Lock()

    def _make(self, name: str) -> Camera:
        def restarted(seconds: float) -> None:
            self._node.get_logger().warning(
                f"camera '{name}': its time went back by {seconds:.3f} s (a recording that starts "
                "again, or a clock that was set); its images of before are forgotten"
            )

        config = self._configs[name]
        matcher = FrameMatcher(self._slop, bool(config.depth_topic), self._history, restarted)
        return Camera(self._node, name, config, matcher, self._group)

    def __getitem__(self, name: str) -> Camera:
        """The camera of that name."""
        return self._cameras[name]

    def subscribe(self) -> None:
        """Begins to listen, with nothing of what was heard before."""
        with self._lock:
            self._cameras = {name: self._make(name) for name in self._configs}
            self._listening = True
            self._robot.subscribe()
            for camera in self._cameras.values():
                camera.subscribe()

    def adapt(self) -> None:
        """Fits the subscriptions to publishers that appeared meanwhile."""
        with self._lock:
            if self._listening:
                for camera in self._cameras.values():
                    camera.subscribe()

    def unsubscribe(self) -> None:
        """Stops listening."""
        with self._lock:
            self._listening = False
            self._robot.unsubscribe()
            for camera in self._cameras.values():
                camera.unsubscribe()

    def clear(self) -> None:
        """Forgets all images."""
        for camera in self._cameras.values():
            camera.matcher.clear()

    def calibration(self, name: str) -> Lens | None:
        """Of a camera's newest images, of whatever age; None when there are none.

        Raises:
            InputError: messages that cannot be used.
        """
        camera = self._cameras[name]
        frames = camera.matcher.newest()
        return None if frames is None else camera.decoder.convert(frames)[0]

    def live(self, name: str) -> tuple[str, Lens] | None:
        """Frame and lens of a camera that publishes; None for another name.

        Raises:
            InputError: a calibration that cannot be used.
        """
        frames = self._cameras[name].matcher.newest() if name in self._cameras else None
        if frames is None:
            return None
        return frames.image.header.frame_id, self._cameras[name].decoder.lens(frames)

    def choose(self, names: Sequence[str], at_least: int = 2) -> tuple[str, ...]:
        """The named cameras; all of them when no name is given.

        Raises:
            PromptError: an unknown name, or one twice. InputError: too few for a scene.
        """
        unknown = [name for name in names if name not in self._configs]
        if unknown:
            raise PromptError(
                f"no camera {', '.join(map(repr, unknown))}; the node's cameras are "
                f"{', '.join(self.names)}",
                ErrorCode.UNKNOWN_CAMERA,
            )
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise PromptError(f"camera {', '.join(map(repr, twice))} is named twice")
        chosen = tuple(names) or self.names
        check_names(chosen, at_least)
        return chosen

    def take(
        self,
        names: Sequence[str],
        config: NodeConfig,
        transforms: Transforms,
        cancelled: Callable[[], bool],
    ) -> Capture:
        """Waits for the newest frames of the cameras and turns them into views.

        A camera whose pose TF does not have gives a view without one. Where its description is
        asked for, the robot is left out.

        Raises:
            ConfigError: of the robot's description. InputError: a camera that is missing or whose
                messages cannot be used; the text says which, what was listened to and what to do.
            Cancelled: the caller asked to stop.
        """
        sets, poses, unposed = self._located_sets(names, config, transforms, cancelled)
        decoders = {name: self._cameras[name].decoder for name in sets}
        seen = capture(sets, decoders, poses, unposed, config.world_frame)
        return self.without_robot(seen, config, transforms, cancelled)

    def without_robot(
        self,
        seen: Capture,
        config: NodeConfig,
        transforms: Transforms,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Capture:
        """The same with the robot left out, where its description is asked for.

        Raises:
            ConfigError: of the description. InputError: TF has none of its links.
            Cancelled: the caller asked to stop.
        """
        robot = self._robot.filter(config.robot, config.tf_timeout, cancelled)
        if robot is None:
            return seen
        deadline = time.monotonic() + config.tf_timeout
        while time.monotonic() < deadline and any(
            robot.is_late(view.frame_id, view.stamp_ns, transforms) for view in seen.views
        ):
            if cancelled():
                raise Cancelled("cancelled by the caller while waiting for the robot's TF")
            time.sleep(_POLL_SECONDS)
        return robot.applied(seen, transforms)

    def inspect(
        self, names: Sequence[str], config: NodeConfig, transforms: Transforms
    ) -> tuple[tuple[View, ...], dict[str, list[str]]]:
        """Views of what the cameras have published, and what is wrong with each camera.

        A camera without usable images is left out; one that TF does not know has no pose.
        """
        problems: dict[str, list[str]] = {name: [] for name in names}
        there = [n for n in names if self._cameras[n].matcher.newest(config.max_image_age)]
        for name in set(names) - set(there):
            problems[name].append(str(why_no_set(self._cameras[name], config, self._node)))
        if not there:
            return (), problems
        try:
            sets = self._wait_for_sets(there, config, lambda: False)
        except InputError as error:  # a build is refused for it; what they see is compared anyhow
            newest = replace(config, camera_slop=0.0)
            sets = self._wait_for_sets(there, newest, lambda: False)
            problems[there[0]].append(str(error))
        deadline = time.monotonic() + config.tf_timeout
        while True:
            poses, lacking = poses_of(sets, config.world_frame, transforms)
            if not lacking or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        views = []
        for name, frames in sets.items():
            try:
                lens, image, depth = self._cameras[name].decoder.convert(frames)
                stamp, frame = frames.stamp_ns, frames.image.header.frame_id
                views.append(View(name, image, lens.K, depth, poses.get(name), stamp, frame))
            except WildSeg3DError as error:
                problems[name].append(str(error))
        for name, error in lacking.items():
            problems[name].append(
                f"camera '{name}' has no pose in '{config.world_frame}': {error}"
            )
        return tuple(views), problems

    def _wait_for_sets(
        self, names: Sequence[str], config: NodeConfig, cancelled: Callable[[], bool]
    ) -> dict[str, FrameSet]:
        deadline = time.monotonic() + config.image_timeout
        while True:
            recent = {n: self._cameras[n].matcher.recent(config.max_image_age) for n in names}
            missing = [name for name, sets in recent.items() if not sets]
            if not missing:
                chosen = aligned(recent, config.camera_slop)
                if chosen is not None:
                    return chosen
            if cancelled():
                raise Cancelled("cancelled by the caller while waiting for images")
            if time.monotonic() > deadline:
                if not missing:
                    raise _not_at_one_time(recent, config)
                errors = [why_no_set(self._cameras[n], config, self._node) for n in missing]
                raise InputError("; ".join(map(str, errors)), errors[0].code)
            time.sleep(_POLL_SECONDS)

    def _located_sets(
        self,
        names: Sequence[str],
        config: NodeConfig,
        transforms: Transforms,
        cancelled: Callable[[], bool],
    ) -> tuple[dict[str, FrameSet], dict[str, NDArray[np.float64]], dict[str, WildSeg3DError]]:
        """The newest sets, ``world_from_cam`` of those that TF knows, and why it lacks others.

        TF may arrive after the images, so this waits for it. Sets whose pose will never come are
        replaced by newer ones.
        """
        end = time.monotonic() + config.image_timeout
        sets = self._wait_for_sets(names, config, cancelled)
        deadline = time.monotonic() + config.tf_timeout
        while True:
            poses, problems = poses_of(sets, config.world_frame, transforms)
            waiting = any(sets[name].image.header.frame_id for name in problems)
            if not waiting or time.monotonic() > deadline:
                break
            if cancelled():
                raise Cancelled("cancelled by the caller while waiting for TF")
            time.sleep(_POLL_SECONDS)
            # Whether time went back since the sets were received.
            void = any(self._cameras[k].matcher.era != v.era for k, v in sets.items())
            if void and time.monotonic() < end:
                sets = self._wait_for_sets(names, config, cancelled)
                deadline = time.monotonic() + config.tf_timeout
            elif any(isinstance(problem, TooEarly) for problem in problems.values()):
                sets = self._wait_for_sets(names, config, cancelled)
        return sets, poses, problems


def _not_at_one_time(recent: Mapping[str, Sequence[FrameSet]], config: NodeConfig) -> InputError:
    newest = {name: sets[0] for name, sets in recent.items()}
    first, *_, last = sorted(newest, key=lambda name: newest[name].stamp_ns)
    seconds = (newest[last].stamp_ns - newest[first].stamp_ns) / 1e9
    return InputError(
        f"the cameras' images are not of one time: the newest of camera '{first}' is stamped "
        f"{seconds:.3f} s before that of '{last}', and camera_slop is "
        f"{config.camera_slop} s; are the clocks in step? 0 takes the newest of each",
        ErrorCode.NO_IMAGES,
    )
