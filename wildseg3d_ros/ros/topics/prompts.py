"""Prompts from topics: RViz's tool "Publish Point", and clicks in rqt_image_view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from geometry_msgs.msg import Point, PointStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription

from wildseg3d_msgs.msg import Click, Prompt
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.core.errors import ErrorCode
from wildseg3d_ros.ros.guard import never_raises

MOUSE_TOPICS = ("{camera}/mouse_left", "{camera}/overlay_mouse_left")
"""The second one is where rqt_image_view publishes clicks while it shows ``<camera>/overlay``."""


class PromptTopics:
    """Selects what is clicked: asks as a client of the service does, and logs the answer."""

    def __init__(
        self,
        node: Node,
        cameras: Sequence[str],
        ask: Callable[[Segment.Request], Segment.Response],
    ) -> None:
        self._node, self._cameras, self._ask = node, tuple(cameras), ask
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: list[Subscription] = []

    def subscribe(self) -> None:
        """Begins to listen."""
        self._listen(PointStamped, "clicked_point", self._on_point)
        for camera in self._cameras:
            for topic in MOUSE_TOPICS:
                self._listen(Point, topic.format(camera=camera), partial(self._on_mouse, camera))

    def unsubscribe(self) -> None:
        """Stops listening."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _listen(self, kind: type, topic: str, callback: Callable) -> None:
        guarded = never_raises(callback, self._node.get_logger())
        self._subscriptions.append(
            self._node.create_subscription(kind, topic, guarded, 5, callback_group=self._group)
        )

    def _on_point(self, message: PointStamped) -> None:
        p, frame = message.point, message.header.frame_id
        where = f"({p.x:.3f}, {p.y:.3f}, {p.z:.3f}) in '{frame}'"
        self._select(Prompt(points=[message]), where)

    def _on_mouse(self, camera: str, message: Point) -> None:
        click = Click(camera=camera, u=float(message.x), v=float(message.y))
        where = f"pixel ({message.x:g}, {message.y:g}) of '{camera}'"
        self._select(Prompt(clicks=[click]), where)

    def _select(self, prompt: Prompt, where: str) -> None:
        reply = self._ask(Segment.Request(prompt=prompt, publish=True))
        if reply.status.code == ErrorCode.OK:  # an error is in the log already
            ids = ", ".join(map(str, reply.object_ids))
            what = f"object {ids}" if ids else "a part that is no object"
            self._node.get_logger().info(f"{where}: {what}, {reply.cloud.width} points")
