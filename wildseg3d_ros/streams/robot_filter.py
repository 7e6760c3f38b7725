"""The robot, left out of the views of a capture by its description and TF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, InputError, WildSeg3DError
from wildseg3d_ros.core.types import View
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.robot.self_filter import robot_pixels, without_robot
from wildseg3d_ros.robot.urdf import read_links
from wildseg3d_ros.streams.capture import Capture
from wildseg3d_ros.streams.tf.buffer import Transforms
from wildseg3d_ros.streams.tf.errors import Extrapolation, TooEarly

CamFromLink = Mapping[str, NDArray[np.float64]]
"""(4, 4) pose of each link in a camera's frame, by the link's name."""


class RobotFilter:
    """Finds and leaves out the pixels of one robot.

    Args:
        description: its URDF.
        config: padding and names of its frames.
        warn: told of links that cannot be filtered by.

    Raises:
        ConfigError: a description that is no URDF.
    """

    def __init__(
        self, description: str, config: RobotConfig, warn: Callable[[str], object]
    ) -> None:
        self._config = config
        self._solids = [each.padded(config.padding) for each in read_links(description, warn)]
        self._links = tuple(dict.fromkeys(each.link for each in self._solids))

    def poses(
        self, frame: str, stamp_ns: int, transforms: Transforms
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, WildSeg3DError]]:
        """Poses (4, 4) of the links in a camera's frame at a time, and why others have none."""
        poses, lacking = {}, {}
        for link in self._links:
            try:
                poses[link] = transforms.lookup(frame, self._config.frame_prefix + link, stamp_ns)
            except WildSeg3DError as error:
                lacking[link] = error
        return poses, lacking

    def is_late(self, frame: str, stamp_ns: int, transforms: Transforms) -> bool:
        """Whether the pose of a link at a time is still to come."""
        errors = self.poses(frame, stamp_ns, transforms)[1].values()
        return any(isinstance(e, Extrapolation) and not isinstance(e, TooEarly) for e in errors)

    def apply(self, view: View, cam_from_link: CamFromLink) -> View:
        """The view without the robot, whose links are at these poses."""
        return without_robot(view, robot_pixels(view, self._solids, cam_from_link))

    def applied(self, capture: Capture, transforms: Transforms) -> Capture:
        """What the cameras see, without the robot; links that TF does not know are named.

        Raises:
            InputError: TF knows no link at all (MISSING_TF).
        """
        views, unknown = [], {}
        for view in capture.views:
            poses, lacking = self.poses(view.frame_id, view.stamp_ns, transforms)
            if not poses:
                raise InputError(
                    f"the robot cannot be left out of the image of camera '{view.name}': TF has "
                    f"none of its {len(self._links)} links ({next(iter(lacking.values()))}); is "
                    "robot_state_publisher running, and is 'robot.frame_prefix' its own?",
                    ErrorCode.MISSING_TF,
                )
            unknown.update(lacking)
            views.append(self.apply(view, poses))
        notes = capture.notes
        if unknown:
            names = ", ".join(f"'{name}'" for name in unknown)
            cause = next(iter(unknown.values()))
            notes += (f"link {names} of the robot is not left out of the scene: {cause}",)
        return replace(capture, views=tuple(views), notes=notes)
