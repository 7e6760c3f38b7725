"""The node's cameras: subscriptions, their newest frames as views, and what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wildseg3d_ros.errors import Cancelled, ErrorCode, InputError, PromptError, WildSeg3DError
from wildseg3d_ros.ros.calibration import Calibration, calibration_from_info
from wildseg3d_ros.ros.conversions import depth_from_image, rgb_from_compressed, rgb_from_image
from wildseg3d_ros.ros.frames import FrameMatcher, FrameSet
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.parameters import CameraConfig, NodeConfig
from wildseg3d_ros.ros.transforms import TransformBuffer
from wildseg3d_ros.types import View, check_names

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Shot:
    """What the cameras see at one time, ready to be built into a scene.

    Attributes:
        views: one per camera, with poses where TF had them.
        calibrations: by camera name.
        warnings: what the caller should know, one sentence each.
    """

    views: tuple[View, ...]
    calibrations: Mapping[str, Calibration]
    warnings: tuple[str, ...]


class Cameras:
    """All cameras of a node.

    Args:
        node: to subscribe with.
        topics: by camera name.
        config: of the node.
        callback_group: of all subscriptions; the callbacks only store messages.
    """

    def __init__(
        self,
        node: Node,
        topics: Mapping[str, CameraConfig],
        config: NodeConfig,
        callback_group: CallbackGroup,
    ) -> None:
        self._node, self._topics, self._group = node, dict(topics), callback_group
        self._slop = config.sync_slop
        self._qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[config.reliability.upper()])
        self._compressed = config.image_transport == "compressed"
        self._image_type = CompressedImage if self._compressed else Image
        self._subscriptions: list[Subscription] = []
        self.clear()

    def clear(self) -> None:
        """Forgets all images."""
        self._matchers = {
            name: FrameMatcher(self._slop, with_depth=bool(camera.depth_topic))
            for name, camera in self._topics.items()
        }

    def subscribe(self) -> None:
        """Begins to listen, with nothing of what was heard before."""
        self.clear()
        for name, camera in self._topics.items():
            matcher = self._matchers[name]
            self._subscribe(self._image_type, self._image_topic(name), matcher.add_image)
            self._subscribe(CameraInfo, camera.camera_info_topic, matcher.add_info)
            if camera.depth_topic:
                self._subscribe(Image, camera.depth_topic, matcher.add_depth)

    def unsubscribe(self) -> None:
        """Stops listening."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _subscribe(self, kind: type, topic: str, callback: Callable) -> None:
        guarded = never_raises(callback, self._node.get_logger())
        self._subscriptions.append(
            self._node.create_subscription(
                kind, topic, guarded, self._qos, callback_group=self._group
            )
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all cameras, as configured."""
        return tuple(self._topics)

    def choose(self, names: Sequence[str]) -> tuple[str, ...]:
        """The named cameras; all of them when no name is given.

        Raises:
            PromptError: an unknown name, or one twice. InputError: too few for a scene.
        """
        unknown = [name for name in names if name not in self._topics]
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
        check_names(chosen)
        return chosen

    def take(
        self,
        names: Sequence[str],
        config: NodeConfig,
        transforms: TransformBuffer,
        cancelled: Callable[[], bool],
    ) -> Shot:
        """Waits for the newest frames of the cameras and turns them into views.

        A camera whose pose TF does not have gives a view without one, and a warning.

        Raises:
            InputError: a camera that is missing or whose messages cannot be used; the text says
                which, what was listened to and what to do. Cancelled: the caller asked to stop.
        """
        sets = self._wait_for_sets(names, config, cancelled)
        calibrations, parts = {}, {}
        for name, frames in sets.items():
            calibrations[name], parts[name] = self._convert(name, frames)
        poses, warnings = _camera_poses(sets, config, transforms, cancelled)
        views = tuple(
            View(
                name,
                image,
                K=calibrations[name].K,
                depth=depth,
                world_from_cam_prior=poses.get(name),
                stamp_ns=sets[name].stamp_ns,
                frame_id=sets[name].image.header.frame_id,
            )
            for name, (image, depth) in parts.items()
        )
        return Shot(views, calibrations, warnings)

    def _wait_for_sets(
        self, names: Sequence[str], config: NodeConfig, cancelled: Callable[[], bool]
    ) -> dict[str, FrameSet]:
        deadline = time.monotonic() + config.image_timeout
        while True:
            sets = {name: self._matchers[name].newest(config.max_image_age) for name in names}
            complete = {name: frames for name, frames in sets.items() if frames is not None}
            if len(complete) == len(sets):
                return complete
            if cancelled():
                raise Cancelled("cancelled by the caller while waiting for images")
            if time.monotonic() > deadline:
                missing = [self._explain(n, config) for n in names if n not in complete]
                raise InputError("; ".join(str(error) for error in missing), missing[0].code)
            time.sleep(_POLL_SECONDS)

    def _convert(self, name: str, frames: FrameSet) -> tuple[Calibration, tuple]:
        who, camera = f"camera '{name}'", self._topics[name]
        if isinstance(frames.image, CompressedImage):
            image = rgb_from_compressed(frames.image, who)
        else:
            image = rgb_from_image(frames.image, who)
        calibration = calibration_from_info(
            frames.info, image.shape[:2], who, camera.camera_info_topic, camera.rectified
        )
        depth = None if frames.depth is None else depth_from_image(frames.depth, f"{who}: depth")
        if depth is not None and depth.shape == image.shape[:2]:  # else View says what is wrong
            depth = calibration.pinhole_depth(depth)
        return calibration, (calibration.pinhole_image(image), depth)

    # ---- what is missing, in words -------------------------------------------------------------

    def _explain(self, name: str, config: NodeConfig) -> WildSeg3DError:
        camera, matcher = self._topics[name], self._matchers[name]
        counts, who = matcher.counts, f"camera '{name}'"
        if not counts.images:
            return InputError(
                f"{who} has not published an image: "
                f"{self._publishers(self._image_topic(name), self._image_type)}",
                ErrorCode.NO_IMAGES,
            )
        if camera.depth_topic and not counts.depths:
            return InputError(
                f"{who} has not published depth: {self._publishers(camera.depth_topic, Image)}",
                ErrorCode.BAD_DEPTH,
            )
        if not counts.infos:
            return InputError(
                f"{who} has not published its camera_info: "
                f"{self._publishers(camera.camera_info_topic, CameraInfo)}",
                ErrorCode.BAD_CALIBRATION,
            )
        age, gap = matcher.age(), matcher.closest_stamps()
        if age is None:
            apart = "" if gap is None else f"; the closest are {gap:.3f} s apart"
            return InputError(
                f"{who}: no image and depth within sync_slop {config.sync_slop} s of each "
                f"other{apart}; are both stamped when the picture was taken?",
                ErrorCode.BAD_DEPTH,
            )
        return InputError(
            f"{who} has stopped: its newest image{' with depth' if camera.depth_topic else ''} "
            f"arrived {age:.1f} s ago on '{self._image_topic(name)}', and max_image_age is "
            f"{config.max_image_age} s",
            ErrorCode.NO_IMAGES,
        )

    def _publishers(self, topic: str, kind: type) -> str:
        full = self._node.resolve_topic_name(topic)
        publishers = self._node.get_publishers_info_by_topic(full)
        if not publishers:
            return f"nobody publishes '{full}'; check the driver and the camera's topic parameters"
        reasons = []
        for publisher in publishers:
            compatibility, reason = qos_check_compatible(publisher.qos_profile, self._qos)
            if compatibility == QoSCompatibility.ERROR:
                reasons.append(f"{publisher.node_name}: {reason}")
        if reasons:
            return (
                f"'{full}' is published with a quality of service that does not fit "
                f"({'; '.join(reasons)}); set the parameter 'reliability' to best_effort"
            )
        expected = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        kinds = sorted({publisher.topic_type for publisher in publishers})
        if expected not in kinds:
            return (
                f"'{full}' carries {', '.join(kinds)}, expected {expected}; check the camera's "
                "topic parameters and image_transport"
            )
        return (
            f"nothing arrived on '{full}', although {len(publishers)} node(s) publish there; "
            "large images over the default transports get lost: set "
            "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA for all processes"
        )

    def _image_topic(self, name: str) -> str:
        topic = self._topics[name].image_topic
        return f"{topic}/compressed" if self._compressed else topic


def _camera_poses(
    sets: Mapping[str, FrameSet],
    config: NodeConfig,
    transforms: TransformBuffer,
    cancelled: Callable[[], bool],
) -> tuple[dict, tuple[str, ...]]:
    """``world_from_cam`` by camera from TF at the images' time, and why some are missing.

    What becomes of a scene without them, the pipeline says.
    """
    deadline = time.monotonic() + config.tf_timeout
    while True:
        poses, problems = {}, {}
        for name, frames in sets.items():
            frame = frames.image.header.frame_id
            if not frame:
                problems[name] = "its images name no frame (header.frame_id is empty)"
                continue
            try:
                poses[name] = transforms.lookup(config.world_frame, frame, frames.stamp_ns)
            except WildSeg3DError as error:
                problems[name] = str(error)
        waiting = any(sets[name].image.header.frame_id for name in problems)
        if not waiting or time.monotonic() > deadline:
            break
        if cancelled():
            raise Cancelled("cancelled by the caller while waiting for TF")
        time.sleep(_POLL_SECONDS)
    if problems and not poses:
        why = next(iter(problems.values()))
        return poses, (f"no camera's pose in '{config.world_frame}' is known: {why}",)
    return poses, tuple(
        f"camera '{name}' has no pose in '{config.world_frame}': {problem}"
        for name, problem in problems.items()
    )
