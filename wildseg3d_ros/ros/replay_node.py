"""Publishes a recording as live cameras: images, calibration, depth and TF.

Topics are named so that the defaults of a scene node in the same namespace fit:
    <camera>/color/image_raw                          rgb8
    <camera>/color/camera_info
    <camera>/aligned_depth_to_color/image_raw         32FC1 [m] or 16UC1 [mm]
    /tf_static or /tf                                 world -> <camera>_color_optical_frame
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.loading import load_recording
from wildseg3d_ros.io.recording import Recording
from wildseg3d_ros.ros.messages.conversions import (
    image_from_array,
    info_from_lens,
    time_message,
    transform_from_matrix,
)
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.running import run_node
from wildseg3d_ros.streams.config import CameraConfig
from wildseg3d_ros.streams.rig_file import read_rig

WORLD_FRAME = "world"


def camera_names(recording: Recording) -> tuple[str, ...]:
    """Camera names of the views, fit to be parts of topic names, in the views' order.

    Raises:
        InputError: two views become one name.
    """
    names = []
    for view in recording.views:
        name = re.sub(r"[^A-Za-z0-9_]+", "_", view.name).strip("_")
        names.append(name if name[:1].isalpha() else f"camera_{name}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"two views become the camera {', '.join(twice)} as topic names allow only letters, "
            "digits and _; rename the image files"
        )
    return tuple(names)


def optical_frame(camera: str) -> str:
    """Name of a camera's optical frame in TF."""
    return f"{camera}_color_optical_frame"


class ReplayNode(Node):
    """Repeats the frames of a recording, stamped with the time of each publication.

    Args:
        recording: what to publish.
        rate: frames per second of every camera.
        tf: static publishes the poses once, latched; dynamic with every frame; none not at all.
        depth_encoding: 32FC1 (metres, exact) or 16UC1 (millimetres, rounded).
        options: of :class:`rclpy.node.Node`.

    Raises:
        InputError: a view without calibration, or names that clash.
    """

    def __init__(
        self,
        recording: Recording,
        rate: float = 2.0,
        tf: Literal["static", "dynamic", "none"] = "static",
        depth_encoding: Literal["32FC1", "16UC1"] = "32FC1",
        **options: object,
    ) -> None:
        super().__init__("replay", **options)  # type: ignore[arg-type]
        self.names = camera_names(recording)
        qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
        self._streams: dict[tuple[str, str], tuple[Publisher, Image | CameraInfo]] = {}
        for name, view in zip(self.names, recording.views, strict=True):
            for field, message in camera_messages(name, view, depth_encoding).items():
                topic = getattr(CameraConfig.of(name), field)
                publisher = self.create_publisher(type(message), topic, qos)
                self._streams[name, field] = (publisher, message)
        self._transforms = [
            transform_from_matrix(view.world_from_cam_prior, WORLD_FRAME, optical_frame(name))
            for name, view in zip(self.names, recording.views, strict=True)
            if view.world_from_cam_prior is not None
        ]
        self._moving = None
        if self._transforms and tf == "dynamic":
            self._moving = self.create_publisher(TFMessage, "/tf", 100)
        elif self._transforms and tf == "static":
            still = self.create_publisher(TFMessage, "/tf_static", latched())
            still.publish(TFMessage(transforms=self._transforms))
        # One message at a time: all of a moment would overflow the buffers of best-effort
        # subscribers, and the same ones every time. Those of one camera still share a stamp.
        self._waiting: deque[tuple[str, str]] = deque()
        self._turn = itertools.cycle(self.names)
        self._stamp = time_message(0)
        self.create_timer(1.0 / (rate * len(self._streams)), self._publish)
        names = list(self.names)
        self.get_logger().info(f"publishing {len(names)} cameras at {rate:g} Hz: {names}")

    def _publish(self) -> None:
        if not self._waiting:
            camera = next(self._turn)
            self._waiting.extend(key for key in self._streams if key[0] == camera)
            self._stamp = time_message(self.get_clock().now().nanoseconds)
            if self._moving is not None:
                for transform in self._transforms:
                    transform.header.stamp = self._stamp
                self._moving.publish(TFMessage(transforms=self._transforms))
        stream = self._streams.get(self._waiting.popleft()) if self._waiting else None
        if stream is not None:
            publisher, message = stream
            message.header.stamp = self._stamp
            publisher.publish(message)


class MovingReplayNode(ReplayNode):
    """One camera that stands where one view of a recording after the other was taken.

    Args:
        recording: views with poses.
        camera: its name.
        dwell: seconds for which it stands at each; it jumps to the next. 0: until :meth:`move`.
        rate, depth_encoding, options: as of :class:`ReplayNode`.

    Raises:
        InputError: a view without calibration or pose.
    """

    def __init__(
        self,
        recording: Recording,
        camera: str,
        dwell: float = 3.0,
        rate: float = 5.0,
        depth_encoding: Literal["32FC1", "16UC1"] = "32FC1",
        **options: object,
    ) -> None:
        views = [replace(view, name=camera) for view in recording.views]
        unposed = [v.name for v in recording.views if v.world_from_cam_prior is None]
        if unposed:
            raise InputError(
                f"view {', '.join(unposed)} has no pose: a camera cannot stand there",
                ErrorCode.BAD_CALIBRATION,
            )
        first = Recording(tuple(views[:1]), recording.object_masks[:1])
        super().__init__(first, rate, "dynamic", depth_encoding, **options)
        (self._name,) = self.names
        self._views, self._encoding = views, depth_encoding
        self._places = itertools.cycle(range(len(views)))
        self.place = next(self._places)
        if dwell > 0:
            self.create_timer(dwell, self.move)

    def move(self) -> None:
        """To where the next view was taken; after the last comes the first."""
        self.place = next(self._places)
        view = self._views[self.place]
        self._waiting.clear()  # what it shows from now on has one stamp and one pose
        for field, message in camera_messages(self._name, view, self._encoding).items():
            publisher, _ = self._streams[self._name, field]
            self._streams[self._name, field] = (publisher, message)
        frame, pose = optical_frame(self._name), view.world_from_cam_prior
        assert pose is not None  # checked above
        self._transforms = [transform_from_matrix(pose, WORLD_FRAME, frame)]


def camera_messages(name: str, view: View, depth_encoding: str) -> dict[str, Image | CameraInfo]:
    """A camera's messages by the parameter that names their topic."""
    if view.K is None:
        raise InputError(
            f"camera '{view.name}' has no calibration to publish; only recordings with intrinsics "
            "can be replayed",
            ErrorCode.BAD_CALIBRATION,
        )
    frame = optical_frame(name)
    messages: dict[str, Image | CameraInfo] = {
        "camera_info_topic": info_from_lens(Lens(view.K, view.size), frame),
        "image_topic": image_from_array(view.image, "rgb8", frame),
    }
    if view.depth is not None:
        depth = view.depth
        if depth_encoding == "16UC1":
            millimetres = np.rint(depth * 1000.0)
            # What 16 bits cannot hold is no measurement, rather than a wrong one.
            depth = np.where(millimetres <= 65535, millimetres, 0).astype(np.uint16)
        messages["depth_topic"] = image_from_array(depth, depth_encoding, frame)
    return messages


def main(args: Sequence[str] | None = None, prog: str = "replay_node") -> int:
    """``replay_node FOLDER``: publishes a folder until it is told to stop.

    Args:
        args: command line without the program's name; None for the process's own.
        prog: name of the command in its help.
    """
    words = list(sys.argv[1:] if args is None else args)
    parser = argparse.ArgumentParser(
        prog=prog, description="Publish a recording as live camera topics and TF."
    )
    parser.add_argument("folder", help="a folder of a recording, or a bag")
    text = "rig's parameter file, which says the cameras of a bag"
    parser.add_argument("--config", metavar="YAML", type=Path, help=text)
    parser.add_argument("--rate", type=float, default=2.0, help="frames per second (%(default)s)")
    parser.add_argument("--max-views", type=int, help="at most so many cameras, evenly chosen")
    parser.add_argument(
        "--tf",
        choices=("static", "dynamic", "none"),
        default="static",
        help="camera poses: once on /tf_static, with every frame on /tf, or not (%(default)s)",
    )
    parser.add_argument(
        "--depth",
        choices=("32FC1", "16UC1"),
        default="32FC1",
        help="exact metres, or rounded to millimetres as most drivers do (%(default)s)",
    )
    text = "publish one camera of that name, which stands where one view after the other was taken"
    parser.add_argument("--as-one", metavar="CAMERA", help=text)
    text = "with --as-one: seconds at each place (%(default)s)"
    parser.add_argument("--dwell", type=float, default=3.0, help=text)
    given = parser.parse_args(remove_ros_args(words))
    if not 0 < given.rate <= 1000:
        parser.error(f"--rate must lie in (0, 1000], got {given.rate}")

    def make() -> ReplayNode:
        rig = read_rig(given.config) if given.config else None
        recording = load_recording(given.folder, given.max_views, rig=rig)
        if given.as_one:
            node: ReplayNode = MovingReplayNode(
                recording, given.as_one, given.dwell, given.rate, given.depth
            )
        else:
            node = ReplayNode(recording, given.rate, given.tf, given.depth)
        for warning in recording.warnings:
            node.get_logger().warning(warning)
        return node

    return run_node(make, words)


if __name__ == "__main__":
    sys.exit(main())
