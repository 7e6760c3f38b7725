"""What a user's script wants: build, click, get arrays.

from wildseg3d_ros.ros.client import SceneClient

with SceneClient() as client:
    client.build(progress=lambda stage, fraction: print(stage, fraction))
    mug = client.segment([("left", 320, 240)], target_frame="base_link")
print(mug.points.shape, mug.frame_id)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.action.client import ActionClient
from rclpy.context import Context
from rclpy.node import Node
from rclpy.task import Future

from wildseg3d_msgs.action import BuildScene
from wildseg3d_msgs.msg import Click as ClickMessage
from wildseg3d_msgs.msg import Status
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.errors import Cancelled, ErrorCode, WildSeg3DError
from wildseg3d_ros.ros.conversions import array_from_image, nanoseconds, points_from_cloud
from wildseg3d_ros.ros.running import Spinner
from wildseg3d_ros.types import POSITIVE


@dataclass(frozen=True)
class BuildReport:
    """What a build gave: see wildseg3d_msgs/action/BuildScene."""

    scene_id: str
    objects: int
    seconds: float
    stage_seconds: dict[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Selection:
    """What a click gave.

    Attributes:
        points: (M, 3) float32 metres in ``frame_id``.
        colors: (M, 3) uint8 RGB.
        object_ids: the scene's objects that the clicks chose.
        frame_id, stamp_ns: frame of the points and time of the images.
        scene_id: the scene that answered.
        masks: (H, W) bool by camera; empty unless asked for.
        warnings: what to know although all went well.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    frame_id: str
    stamp_ns: int
    scene_id: str
    masks: dict[str, NDArray[np.bool_]]
    warnings: tuple[str, ...]


class SceneClient:
    """Talks to a running scene node from a script that need not know rclpy.

    Args:
        namespace: of the scene node.
        timeout: seconds to wait for the node to appear, and for its answers to short questions.
    """

    def __init__(self, namespace: str = "", timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node(
            f"wildseg3d_client_{os.getpid()}",
            context=self._context,
            namespace=namespace,
            enable_rosout=False,
        )
        self._segment = self.node.create_client(Segment, "segment")
        self._build = ActionClient(self.node, BuildScene, "build_scene")
        self._spinner = Spinner(self.node, threads=1)

    def __enter__(self) -> SceneClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the graph."""
        self._spinner.stop()
        self._build.destroy()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Waits until the scene node is there.

        Raises:
            TimeoutError: it did not appear.
        """
        timeout = self._timeout if timeout is None else timeout
        for there, name in (
            (self._segment.wait_for_service(timeout), self._segment.srv_name),
            (self._build.wait_for_server(timeout), "build_scene"),
        ):
            if not there:
                raise TimeoutError(
                    f"nobody serves '{name}' after {timeout} s; is the scene node running, in the "
                    "same ROS_DOMAIN_ID and namespace?"
                )

    def build(
        self,
        cameras: Sequence[str] = (),
        progress: Callable[[str, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> BuildReport:
        """Builds a scene from what the cameras see now, and waits for it.

        Args:
            cameras: names; none for all.
            progress: told of stage and fraction, in another thread.
            cancelled: polled ten times a second; True stops the build.

        Raises:
            WildSeg3DError: with the code and text of the node. TimeoutError: there is no node.
        """
        self.wait_until_ready()

        def feedback(message: Any) -> None:
            if progress is not None:
                progress(message.feedback.stage, message.feedback.fraction)

        goal = BuildScene.Goal(cameras=list(cameras))
        handle = self._wait(self._build.send_goal_async(goal, feedback), self._timeout)
        future = handle.get_result_async()
        done = _event(future)
        try:
            while not done.wait(0.1):
                if cancelled is not None and cancelled():
                    handle.cancel_goal_async()
                    cancelled = None
        except BaseException:  # Ctrl-C ends the build too
            handle.cancel_goal_async()
            raise
        result = future.result().result
        _raise_unless_ok(result.status)
        return BuildReport(
            scene_id=result.scene_id,
            objects=result.objects,
            seconds=result.seconds,
            stage_seconds=dict(zip(result.stage_names, result.stage_seconds, strict=True)),
            warnings=tuple(result.warnings),
        )

    def segment(
        self,
        clicks: Sequence[tuple[str, float, float] | tuple[str, float, float, int]],
        target_frame: str = "",
        voxel_size: float = 0.0,
        include_masks: bool = False,
    ) -> Selection:
        """The cloud of the object under the clicks.

        Args:
            clicks: (camera, u, v) or (camera, u, v, label); label 1 is on the object, 0 is not.
            target_frame: TF frame of the points; "" for the scene's own.
            voxel_size: metres; 0 for every point.
            include_masks: also the object's mask in every camera.

        Raises:
            WildSeg3DError: with the code and text of the node. TimeoutError: no answer.
        """
        request = Segment.Request(
            clicks=[
                ClickMessage(
                    camera=camera, u=float(u), v=float(v), label=label[0] if label else POSITIVE
                )
                for camera, u, v, *label in clicks
            ],
            target_frame=target_frame,
            voxel_size=float(voxel_size),
            include_masks=include_masks,
        )
        if not self._segment.service_is_ready():
            self.wait_until_ready()
        reply = self._wait(self._segment.call_async(request), self._timeout)
        _raise_unless_ok(reply.status)
        points, colors = points_from_cloud(reply.cloud)
        return Selection(
            points=points,
            colors=colors,
            object_ids=tuple(reply.object_ids),
            frame_id=reply.cloud.header.frame_id,
            stamp_ns=nanoseconds(reply.cloud.header.stamp),
            scene_id=reply.scene_id,
            masks={
                name: array_from_image(mask, f"mask of '{name}'") > 0
                for name, mask in zip(reply.mask_cameras, reply.masks, strict=True)
            },
            warnings=tuple(reply.warnings),
        )

    def _wait(self, future: Future, timeout: float) -> Any:
        if not _event(future).wait(timeout):
            future.cancel()
            raise TimeoutError(f"the scene node did not answer within {timeout} s")
        return future.result()


def _event(future: Future) -> threading.Event:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    return done


def _raise_unless_ok(status: Status) -> None:
    if status.code == ErrorCode.CANCELLED:
        raise Cancelled(status.message)
    if status.code != ErrorCode.OK:
        raise WildSeg3DError(status.message, ErrorCode(status.code))
