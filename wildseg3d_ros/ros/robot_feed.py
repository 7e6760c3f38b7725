"""The robot of a running cell: its links' solids by its description, moved by TF."""

from __future__ import annotations

import time

from rclpy.node import Node
from std_msgs.msg import String

from wildseg3d_ros.core.errors import ConfigError, WildSeg3DError
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.robot.solids import LinkSolid, PlacedSolid
from wildseg3d_ros.robot.urdf import read_links
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.tf.listener import TransformListener, make_buffer

_UNSEEN = 3.0
"""Seconds after which nobody looks any more: robots publish TF hundreds of times a second."""
_UNHEARD = 2.0
"""Seconds after which TF should have told where the robot is."""


class RobotFeed:
    """Listens for a description, and to TF while there is one and somebody looks.

    Args:
        node: that listens.
        config: the topic, and what stands before the links' names in TF; the topic may be empty.
    """

    def __init__(self, node: Node, config: RobotConfig) -> None:
        self._node, self._prefix = node, config.frame_prefix
        self._text = self._read = ""
        self._solids: tuple[LinkSolid, ...] = ()
        self._transforms: TransformListener | None = None
        self._listening, self._since, self._asked = False, 0.0, 0.0
        self._misread = self._lost = ""
        if config.description_topic:
            take = never_raises(self._take, node.get_logger())
            node.create_subscription(String, config.description_topic, take, latched())

    @property
    def problem(self) -> str:
        """Why the robot is not drawn, or not completely, though it is described; else empty."""
        return self._misread or self._lost

    def links(self, frame: str) -> tuple[PlacedSolid, ...]:
        """Solids of the links whose newest pose in a frame TF knows."""
        self._asked = time.monotonic()
        if self._transforms is None or not self._listening:
            return ()
        poses, links, reason = {}, [], ""
        for solid in self._solids:
            try:
                if solid.link not in poses:
                    name = self._prefix + solid.link
                    poses[solid.link] = self._transforms.lookup(frame, name, 0)
            except WildSeg3DError as error:
                reason = str(error)
                continue
            pose = poses[solid.link] @ solid.link_from_solid
            links.append(PlacedSolid(solid.kind, solid.half, pose))
        self._lost = ""
        if not links and time.monotonic() - self._since > _UNHEARD:
            self._lost = (
                f"the robot is not drawn: TF has none of its links ({reason}); start "
                "robot_state_publisher, give its frame_prefix as --robot-prefix, or --robot '' to "
                "draw none"
            )
        return tuple(links)

    def look(self) -> None:
        """Reads a description that has come, which takes seconds where it has meshes; begins and
        stops to listen to TF."""
        if self._text != self._read:
            self._read = self._text
            self._solids, self._misread = self._parsed(self._read)
        wanted = bool(self._solids) and time.monotonic() - self._asked < _UNSEEN
        if wanted == self._listening:
            return
        if self._transforms is None:
            group = self._node.default_callback_group
            self._transforms = TransformListener(self._node, make_buffer(), group)
        if wanted:
            self._transforms.subscribe()
        else:
            self._transforms.unsubscribe()
            self._transforms.forget()
        self._listening, self._since = wanted, time.monotonic()

    def _parsed(self, text: str) -> tuple[tuple[LinkSolid, ...], str]:
        lacking: list[str] = []
        try:
            solids = read_links(text, lacking.append)
        except ConfigError as error:
            return (), f"the robot is not drawn: {'; '.join([str(error), *lacking])}"
        return solids, f"the robot is drawn in part: {'; '.join(lacking)}" if lacking else ""

    def _take(self, message: String) -> None:
        self._text = message.data
