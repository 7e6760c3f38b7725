"""The services ``capture_views``, ``list_views`` and ``drop_views``."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
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
from wildseg3d_ros.streams.key_frames import require_sharp
from wildseg3d_ros.streams.tf.buffer import Transforms, differ

_STILL_NS = 300_000_000
"""For so long before its image a camera has to have stood: longer than exposure and TF's lag."""
_NEXT, _NEXT_SECONDS = 3, 0.3
"""Images after a captured one that it is to be as sharp as, and how long they are waited for."""
_POLL_SECONDS = 0.02


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
            pose = view.world_from_cam_prior
            assert pose is not None  # none is unposed
            place = view.name, view.frame_id, view.stamp_ns, pose
            require_still(*place, config.world_frame, self._transforms)
        for view in capture.views:
            require_sharp(view.name, view.image, self._next_images(view))
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

    def _next_images(self, view: View) -> list[NDArray[np.uint8]]:
        """What a camera sees right after a view."""
        camera, found = self._cameras[view.name], {view.stamp_ns: view.image}
        deadline = time.monotonic() + _NEXT_SECONDS
        while len(found) <= _NEXT and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            frames = camera.matcher.newest()
            if frames is not None and frames.stamp_ns not in found:
                found[frames.stamp_ns] = camera.decoder.convert(frames)[1]
        return list(found.values())[1:]


def require_still(
    camera: str,
    frame: str,
    stamp_ns: int,
    world_from_cam: NDArray[np.float64],
    world_frame: str,
    transforms: Transforms,
) -> None:
    """Checks that a camera has stood before its image; TF that has begun since is passed over.

    Args:
        camera: its name; frame: of its image; stamp_ns: the image's time.
        world_from_cam: (4, 4) pose then.

    Raises:
        InputError: its transform changed shortly before (CAMERA_MOVES).
    """
    now = world_from_cam
    try:
        then = transforms.lookup(world_frame, frame, stamp_ns - _STILL_NS)
    except WildSeg3DError:
        return
    if not differ(then, now):
        return
    motion = invert(then) @ now
    moved, turned = np.linalg.norm(motion[:3, 3]), rotation_angle(motion[:3, :3])
    raise InputError(
        f"camera '{camera}' moved by {moved * 1e3:.0f} mm and {np.degrees(turned):.1f} "
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
