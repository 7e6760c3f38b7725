"""The node's listener to TF, and the choice of its buffer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.tf.diagnostics import TF, TF_STATIC, TransformDiagnostics
from wildseg3d_ros.ros.tf.limit import LONGEST_NAME, MOST_FRAMES, FrameLimit
from wildseg3d_ros.streams.messages import nanoseconds
from wildseg3d_ros.streams.tf.buffer import TransformBuffer
from wildseg3d_ros.streams.tf.errors import Extrapolation, TransformFault
from wildseg3d_ros.streams.tf.links import Link, branches
from wildseg3d_ros.streams.tf.tree import TransformTree

_RESTART_NS = 1_000_000_000
"""Stamps of a frame that go back by more are those of a source that started again."""


def make_buffer() -> TransformBuffer:
    """tf2's buffer where tf2_ros is installed, else our own."""
    try:
        import tf2_ros  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        return TransformTree()
    from wildseg3d_ros.ros.tf.tf2 import Tf2Buffer

    return Tf2Buffer()


class TransformListener:
    """Feeds a buffer from /tf and /tf_static while it is subscribed, and answers from it.

    A transform with numbers that make no pose is skipped and reported once per child frame. Stamps
    that go back are a recording that starts again: what moved before it is forgotten.
    tf2_ros's own listener would subscribe for good, and in the node's default callback group.

    Attributes:
        buffer: that it feeds.
    """

    def __init__(self, node: Node, buffer: TransformBuffer, callback_group: CallbackGroup) -> None:
        self._node, self.buffer, self._group = node, buffer, callback_group
        self._subscriptions: list[Subscription] = []
        self._diagnostics = TransformDiagnostics(node)
        self._complained: set[str] = set()
        self._newest: dict[tuple[str, str], int] = {}
        self._limit = FrameLimit(self._drop)

    def subscribe(self) -> None:
        """Begins to listen."""
        depth = 100  # as tf2_ros' listener: many publishers share these topics
        moving = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        logger = self._node.get_logger()
        for topic, static, qos in ((TF, False, moving), (TF_STATIC, True, latched(depth))):
            callback = never_raises(partial(self._take, static=static), logger)
            self._subscriptions.append(
                self._node.create_subscription(
                    TFMessage, topic, callback, qos, callback_group=self._group
                )
            )

    def unsubscribe(self) -> None:
        """Stops listening; the buffer keeps what it has."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def forget(self) -> None:
        """Empties the buffer of all that moves: time went back."""
        self._newest.clear()
        self._diagnostics.forget()
        self.buffer.clear()

    def links(self) -> Mapping[str, Link]:
        """See :class:`wildseg3d_ros.streams.tf.buffer.Transforms`."""
        return self.buffer.links()

    def frames(self) -> list[str]:
        """See :class:`wildseg3d_ros.streams.tf.buffer.Transforms`."""
        return self.buffer.frames()

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """See :class:`wildseg3d_ros.streams.tf.buffer.Transforms`.

        Errors begin with the cause, where what was published shows one (TransformFault). A frame
        on the way that has several parents is one: its pose depends on who published last.
        """
        try:
            pose = self.buffer.lookup(target, source, stamp_ns)
        except WildSeg3DError as error:
            frames = self._between(target, source)
            causes = self._diagnostics.contradictions(frames)
            causes += self._diagnostics.rejections(frames)
            if not isinstance(error, Extrapolation):
                causes += self._diagnostics.unheard()
            if not causes:
                raise
            kind = type(error) if isinstance(error, TransformFault) else TransformFault
            raise kind("; ".join([*causes, str(error)])) from error
        if self._diagnostics.disputed:
            contradictions = self._diagnostics.contradictions(self._between(target, source))
            if contradictions:
                raise TransformFault("; ".join(contradictions))
        return pose

    def _between(self, target: str, source: str) -> list[str]:
        down, up = branches(self.buffer.links(), target.lstrip("/"), source.lstrip("/"))
        return [*down, *up]

    def _take(self, message: TFMessage, info: Mapping[str, Any], static: bool) -> None:
        gid = info.get("publisher_gid")  # before Kilted there is none
        publisher = bytes(gid["data"]) if gid else b""
        for transform in message.transforms:
            child = transform.child_frame_id.lstrip("/")
            parent = transform.header.frame_id
            if len(parent) > LONGEST_NAME or not self._limit.admits(child, static):
                self._node.get_logger().warning(
                    f"the transform of '{child[:LONGEST_NAME]}' is ignored: at most {MOST_FRAMES} "
                    f"frames are remembered, with names of {LONGEST_NAME} characters",
                    throttle_duration_sec=10.0,
                )
                continue
            if not static:
                self._check_time(transform)
            try:
                self.buffer.add(transform, static)
            except ValueError as error:
                text = self._diagnostics.reject(transform, str(error), static, publisher)
                if transform.child_frame_id not in self._complained:
                    self._complained.add(transform.child_frame_id)
                    self._node.get_logger().warning(text)
            else:
                self._diagnostics.accept(transform, static, publisher)

    def _drop(self, frames: Collection[str]) -> None:
        self.buffer.drop(frames)
        self._diagnostics.drop(frames)
        gone = set(frames)
        self._newest = {pair: ns for pair, ns in self._newest.items() if pair[1] not in gone}

    def _check_time(self, transform: TransformStamped) -> None:
        if len(self._newest) > 4 * MOST_FRAMES:  # of frames that change their parents
            self._newest.clear()
        frames = transform.header.frame_id, transform.child_frame_id.lstrip("/")
        stamp_ns = nanoseconds(transform.header.stamp)
        back = self._newest.get(frames, stamp_ns) - stamp_ns
        if back > _RESTART_NS:
            self._node.get_logger().warning(
                f"the time of the transform of '{frames[1]}' went back by {back / 1e9:.3f} s (a "
                "recording that starts again, or a clock that was set); moving transforms of "
                "before are forgotten"
            )
            self.forget()
        self._newest[frames] = max(stamp_ns, self._newest.get(frames, stamp_ns))
