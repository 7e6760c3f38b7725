"""``wildseg3d record``: the topics that a rig needs, and TF, written to a bag as they come."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.utilities import remove_ros_args
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import FileError, WildSeg3DError
from wildseg3d_ros.io.bags.writing import BagWriter
from wildseg3d_ros.ros.cameras.camera import Camera
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.running import BAD_START, run_node
from wildseg3d_ros.streams.config import CameraConfig
from wildseg3d_ros.streams.frames import FrameMatcher
from wildseg3d_ros.streams.rig_file import read_rig

_ADAPT_SECONDS = 1.0


class RecordNode(Node):
    """Subscribes to what cameras and TF publish, and writes it without looking into it.

    Args:
        cameras: where each camera publishes.
        writer: of the bag.
        seconds: after which the recording ends; 0 for when the process is told to.
        options: of :class:`rclpy.node.Node`.

    Attributes:
        failed: what ended the recording early; None while nothing did.
    """

    def __init__(
        self,
        cameras: Mapping[str, CameraConfig],
        writer: BagWriter,
        seconds: float = 0.0,
        **options: object,
    ) -> None:
        super().__init__("recorder", **options)  # type: ignore[arg-type]
        self._writer, self.failed = writer, None
        self._group = MutuallyExclusiveCallbackGroup()
        self._cameras = [
            Camera(self, name, config, FrameMatcher(0.0, False), self._group)
            for name, config in cameras.items()
        ]
        self._subscriptions_of: dict[str, tuple[QoSProfile, Subscription]] = {}
        self._topics: list[str] = []
        depth = 100  # as listeners to TF have
        for topic, qos in (
            ("/tf", QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)),
            ("/tf_static", latched(depth)),
        ):
            self._add(topic, TFMessage, latched=topic == "/tf_static")
            self._listen(topic, TFMessage, qos)
        for camera in self._cameras:
            for stream in camera.streams:
                self._add(self.resolve_topic_name(stream.topic), stream.kind)
        self.adapt()
        self.create_timer(_ADAPT_SECONDS, self.adapt)
        self._end = time.monotonic() + seconds if seconds else float("inf")
        self.create_timer(0.1, self._look_at_time)

    @property
    def silent(self) -> list[str]:
        """Topics on which nothing came."""
        return [topic for topic in self._topics if not self._writer.counts[topic]]

    def adapt(self) -> None:
        """Fits the subscriptions to publishers that appeared meanwhile."""
        for camera in self._cameras:
            for stream in camera.streams:
                topic, qos = self.resolve_topic_name(stream.topic), camera.qos(stream)
                known = self._subscriptions_of.get(topic)
                if known is not None:
                    before = known[0]
                    if (before.reliability, before.durability) == (
                        qos.reliability,
                        qos.durability,
                    ):
                        continue
                    self.destroy_subscription(known[1])
                self._listen(topic, stream.kind, qos)

    def close(self) -> None:
        """Ends the bag."""
        try:
            self._writer.close()
        except WildSeg3DError as error:
            self.failed = error

    def _add(self, topic: str, kind: type, latched: bool = False) -> None:
        if topic in self._topics:
            return
        package, _, _ = kind.__module__.partition(".")
        self._writer.add_topic(topic, f"{package}/msg/{kind.__name__}", latched)
        self._topics.append(topic)

    def _listen(self, topic: str, kind: type, qos: QoSProfile) -> None:
        callback = never_raises(partial(self._take, topic), self.get_logger())
        made = self.create_subscription(
            kind, topic, callback, qos, callback_group=self._group, raw=True
        )
        self._subscriptions_of[topic] = qos, made

    def _take(self, topic: str, data: bytes) -> None:
        try:
            self._writer.write(topic, self.get_clock().now().nanoseconds, data)
        except WildSeg3DError as error:
            self.failed = error
            rclpy.try_shutdown(context=self.context)

    def _look_at_time(self) -> None:
        if time.monotonic() > self._end:
            rclpy.try_shutdown(context=self.context)


def main(args: Sequence[str] | None = None, prog: str = "record_node") -> int:
    """``record_node -o BAG --config YAML``: records until it is told to stop.

    Args:
        args: command line without the program's name; None for the process's own.
        prog: name of the command in its help.

    Raises:
        FileError: the bag cannot be written. ConfigError: a rig's file that does not fit.
    """
    words = list(sys.argv[1:] if args is None else args)
    given = _parser(prog).parse_args(remove_ros_args(words))
    cameras = {name: CameraConfig.of(name) for name in given.cameras}
    if given.config:
        cameras |= read_rig(given.config).cameras
    if not cameras:
        raise FileError("nothing to record: name cameras by --config RIG.yaml or --cameras NAME")
    writer = BagWriter(given.output, given.storage, given.compress)
    nodes: list[RecordNode] = []

    def make() -> RecordNode:
        nodes.append(RecordNode(cameras, writer, given.seconds))
        nodes[0].get_logger().info(f"recording {', '.join(cameras)} to {given.output}")
        return nodes[0]

    try:
        code = run_node(make, words)
    finally:
        if not nodes:
            writer.abort()
    return code if code or not nodes else _report(nodes[0], writer)


def _report(node: RecordNode, writer: BagWriter) -> int:
    """Prints what was written; the exit status."""
    if node.failed is not None:
        writer.abort()
        raise node.failed
    silent = [topic for topic in node.silent if topic not in ("/tf", "/tf_static")]
    if not writer.counts.total():
        raise FileError(f"no bag was written: nothing came on {', '.join(node.silent)}")
    for topic in silent:
        print(f"warning  nothing came on {topic}")
    size = sum(file.stat().st_size for file in writer.path.iterdir())
    count = writer.counts.total()
    print(f"wrote    {writer.path} ({count} messages, {size / 1e6:.1f} MB)")
    return BAD_START if silent else 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Write what a rig's cameras and TF publish to a ROS 2 bag."
    )
    option = parser.add_argument
    option("-o", "--output", metavar="BAG", type=Path, required=True, help="folder to write")
    option("--config", metavar="YAML", type=Path, help="rig's parameter file: which topics")
    text = "cameras with the default topics, beside those of --config"
    option("--cameras", metavar="NAME", nargs="+", default=[], help=text)
    text = "how long to record (default: until Ctrl-C)"
    option("--seconds", metavar="S", type=float, default=0.0, help=text)
    text = "of the bag (%(default)s)"
    option("--storage", choices=("mcap", "sqlite3"), default="mcap", help=text)
    option("--compress", action="store_true", help="each message, by zstd")
    return parser


if __name__ == "__main__":
    sys.exit(main())
