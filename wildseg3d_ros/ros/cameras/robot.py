"""The robot's description, from a latched topic or a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import String

from wildseg3d_ros.core.errors import Cancelled, ConfigError
from wildseg3d_ros.core.files.reading import of_home
from wildseg3d_ros.core.files.text import read_text
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.streams.robot_filter import RobotFilter

_POLL_SECONDS = 0.02


class RobotDescription:
    """Listens for the description, and makes the filter of it when one is needed.

    Raises:
        FileError: the description's file cannot be read. ConfigError: it is no URDF.
    """

    def __init__(self, node: Node, config: RobotConfig, callback_group: CallbackGroup) -> None:
        self._node, self._config, self._group = node, config, callback_group
        self._text: str | None = None
        self._made: tuple[str, RobotConfig, RobotFilter] | None = None
        self._subscription: Subscription | None = None
        self._lock = threading.Lock()
        if config.description_file:
            path = of_home(config.description_file)
            self._text = read_text(Path(path), "robot description")
            self._make(self._text, config)

    def subscribe(self) -> None:
        """Begins to listen, where a topic is named."""
        if self._config.description_topic and self._subscription is None:
            self._subscription = self._node.create_subscription(
                String,
                self._config.description_topic,
                never_raises(self._take, self._node.get_logger()),
                latched(),
                callback_group=self._group,
            )

    def unsubscribe(self) -> None:
        """Stops listening; the description stays."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def filter(
        self, config: RobotConfig, seconds: float, cancelled: Callable[[], bool]
    ) -> RobotFilter | None:
        """The filter; None where no description is asked for.

        Args:
            config: with the padding as it is now.
            seconds: that a description on a topic is waited for.

        Raises:
            ConfigError: no description has come, or it is no URDF. Cancelled: told to stop.
        """
        if not config.is_on:
            return None
        deadline = time.monotonic() + seconds
        while self._text is None:
            if cancelled():
                raise Cancelled("cancelled while waiting for the robot's description")
            if time.monotonic() > deadline:
                topic = self._node.resolve_topic_name(config.description_topic)
                raise ConfigError(
                    f"the robot is to be left out, and its description has not come on '{topic}' "
                    "(std_msgs/String, latched); start robot_state_publisher, or clear "
                    "'robot.description_topic'"
                )
            time.sleep(_POLL_SECONDS)
        return self._make(self._text, config)

    def _take(self, message: String) -> None:
        self._text = message.data

    def _make(self, text: str, config: RobotConfig) -> RobotFilter:
        """Meshes take seconds, so a filter is kept while description and settings stay."""
        with self._lock:
            if self._made is None or self._made[:2] != (text, config):
                warn = self._node.get_logger().warning
                self._made = text, config, RobotFilter(text, config, warn)
            return self._made[2]
