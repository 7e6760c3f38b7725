"""Settings of the robot's self-filter."""

from __future__ import annotations

from dataclasses import dataclass

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.settings import setting


@dataclass(frozen=True)
class RobotConfig:
    """Where the robot's description is; without one, nothing is filtered."""

    description_topic: str = setting(
        "",
        "latched topic with the URDF of the robot that is left out of scenes, such as "
        "robot_description; empty = none",
    )
    description_file: str = setting("", "file with that URDF, in place of a topic; empty = none")
    padding: float = setting(
        0.02, "by how much the robot's links are taken to be larger on all sides [m]", 0.0, 0.5
    )
    frame_prefix: str = setting(
        "", "stands before the links' names in TF, as robot_state_publisher's frame_prefix"
    )

    def __post_init__(self) -> None:
        if self.description_topic and self.description_file:
            raise ConfigError(
                "'robot.description_topic' and 'robot.description_file' exclude each other; got "
                f"{self.description_topic!r} and {self.description_file!r}"
            )

    @property
    def is_on(self) -> bool:
        """Whether a description is asked for."""
        return bool(self.description_topic or self.description_file)
