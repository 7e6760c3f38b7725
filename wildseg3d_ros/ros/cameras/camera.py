"""One camera: its topics, its newest messages, and their conversion to arrays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wildseg3d_ros.core.geometry.lens import Lens, resampled
from wildseg3d_ros.ros.cameras.frames import FrameMatcher, FrameSet
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.messages.camera_info import lens_from_info
from wildseg3d_ros.ros.messages.compressed import depth_from_compressed, rgb_from_compressed
from wildseg3d_ros.ros.messages.conversions import (
    UNNAMED_ORDER,
    depth_from_image,
    rgb_from_image,
)
from wildseg3d_ros.ros.parameters import CameraConfig
from wildseg3d_ros.ros.qos import latched


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
        self.who = f"camera '{name}'"
        self.image = _stream("image", config.image_topic, config.image_transport)
        info = Stream("camera_info", CameraInfo, config.camera_info_topic)
        depth = _stream("depth", config.depth_topic, config.depth_transport)
        self.streams = (self.image, depth, info) if config.depth_topic else (self.image, info)
        self._subscriptions: dict[str, Subscription] = {}
        self._calibration: tuple[Any, Lens] | None = None
        self._told_of_order = False
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

    def convert(
        self, frames: FrameSet
    ) -> tuple[Lens, NDArray[np.uint8], NDArray[np.float32] | None]:
        """Calibration, image and depth, without lens distortion.

        Raises:
            InputError: messages that cannot be used.
        """
        if isinstance(frames.image, CompressedImage):
            image = rgb_from_compressed(frames.image, self.who)
        else:
            image = rgb_from_image(frames.image, self.who, self.config.unnamed_order)
            self._warn_of_unnamed_order(frames.image.encoding)
        calibration = self._calibrate(frames.info, image.shape[:2])
        depth = None
        if frames.depth is not None:
            who = f"{self.who}: depth"
            if isinstance(frames.depth, CompressedImage):
                depth = depth_from_compressed(frames.depth, who, self.config.depth_scale)
            else:
                depth = depth_from_image(frames.depth, who, self.config.depth_scale)
            # Depth of another size is registered where it says that it is of the same camera.
            if frames.depth.header.frame_id in ("", frames.image.header.frame_id):
                depth = resampled(depth, image.shape[:2])
            if depth.shape == image.shape[:2]:  # else View says what is wrong
                depth = calibration.undistort_labels(depth)
        return calibration, calibration.undistort_color(image), depth

    def lens(self, frames: FrameSet) -> Lens:
        """Calibration of messages; errors as of :meth:`convert`."""
        if frames.size is None:
            return self.convert(frames)[0]
        return self._calibrate(frames.info, frames.size)

    def _warn_of_unnamed_order(self, encoding: str) -> None:
        if encoding.upper() in UNNAMED_ORDER and not self._told_of_order:
            self._told_of_order = True
            self._node.get_logger().warning(
                f"{self.who}: encoding '{encoding}' does not say the order of its channels; it is "
                f"taken as {self.config.unnamed_order}: set '{self.name}.unnamed_order', or let "
                "the driver publish rgb8 or bgr8"
            )

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

    def _calibrate(self, info: CameraInfo, size: tuple[int, int]) -> Lens:
        """The lens; its maps take longer than an image, so it is kept while nothing changes."""
        roi = info.roi
        key = (
            size,
            (info.height, info.width, info.distortion_model, tuple(info.d)),
            (info.k.tobytes(), info.p.tobytes(), info.binning_x, info.binning_y),
            (roi.x_offset, roi.y_offset, roi.height, roi.width),
        )
        if self._calibration is None or self._calibration[0] != key:
            topic = self._node.resolve_topic_name(self.config.camera_info_topic)
            made = lens_from_info(info, size, self.who, topic, self.config.rectified)
            self._calibration = key, made
        return self._calibration[1]


def _policies(qos: QoSProfile) -> tuple[ReliabilityPolicy, DurabilityPolicy]:
    return qos.reliability, qos.durability


def _stream(part: str, topic: str, transport: str) -> Stream:
    if transport == "raw":
        return Stream(part, Image, topic)
    return Stream(part, CompressedImage, f"{topic}/{transport}")
