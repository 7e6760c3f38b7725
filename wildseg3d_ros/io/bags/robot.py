"""The robot of a bag, left out of its views as the node leaves it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.reading import of_home
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.bags.reading import Topic
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.streams.capture import Capture
from wildseg3d_ros.streams.frames import FrameSet
from wildseg3d_ros.streams.robot_filter import CamFromLink, RobotFilter
from wildseg3d_ros.streams.tf.buffer import Transforms


class BagRobot:
    """Makes the filter when the description is there, and notes where the robot was.

    Args:
        config: of the rig's file.
        topics: of the bag.
        warn: told of links that cannot be filtered by.

    Attributes:
        topic: of the description in the bag; empty where none is asked for.

    Raises:
        ConfigError: the description is no URDF, or the bag has not its topic.
        FileError: its file cannot be read.
    """

    def __init__(
        self, config: RobotConfig, topics: Mapping[str, Topic], warn: Callable[[str], object]
    ) -> None:
        self._config, self._warn = config, warn
        self._filter: RobotFilter | None = None
        self._links: dict[tuple[str, int], CamFromLink] = {}
        self.topic = ""
        if config.description_file:
            path = Path(of_home(config.description_file))
            self._filter = RobotFilter(read_text(path, "robot description"), config, warn)
        elif config.description_topic:
            self.topic = "/" + config.description_topic.lstrip("/")
            if self.topic not in topics:
                raise ConfigError(
                    f"the bag has no topic '{self.topic}' with the robot's description; name its "
                    "file as 'robot.description_file', or clear 'robot.description_topic'"
                )

    def describe(self, text: str) -> None:
        """Takes the description that came on the topic."""
        self._filter = RobotFilter(text, self._config, self._warn)

    def note(self, frames: FrameSet, transforms: Transforms) -> None:
        """Notes where the links are at the time of a moving camera's frame: TF is forgotten."""
        if self._filter is not None:
            place = frames.image.header.frame_id, frames.stamp_ns
            self._links[place] = self._filter.poses(*place, transforms)[0]

    def out_of(self, capture: Capture, transforms: Transforms) -> Capture:
        """What cameras that stand still see, without the robot; errors as of
        :meth:`RobotFilter.applied`."""
        return capture if self._filter is None else self._filter.applied(capture, transforms)

    def out_of_noted(self, view: View) -> View:
        """The view of a frame that was noted, without the robot."""
        links = self._links.get((view.frame_id, view.stamp_ns))
        if self._filter is None or not links:
            return view
        return self._filter.apply(view, links)
