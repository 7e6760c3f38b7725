"""The node's listener to TF, and the choice of its buffer."""

from __future__ import annotations

from functools import partial

from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.messages.conversions import nanoseconds
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.tf.buffer import TransformBuffer
from wildseg3d_ros.ros.tf.tree import TransformTree

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
    """Feeds a buffer from /tf and /tf_static while it is subscribed.

    A transform with numbers that make no pose is skipped and reported once per child frame. Stamps
    that go back are a recording that starts again: what moved before it is forgotten.
    tf2_ros's own listener would subscribe for good, and in the node's default callback group.
    """

    def __init__(self, node: Node, buffer: TransformBuffer, callback_group: CallbackGroup) -> None:
        self._node, self._buffer, self._group = node, buffer, callback_group
        self._subscriptions: list[Subscription] = []
        self._complained: set[str] = set()
        self._newest: dict[str, int] = {}

    def subscribe(self) -> None:
        """Begins to listen."""
        depth = 100  # as tf2_ros' listener: many publishers share these topics
        moving = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        logger = self._node.get_logger()
        for topic, static, qos in (("/tf", False, moving), ("/tf_static", True, latched(depth))):
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
        self._buffer.clear()

    def _take(self, message: TFMessage, static: bool) -> None:
        for transform in message.transforms:
            if not static:
                self._check_time(transform)
            try:
                self._buffer.add(transform, static)
            except ValueError as error:
                if transform.child_frame_id not in self._complained:
                    self._complained.add(transform.child_frame_id)
                    self._node.get_logger().warning(
                        f"ignoring the transform {transform.header.frame_id} -> "
                        f"{transform.child_frame_id}: {error}"
                    )

    def _check_time(self, transform: TransformStamped) -> None:
        child, stamp_ns = transform.child_frame_id, nanoseconds(transform.header.stamp)
        back = self._newest.get(child, stamp_ns) - stamp_ns
        if back > _RESTART_NS:
            self._node.get_logger().warning(
                f"the time of the transform of '{child}' went back by {back / 1e9:.3f} s (a "
                "recording that starts again, or a clock that was set); moving transforms of "
                "before are forgotten"
            )
            self.forget()
        self._newest[child] = max(stamp_ns, self._newest.get(child, stamp_ns))
