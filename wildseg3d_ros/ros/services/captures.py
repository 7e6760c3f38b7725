"""The services ``capture_views``, ``list_views`` and ``drop_views``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from wildseg3d_msgs.msg import CapturedView as CapturedViewMessage
from wildseg3d_msgs.srv import CaptureViews, DropViews, ListViews
from wildseg3d_ros.core.errors import ErrorCode, InputError, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import View
from wildseg3d_ros.ros.cameras.captured import CapturedView, CapturedViews
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.guard import always_replies
from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.ros.messages.grasps import pose_message
from wildseg3d_ros.streams.config import NodeConfig
from wildseg3d_ros.streams.tf.buffer import TF_TOLERANCE, Transforms

_STILL_NS = 300_000_000
"""For so long before its image a camera has to have stood: longer than exposure and TF's lag."""


class CaptureServices:
    """Serves captured views.

    Args:
        node, cameras, transforms: of the scene node; config gives its settings.
        views: that are kept.
        require_ready: raises why nothing can be captured yet.
    """

    def __init__(
        self,
        node: Node,
        cameras: Cameras,
        transforms: Transforms,
        config: Callable[[], NodeConfig],
        views: CapturedViews,
        require_ready: Callable[[], None],
    ) -> None:
        self._node, self._cameras, self._transforms = node, cameras, transforms
        self._config, self._views, self._require_ready = config, views, require_ready
        for name, kind, handler in (
            ("capture_views", CaptureViews, self._capture),
            ("list_views", ListViews, self._list),
            ("drop_views", DropViews, self._drop),
        ):
            callback = always_replies(handler, kind, node.get_logger())
            group = MutuallyExclusiveCallbackGroup()
            node.create_service(kind, name, callback, callback_group=group)

    def _capture(self, request: CaptureViews.Request) -> CaptureViews.Response:
        self._require_ready()
        config = self._config()
        names = self._cameras.choose(list(request.cameras), at_least=1)
        capture = self._cameras.take(names, config, self._transforms, lambda: False)
        if capture.unposed:
            raise InputError("; ".join(capture.warnings), ErrorCode.MISSING_TF)
        for view in capture.views:
            self._require_still(view, config.world_frame)
        for note in capture.notes:
            self._node.get_logger().warning(note)
        added = self._views.add(capture, config.max_captured_views)
        kept = self._views.all
        self._node.get_logger().info(
            f"captured {', '.join(each.view.name for each in added)}; {len(kept)} views are kept, "
            f"{sum(each.bytes for each in kept) / 1e6:.0f} MB"
        )
        return CaptureViews.Response(views=[_message(each) for each in added], kept=len(kept))

    def _list(self, _: ListViews.Request) -> ListViews.Response:
        return ListViews.Response(views=[_message(each) for each in self._views.all])

    def _drop(self, request: DropViews.Request) -> DropViews.Response:
        self._views.drop(list(request.names))
        return DropViews.Response(kept=len(self._views.all))

    def _require_still(self, view: View, world_frame: str) -> None:
        """Raises InputError: the camera's transform changed shortly before its image."""
        now = view.world_from_cam_prior
        assert now is not None
        try:
            then = self._transforms.lookup(world_frame, view.frame_id, view.stamp_ns - _STILL_NS)
        except WildSeg3DError:
            return  # TF has begun since
        motion = invert(then) @ now
        moved, turned = np.linalg.norm(motion[:3, 3]), rotation_angle(motion[:3, :3])
        if max(moved, turned) > TF_TOLERANCE:
            raise InputError(
                f"camera '{view.name}' moved by {moved * 1e3:.0f} mm and {np.degrees(turned):.1f} "
                f"degrees in the {_STILL_NS / 1e9:.1f} s before its image; wait until it stands",
                ErrorCode.CAMERA_MOVES,
            )


def _message(each: CapturedView) -> CapturedViewMessage:
    height, width = each.lens.size
    return CapturedViewMessage(
        name=each.view.name,
        camera=each.camera,
        header=header(each.view.frame_id, each.view.stamp_ns),
        pose=pose_message(each.world_from_cam),
        width=width,
        height=height,
        bytes=each.bytes,
    )
