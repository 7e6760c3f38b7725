"""The scene that answers, and the frame and time of a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from wildseg3d_msgs.msg import Prompt as PromptMessage
from wildseg3d_msgs.srv import DescribeObject, Segment
from wildseg3d_ros.core.errors import ErrorCode, PromptError, WildSeg3DError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import ObjectCloud, ViewMask
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.ros.messages.clouds import cloud_message
from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.ros.services.prompt_reader import PromptReader, no_text
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.streams.tf.buffer import TF_TOLERANCE, Transforms


@dataclass(frozen=True, eq=False)
class CurrentScene:
    """The scene that answers, with what ROS knew at the time of its images.

    Attributes:
        scene: the snapshot.
        calibrations: of its cameras, by name.
        frame_poses: ``scene_from_frame`` by TF frame at the scene's time.
        warnings: of the capture, for every reply.
        boxes: about its objects, by id; those that are not here are fitted when asked for.
        pose_tolerance, view_poses, live, find: see :class:`PromptReader`.
    """

    scene: Scene
    calibrations: Mapping[str, Lens]
    frame_poses: Mapping[str, NDArray[np.float64]]
    warnings: tuple[str, ...] = ()
    boxes: Mapping[int, OrientedBox] = field(default_factory=dict)
    pose_tolerance: float = TF_TOLERANCE
    view_poses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    live: Callable[[str], tuple[str, Lens] | None] = lambda name: None
    find: Callable[[Scene, str], ViewMask] = no_text

    @cached_property
    def graspable(self) -> GraspableScene:
        """What is computed from the scene beside the look-up, and cached."""
        return GraspableScene(self.scene, self.boxes)

    def reader(self, transforms: Transforms) -> PromptReader:
        """Reads prompts for this scene."""
        return PromptReader(
            self.scene,
            self.calibrations,
            self.frame_poses,
            transforms,
            self.pose_tolerance,
            self.view_poses,
            self.live,
            self.find,
        )

    def look_up(
        self, prompt: PromptMessage, transforms: Transforms
    ) -> tuple[ObjectCloud, list[str]]:
        """What a prompt means, and what the caller should know of it.

        Raises:
            WildSeg3DError: with the code and text of the reply.
        """
        reader = self.reader(transforms)
        cloud = segment(self.scene, reader.read(prompt))
        return cloud, [*reader.warnings(prompt), *self.warnings, *self.scene.warnings]

    def target(self, frame: str) -> str:
        """Name of the frame of a reply: tf2 knows no leading slash; older habits write one."""
        return (frame or self.scene.frame_id).lstrip("/")

    def target_from_scene(
        self, target: str, transforms: Transforms, now: bool = False
    ) -> NDArray[np.float64]:
        """(4, 4), at the time of the scene's images or as TF has it now.

        Raises:
            WildSeg3DError: the frame cannot be reached (UNKNOWN_FRAME).
        """
        if target == self.scene.frame_id.lstrip("/"):
            return np.eye(4)
        known = self.frame_poses.get(target)
        if known is not None and not now:
            return invert(known)
        stamp_ns = 0 if now else self.scene.stamp_ns
        try:
            return transforms.lookup(target, self.scene.frame_id, stamp_ns)
        except WildSeg3DError as error:
            raise WildSeg3DError(
                f"the cloud cannot be given in frame '{target}': {error}", ErrorCode.UNKNOWN_FRAME
            ) from error

    def frame(
        self,
        request: Segment.Request | DescribeObject.Request,
        transforms: Transforms,
        now_ns: int,
        default: str = "",
    ) -> ReplyFrame:
        """Frame and time of the reply to a request.

        Args:
            request: names the frame.
            transforms: for frames that were not known at the time of the capture.
            now_ns: stamp of a reply whose frame is meant as it is now.
            default: the frame where the request names none.

        Raises:
            WildSeg3DError: the frame cannot be reached (UNKNOWN_FRAME).
        """
        target = self.target(request.target_frame or default)
        return ReplyFrame(
            target,
            self.target_from_scene(target, transforms, request.target_now),
            now_ns if request.target_now else self.scene.stamp_ns,
            target == self.scene.frame_id.lstrip("/"),
            request.target_now,
        )


@dataclass(frozen=True, eq=False)
class ReplyFrame:
    """The frame and the time that a reply is given in.

    Attributes:
        target: name of the frame.
        target_from_scene: (4, 4).
        stamp_ns: of the reply.
        is_scenes: whether it is the scene's own frame.
        is_now: whether it is meant where it is now.
    """

    target: str
    target_from_scene: NDArray[np.float64]
    stamp_ns: int
    is_scenes: bool
    is_now: bool

    @property
    def header(self) -> Header:
        """Of the reply."""
        return header(self.target, self.stamp_ns)

    def moved(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points of the scene in this frame."""
        return points if self.is_scenes else apply(self.target_from_scene, points)

    def cloud(self, columns: dict[str, NDArray]) -> PointCloud2:
        """A cloud of the reply, of columns in this frame."""
        return cloud_message(columns, self.target, self.stamp_ns)


@contextmanager
def explained(prompt: PromptMessage, why: Callable[[str], str | None]) -> Iterator[None]:
    """Adds to a PromptError what is known of the cameras that the prompt names."""
    try:
        yield
    except PromptError as error:
        asked = {each.camera for each in (*prompt.clicks, *prompt.boxes, *prompt.masks)}
        whys = filter(None, map(why, sorted(asked)))
        raise PromptError("; ".join([str(error), *whys]), error.code) from error
