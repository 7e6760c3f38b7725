"""Prompts in messages -> prompts of the core: in pinhole pixels and in the scene's frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from geometry_msgs.msg import PointStamped
from numpy.typing import NDArray

from wildseg3d_msgs.msg import Box as BoxMessage
from wildseg3d_msgs.msg import CameraMask
from wildseg3d_msgs.msg import Click as ClickMessage
from wildseg3d_msgs.msg import Prompt as PromptMessage
from wildseg3d_ros.core.errors import ErrorCode, InputError, PromptError, WildSeg3DError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import LEVELS, Box, Click, Point, Prompt, ViewMask
from wildseg3d_ros.ros.cameras.captured import camera_of, is_captured
from wildseg3d_ros.scene.camera_pixels import camera_intrinsics
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.seen_from import click_seen_from
from wildseg3d_ros.streams.images import array_from_image
from wildseg3d_ros.streams.messages import nanoseconds
from wildseg3d_ros.streams.tf.buffer import TF_TOLERANCE, Transforms, differ

SCENE_TOLERANCE = 0.02
"""As ``TF_TOLERANCE``, from the poses in a scene, which the alignment refined."""
_NEWEST = -1
"""Stands for the newest time that TF has; 0 is that of the scene's image."""


def no_text(_: Scene, text: str) -> ViewMask:
    """Finds nothing by its name. Raises PromptError."""
    raise PromptError(f"nobody here finds what '{text}' names; click it")


@dataclass(frozen=True, eq=False)
class PromptReader:
    """Reads prompts for one scene.

    Attributes:
        scene: that will be asked.
        calibrations: of its cameras, by name.
        frame_poses: ``scene_from_frame`` by TF frame at the scene's time.
        transforms: for the frames of 3D points, and for cameras that have moved.
        pose_tolerance: metres and, for what is 1 m from a camera, radians by which TF may place
            it elsewhere than before without its having moved.
        view_poses: ``scene_from_cam`` of the scene's views as TF had it.
        live: frame and lens of a camera that publishes; None for another name.
        find: the mask of what a text names in the scene.
    """

    scene: Scene
    calibrations: Mapping[str, Lens]
    frame_poses: Mapping[str, NDArray[np.float64]]
    transforms: Transforms
    pose_tolerance: float = TF_TOLERANCE
    view_poses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    live: Callable[[str], tuple[str, Lens] | None] = lambda name: None
    find: Callable[[Scene, str], ViewMask] = no_text

    def read(self, message: PromptMessage) -> Prompt:
        """The prompt of a message.

        Raises:
            WildSeg3DError: with code and text for the reply.
        """
        if message.scene_id not in ("", self.scene.scene_id):
            raise PromptError(
                f"the request means scene {message.scene_id}, and scene {self.scene.scene_id} "
                'answers by now; look at it and ask again, or leave scene_id ""',
                ErrorCode.OTHER_SCENE,
            )
        if message.level >= len(LEVELS):
            listed = ", ".join(f"{i} ({level})" for i, level in enumerate(LEVELS))
            raise PromptError(f"level must be one of {listed}; got {message.level}")
        prompt = Prompt(
            clicks=tuple(self.click(click) for click in message.clicks),
            level=LEVELS[message.level],
            boxes=tuple(self.box(box) for box in message.boxes),
            masks=tuple(self.mask(mask) for mask in message.masks),
            points=tuple(self.point(point) for point in message.points),
            object_ids=tuple(message.object_ids),
            text=message.text,
        )
        return prompt.with_found(self.find(self.scene, prompt.text)) if prompt.text else prompt

    def click(self, message: ClickMessage) -> Click:
        """The click in the pinhole image; where it lies in the published one is checked here."""
        camera, stamp_ns = message.camera, nanoseconds(message.stamp)
        # Nothing bears out the pose of a camera that was left out: a click by it may miss.
        left_out = {view.name for view in self.scene.left_out}
        known = camera in self.scene.view_names or camera in left_out
        live = None if known else self.live(camera)
        if live is not None:
            lens, K = live[1], live[1].K
            pose = self._live_pose(camera, live[0], stamp_ns)
        else:
            view = self.scene.view_index(camera)
            lens, K = self.calibrations[camera], camera_intrinsics(self.scene, view)
            pose = self._moved_to(camera, stamp_ns)
        height, width = lens.size
        u, v = float(message.u), float(message.v)

        def inside(u: float, v: float) -> bool:
            return -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5

        if inside(u, v) and lens.distorted:
            given, (u, v) = (u, v), lens.pinhole_pixel(u, v)
            if not inside(u, v):
                raise PromptError(
                    f"pixel ({given[0]:g}, {given[1]:g}) of camera '{camera}' is lost when the "
                    "image is undistorted; click nearer to its centre, or in another camera",
                    ErrorCode.PIXEL_OUTSIDE_IMAGE,
                )
        click = Click(camera, u, v, message.label)
        if pose is None:
            return click
        if not inside(u, v):
            raise PromptError(
                f"pixel ({u:g}, {v:g}) is outside the image of camera '{camera}', which is "
                f"{width}x{height}",
                ErrorCode.PIXEL_OUTSIDE_IMAGE,
            )
        assert K is not None  # a camera_info without one is refused
        return click_seen_from(self.scene, click, K, pose)

    def box(self, message: BoxMessage) -> Box:
        """The box about what the given one holds when the image is undistorted."""
        given = Box(message.camera, message.u0, message.v0, message.u1, message.v1)
        self._size(given.view)  # which names an unknown camera
        self._refuse_moved(given.view, nanoseconds(message.stamp), "box")
        lens = self.calibrations[given.view]
        return Box(given.view, *lens.pinhole_box(given.u0, given.v0, given.u1, given.v1))

    def mask(self, message: CameraMask) -> ViewMask:
        """The mask of the pinhole image."""
        height, width = self._size(message.camera)
        self._refuse_moved(message.camera, nanoseconds(message.mask.header.stamp), "mask")
        who = f"mask of camera '{message.camera}'"
        if message.mask.encoding not in ("mono8", "8UC1", "mono16"):
            raise InputError(
                f"{who}: encoding '{message.mask.encoding}' is not that of a mask; expected mono8 "
                "or mono16, not 0 on the object"
            )
        pixels = array_from_image(message.mask, who)
        if pixels.shape != (height, width):
            raise PromptError(
                f"the {who} is {pixels.shape[1]}x{pixels.shape[0]}, but its images are "
                f"{width}x{height}; give a mask of the image as it is published"
            )
        calibration = self.calibrations[message.camera]
        marked = (pixels > 0).astype(np.float32)
        return ViewMask(message.camera, calibration.undistort_labels(marked) > 0.5)

    def point(self, message: PointStamped) -> Point:
        """The point in the scene's frame."""
        frame = message.header.frame_id.lstrip("/")
        place = np.array([message.point.x, message.point.y, message.point.z])
        if frame not in ("", self.scene.frame_id.lstrip("/")):
            place = apply(self._scene_from(frame, nanoseconds(message.header.stamp)), place)
        return Point(*(float(value) for value in place))

    def _scene_from(self, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        if stamp_ns in (0, self.scene.stamp_ns) and frame in self.frame_poses:
            return self.frame_poses[frame]
        try:
            return self.transforms.lookup(self.scene.frame_id, frame, stamp_ns)
        except WildSeg3DError as error:
            raise WildSeg3DError(
                f"the 3D point in frame '{frame}' cannot be found in the scene: {error}",
                ErrorCode.UNKNOWN_FRAME,
            ) from error

    def _size(self, camera: str) -> tuple[int, int]:
        return self.scene.camera_size(self.scene.view_index(camera))

    def warnings(self, message: PromptMessage) -> list[str]:
        """What the caller should know of cameras that stand elsewhere than in the scene."""
        unstamped = {
            each.camera
            for each in (*message.clicks, *message.boxes)
            if not nanoseconds(each.stamp)
            and each.camera in self.scene.view_names
            and not is_captured(each.camera)
        }
        out = []
        for camera in sorted(unstamped):
            try:
                moved = self._moved_to(camera, _NEWEST) is not None
            except WildSeg3DError:
                continue  # TF has lost the camera: what it was pointed at is not known
            if moved:
                out.append(
                    f"camera '{camera}' has moved since the scene was taken, and its pixels were "
                    "taken to be those of its image in the scene; if a newer image is meant, give "
                    "its stamp"
                )
        return out

    def _moved_to(self, camera: str, stamp_ns: int) -> NDArray[np.float64] | None:
        """``scene_from_cam`` (4, 4) of an image of another time; None where it is the scene's.

        What the scene corrected in a camera's pose is taken to be the error of its place on what
        carries it, as of a camera on a wrist.

        Raises:
            WildSeg3DError: TF does not have the camera's pose at that time.
        """
        view = self.scene.view_index(camera)
        if stamp_ns in (0, self.scene.stamps_ns[view]):
            return None
        if is_captured(camera):
            raise PromptError(
                f"view '{camera}' was captured at {self.scene.stamps_ns[view] / 1e9:.3f} s, and "
                f"the image at {stamp_ns / 1e9:.3f} s is meant; name the camera "
                f"'{camera_of(camera)}' for its later images",
                ErrorCode.OTHER_SCENE,
            )
        frame = self.scene.camera_frames[view].lstrip("/")
        before = self.frame_poses.get(frame)
        if before is None:
            return None
        now = self.transforms.lookup(self.scene.frame_id, frame, max(stamp_ns, 0))
        if not differ(before, now, self.pose_tolerance):
            return None
        return now @ invert(before) @ self.scene.world_from_cam[view]

    def _refuse_moved(self, camera: str, stamp_ns: int, what: str) -> None:
        if self._moved_to(camera, stamp_ns) is not None:
            raise PromptError(
                f"the {what} is of an image that camera '{camera}' took elsewhere than the "
                "scene's; click instead, or build the scene anew",
                ErrorCode.OTHER_SCENE,
            )

    def _live_pose(self, camera: str, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        """``scene_from_cam`` (4, 4) of an image of a camera of which the scene has captured views,
        or none; corrected as the nearest of these was."""
        now = self.transforms.lookup(self.scene.frame_id, frame, stamp_ns)
        nearest, correction = np.inf, np.eye(4)
        for view, name in enumerate(self.scene.view_names):
            given = self.view_poses.get(name)
            if given is None or camera_of(name) != camera:
                continue
            distance = float(np.linalg.norm(given[:3, 3] - now[:3, 3]))
            if distance < nearest:
                nearest = distance
                correction = invert(given) @ self.scene.world_from_cam[view]
        return now @ correction
