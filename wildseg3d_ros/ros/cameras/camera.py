"""One camera: its topics, its newest messages, and their conversion to arrays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.streams.config import CameraConfig
from wildseg3d_ros.streams.decoding import CameraDecoder
from wildseg3d_ros.streams.frames import FrameMatcher


@dataclass(frozen=True)
class Stream:
    """One topic of a camera; its part is ``image``, ``depth`` or ``camera_info``."""

    part: str
    kind: type
    topic: str


class Camera:
    """Subscriptions of one camera and the messages that came; the callbacks only store messages.

    Attributes:
        who: the camera in a sentence.
        decoder: from its messages to arrays.
        image: colour images.
        streams: those, depth if there is any, and their calibration.
        since: monotonic seconds when it was subscribed to.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        config: CameraConfig,
        matcher: FrameMatcher,
        callback_group: CallbackGroup,
    ) -> None:
        self.name, self.config, self.matcher = name, config, matcher
        self._node, self._group = node, callback_group
        self.image = _stream("image", config.image_topic, config.image_transport)
        info = Stream("camera_info", CameraInfo, config.camera_info_topic)
        depth = _stream("depth", config.depth_topic, config.depth_transport)
        self.streams = (self.image, depth, info) if config.depth_topic else (self.image, info)
        self._subscriptions: dict[str, Subscription] = {}
        topic = node.resolve_topic_name(config.camera_info_topic)
        self.who = f"camera '{name}'"
        self.decoder = CameraDecoder(name, config, topic, node.get_logger().warning)
        self.since = time.monotonic()

    def qos(self, stream: Stream) -> QoSProfile:
        """The QoS with which a stream is subscribed, or is to be.

        With ``reliability: auto`` it is reliable where all publishers are. A message that exceeds
        the shared memory's segment arrives in many fragments, and on a busy machine best effort
        loses one of them in most 640x480 images; but a best-effort publisher admits nothing else.
        Calibration that all its publishers latch may be published once: it is asked for again.
        """
        full = self._node.resolve_topic_name(stream.topic)
        offered = [p.qos_profile for p in self._node.get_publishers_info_by_topic(full)]
        known = self._subscriptions.get(stream.part)
        if not offered and known is not None:
            return known.qos_profile  # a driver that starts again
        reliable = {each.reliability for each in offered} == {ReliabilityPolicy.RELIABLE}
        durable = {each.durability for each in offered} == {DurabilityPolicy.TRANSIENT_LOCAL}
        if stream.kind is CameraInfo and reliable and durable:
            return latched(depth=5)
        wanted = self.config.reliability
        if wanted == "auto":
            wanted = "reliable" if reliable else "best_effort"
        return QoSProfile(depth=5, reliability=ReliabilityPolicy[wanted.upper()])

    def subscribe(self) -> None:
        """Begins to listen; called again, it adapts to publishers that appeared meanwhile."""
        if not self._subscriptions:
            self.since = time.monotonic()
        for stream in self.streams:
            qos, known = self.qos(stream), self._subscriptions.get(stream.part)
            if known is not None:
                if _policies(known.qos_profile) == _policies(qos):
                    continue
                self._node.destroy_subscription(known)
            self._subscriptions[stream.part] = self._listen(stream, qos)

    def unsubscribe(self) -> None:
        """Stops listening."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.popitem()[1])

    def _listen(self, stream: Stream, qos: QoSProfile) -> Subscription:
        take = partial(self.matcher.add, stream.part)
        return self._node.create_subscription(
            stream.kind,
            stream.topic,
            never_raises(take, self._node.get_logger()),
            qos,
            callback_group=self._group,
            # rclpy's handlers of incompatible QoS cost two more entries of the wait set each, for
            # every message; instead, publishers are checked once a second.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )


def _policies(qos: QoSProfile) -> tuple[ReliabilityPolicy, DurabilityPolicy]:
    return qos.reliability, qos.durability


def _stream(part: str, topic: str, transport: str) -> Stream:
    if transport == "raw":
        return Stream(part, Image, topic)
    return Stream(part, CompressedImage, f"{topic}/{transport}")
