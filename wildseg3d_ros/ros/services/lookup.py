"""The services ``segment`` and ``describe_object``: convert, call once, convert back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rclpy.callback_groups import CallbackGroup, ReentrantCallbackGroup
from rclpy.node import Node

from wildseg3d_msgs.msg import Alternative as AlternativeMessage
from wildseg3d_msgs.srv import DescribeObject, Segment
from wildseg3d_ros.core.types import Alternative, ObjectCloud
from wildseg3d_ros.core.types.tree import Selected
from wildseg3d_ros.ros.guard import always_replies, answer_apart
from wildseg3d_ros.ros.messages.clouds import colored_columns
from wildseg3d_ros.ros.messages.grasps import box_message
from wildseg3d_ros.ros.qos import SERVICE_QOS
from wildseg3d_ros.ros.services.current import CurrentScene, ReplyFrame, explained
from wildseg3d_ros.ros.services.describe import check_describe, describe
from wildseg3d_ros.scene.prompting import selected_by
from wildseg3d_ros.scene.voxels import check_voxel_size, voxel_downsample
from wildseg3d_ros.streams.tf.buffer import Transforms


class _Watches(Protocol):
    """What is known of the cameras since the scene was taken."""

    def warnings(self) -> Sequence[str]: ...

    def size_warning(self, name: str) -> str: ...


class LookupServices:
    """Answers what prompts mean in the current scene.

    Args:
        node, transforms: of the scene node.
        current: gives the scene that answers, or raises why there is none.
        monitor: compares the cameras with the scene.
        show: shows what was selected.
        group: of ``segment``, which answers in milliseconds; a description may take longer.

    Attributes:
        segment: the callback of the service; it never raises.
    """

    def __init__(
        self,
        node: Node,
        transforms: Transforms,
        current: Callable[[], CurrentScene],
        monitor: _Watches,
        show: Callable[[CurrentScene, Selected], None],
        group: CallbackGroup,
    ) -> None:
        self._node, self._transforms, self._current = node, transforms, current
        self._monitor, self._show = monitor, show
        self.segment = always_replies(self._segment, Segment, node.get_logger())
        describes = always_replies(self._describe, DescribeObject, node.get_logger())
        for kind, name, handler, its_group in (
            (Segment, "segment", self.segment, group),
            (DescribeObject, "describe_object", describes, ReentrantCallbackGroup()),
        ):
            server = node.create_service(
                kind, name, handler, qos_profile=SERVICE_QOS, callback_group=its_group
            )
            answer_apart(server, lambda request: bool(request.prompt.text))

    def _segment(self, request: Segment.Request) -> Segment.Response:
        check_voxel_size(request.voxel_size)
        current = self._current()
        frame = self._frame(current, request)
        with explained(request.prompt, self._monitor.size_warning):
            cloud, warnings = current.look_up(request.prompt, self._transforms)
            reply = _segment_reply(current, request, cloud, frame)
        reply.warnings = [*warnings, *self._monitor.warnings()]
        if request.publish:
            self._show(current, selected_by(current.scene, cloud))
        return reply

    def _describe(self, request: DescribeObject.Request) -> DescribeObject.Response:
        current = self._current()
        check_describe(request, current)
        frame = self._frame(current, request)
        with explained(request.prompt, self._monitor.size_warning):
            cloud, warnings = current.look_up(request.prompt, self._transforms)
            reply = describe(current, request, cloud, frame)
        reply.warnings = [*warnings, *self._monitor.warnings()]
        return reply

    def _frame(
        self, current: CurrentScene, request: Segment.Request | DescribeObject.Request
    ) -> ReplyFrame:
        now_ns = self._node.get_clock().now().nanoseconds
        default = self._node.get_parameter("target_frame").value
        return current.frame(request, self._transforms, now_ns, default)


def _segment_reply(
    current: CurrentScene, request: Segment.Request, cloud: ObjectCloud, frame: ReplyFrame
) -> Segment.Response:
    box = current.graspable.bounding_box(selected_by(current.scene, cloud))
    thinned = voxel_downsample(cloud, request.voxel_size)

    def alternative(each: Alternative) -> AlternativeMessage:
        message = AlternativeMessage(
            object_id=current.scene.object_tree.id_of_nodes.get(each.nodes, 0),
            score=each.score,
            larger=each.larger,
            points=each.count,
        )
        if request.include_alternative_clouds:
            other = voxel_downsample(each.cloud, request.voxel_size)
            columns = colored_columns(frame.moved(other.points), other.colors)
            message.cloud = frame.cloud(columns)
        return message

    return Segment.Response(
        header=frame.header,
        cloud=frame.cloud(colored_columns(frame.moved(thinned.points), thinned.colors)),
        box=box_message(box, frame.target_from_scene),
        object_ids=list(cloud.object_ids),
        score=cloud.score,
        ambiguity=cloud.ambiguity,
        alternatives=list(map(alternative, cloud.alternatives)),
        scene_id=cloud.scene_id,
    )
