"""What a user's script wants: build, click, get arrays.

from wildseg3d_ros.ros.client import SceneClient

with SceneClient() as client:
    client.build(progress=lambda stage, fraction: print(stage, fraction))
    mug = client.segment([("left", 320, 240)], target_frame="base_link")
print(mug.points.shape, mug.pose)  # an array, and a geometry_msgs/PoseStamped
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.action.client import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import Image

from wildseg3d_msgs.action import BuildScene, EditObject
from wildseg3d_msgs.msg import CapturedView as CapturedViewMessage
from wildseg3d_msgs.srv import (
    CaptureViews,
    CheckRig,
    DescribeObject,
    DropViews,
    ListObjects,
    ListViews,
    LoadScene,
    SavePoses,
    SaveScene,
    Segment,
    Undo,
)
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.rig.live import LiveRig
from wildseg3d_ros.ros.discovery import ask_until_answered, wait_for, when_done
from wildseg3d_ros.ros.messages.replies import (
    BuildReport,
    Description,
    Edited,
    Selection,
    Undone,
    raise_unless_ok,
    scene_object,
)
from wildseg3d_ros.ros.messages.reports import rig_report
from wildseg3d_ros.ros.messages.requests import (
    ClickTuple,
    DescribeOptions,
    PromptOptions,
    SegmentOptions,
    describe_request,
    prompt_message,
    segment_request,
)
from wildseg3d_ros.ros.qos import SERVICE_QOS, latched
from wildseg3d_ros.ros.running import Spinner
from wildseg3d_ros.streams.images import array_from_image

_GONE_SECONDS = 3.0
"""For so long a node may be out of sight during a goal before it counts as gone."""
_TEXT_SECONDS = 120.0
"""For an answer to a text at least: the first one loads gigabytes of weights."""


class SceneClient:
    """Talks to a running scene node from a script that need not know rclpy.

    Every question raises WildSeg3DError with the code and text of the node's error, and
    TimeoutError when no answer comes.

    >>> with SceneClient() as client:
    ...     report = client.build()
    ...     found = client.segment([("front", 61, 53)])
    >>> found.points.shape, found.pose.header.frame_id
    ((..., 3), 'world')

    Examples of the methods have such a ``client``, before which a red and a green ball lie.

    Args:
        namespace: of the scene node.
        timeout: seconds to wait for the node to appear, and for its answers to short questions.
    """

    def __init__(self, namespace: str = "", timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        name = f"wildseg3d_client_{os.getpid()}"
        self.node = Node(name, context=self._context, namespace=namespace, enable_rosout=False)
        self._segment = self.node.create_client(Segment, "segment", qos_profile=SERVICE_QOS)
        self._describe = self.node.create_client(
            DescribeObject, "describe_object", qos_profile=SERVICE_QOS
        )
        self._list = self.node.create_client(ListObjects, "list_objects")
        self._capture = self.node.create_client(CaptureViews, "capture_views")
        self._views = self.node.create_client(ListViews, "list_views")
        self._drop = self.node.create_client(DropViews, "drop_views")
        self._check = self.node.create_client(CheckRig, "check_rig")
        self._save_poses = self.node.create_client(SavePoses, "save_poses")
        self._undo = self.node.create_client(Undo, "undo")
        self._save = self.node.create_client(SaveScene, "save_scene")
        self._load = self.node.create_client(LoadScene, "load_scene")
        self._build = ActionClient(self.node, BuildScene, "build_scene")
        self._edit = ActionClient(self.node, EditObject, "edit_object")
        self._spinner = Spinner(self.node, threads=1)
        self._discovered = False

    def __enter__(self) -> SceneClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the graph, as the end of ``with`` does.

        >>> other = SceneClient()
        >>> other.close()
        """
        self._spinner.stop()
        self._build.destroy()
        self._edit.destroy()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Waits until the scene node is there.

        >>> client.wait_until_ready(timeout=20.0)

        Raises:
            TimeoutError: it did not appear.
        """
        timeout = self._timeout if timeout is None else timeout
        services = (
            (self._segment.service_is_ready, self._segment.srv_name),
            (self._build.server_is_ready, "build_scene"),
            (self._edit.server_is_ready, "edit_object"),
        )
        if not all(there() for there, _ in services):
            self._discovered = False  # what comes may be another node
        for there, name in services:
            _require(wait_for(there, timeout), name, timeout)
        if not self._discovered:
            # It has to have discovered us, too: DDS drops a reply to an unknown client.
            answer = ask_until_answered(self.node, ListViews, "list_views", timeout)
            _require(answer is not None, "list_views", timeout)
            self._discovered = True

    def build(
        self,
        cameras: Sequence[str] = (),
        progress: Callable[[str, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> BuildReport:
        """Builds a scene from what the cameras see now, and waits for it.

        >>> report = client.build()
        >>> report.objects, report.frame_id
        (2, 'world')
        >>> [each for each in report.cameras if each.verdict.verdict not in ("ok", "moved")]
        []

        Args:
            cameras: names; none for all.
            progress: told of stage and fraction, in another thread.
            cancelled: polled ten times a second; True stops the build.
        """
        goal = BuildScene.Goal(cameras=list(cameras))
        return BuildReport.of(self._reach(self._build, goal, progress, cancelled))

    def add_object(
        self,
        clicks: Sequence[ClickTuple] = (),
        progress: Callable[[str, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        **prompt: Unpack[PromptOptions],
    ) -> Edited:
        """Makes what is pointed at an object, where no object answers; waits for it.

        >>> client.add_object([("front", 61, 53)]).object_ids  # it was an object
        (1,)

        Args:
            clicks, prompt: as of :meth:`segment`.
            progress, cancelled: as of :meth:`build`.
        """
        goal = EditObject.Goal(edit=EditObject.Goal.ADD, prompt=prompt_message(clicks, prompt))
        return Edited.of(self._reach(self._edit, goal, progress, cancelled))

    def refine_object(
        self,
        object_id: int,
        clicks: Sequence[ClickTuple] = (),
        progress: Callable[[str, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        **prompt: Unpack[PromptOptions],
    ) -> Edited:
        """Corrects an object by clicks and points on and off it; arguments as of
        :meth:`add_object`.

        >>> before = client.segment([("front", 61, 53)])
        >>> client.refine_object(1, [("front", 95, 46)]).object_ids  # the other ball, too
        (1,)
        >>> len(client.segment([("front", 61, 53)]).points) > len(before.points)
        True
        """
        prompt["object_ids"] = [object_id]
        goal = EditObject.Goal(edit=EditObject.Goal.REFINE, prompt=prompt_message(clicks, prompt))
        return Edited.of(self._reach(self._edit, goal, progress, cancelled))

    def check_rig(self, cameras: Sequence[str] = (), pictures: bool = False) -> LiveRig:
        """What is wrong with the cameras, or with those named, and pictures of it, if wanted;
        builds nothing.

        >>> found = client.check_rig()
        >>> [camera.verdict.name for camera in found.cameras]
        ['front', 'left', 'right']
        >>> found.verdict, found.problems
        ('ok', ())
        """
        request = CheckRig.Request(cameras=list(cameras), pictures=pictures)
        return rig_report(self._ask(self._check, request))

    def save_poses(self, path: str, frames: Sequence[str] = (), parent_frame: str = "") -> str:
        """Writes the solved camera poses on the node's machine; returns the YAML text.

        >>> "front_color_optical_frame" in client.save_poses("poses.yaml")
        True

        Args:
            frames: link frames of the cameras, in the scene's order; none: the optical frames.
        """
        request = SavePoses.Request(path=path, frames=list(frames), parent_frame=parent_frame)
        return self._ask(self._save_poses, request).yaml

    def segment(
        self, clicks: Sequence[ClickTuple] = (), **options: Unpack[SegmentOptions]
    ) -> Selection:
        """The object that is pointed at: its cloud and box.

        >>> found = client.segment([("front", 61, 53)], target_frame="world")
        >>> found.object_ids, found.points.shape
        ((1,), (..., 3))
        >>> found.pose.header.frame_id  # of the box
        'world'
        >>> client.segment([("front", 610, 53)])
        Traceback (most recent call last):
        ...
        wildseg3d_ros.core.errors.WildSeg3DError: pixel (610, 53) is outside the image of ...

        Args:
            clicks: (camera, u, v) or (camera, u, v, label); label 1 is on the object, 0 is not.
            options: other ways to point, and how to give the reply: see
                :class:`wildseg3d_ros.ros.messages.requests.SegmentOptions`.
        """
        return Selection.of(self._call(self._segment, segment_request(clicks, options)))

    def describe(
        self, clicks: Sequence[ClickTuple] = (), **options: Unpack[DescribeOptions]
    ) -> Description:
        """What a grasp planner asks of an object: arguments as of :meth:`segment`, with
        :class:`wildseg3d_ros.ros.messages.requests.DescribeOptions`.

        >>> found = client.describe(
        ...     [("front", 61, 53)], include_surface=True, include_surroundings=True
        ... )
        >>> found.normals.shape == found.points.shape
        True
        >>> len(found.surroundings.points) > len(found.points)
        True
        """
        return Description.of(self._call(self._describe, describe_request(clicks, options)))

    def list_objects(self, target_frame: str = "") -> list[SceneObject]:
        """All objects of the scene, boxes in the target frame; "" is the node's target_frame.

        >>> [each.object_id for each in client.list_objects()]
        [1, 2]
        """
        request = ListObjects.Request(target_frame=target_frame)
        return [scene_object(message) for message in self._ask(self._list, request).objects]

    def capture_views(self, cameras: Sequence[str] = ()) -> list[str]:
        """Keeps what the cameras see now as views of the next scenes; returns the views' names.

        >>> client.capture_views(["front"])
        ['front@...']
        """
        reply = self._ask(self._capture, CaptureViews.Request(cameras=list(cameras)))
        return [view.name for view in reply.views]

    def list_views(self) -> list[CapturedViewMessage]:
        """The captured views that the next scene is built of: wildseg3d_msgs/msg/CapturedView.

        >>> names = client.capture_views()
        >>> [view.name for view in client.list_views()] == names
        True
        """
        return list(self._ask(self._views, ListViews.Request()).views)

    def drop_views(self, names: Sequence[str] = ()) -> int:
        """Forgets captured views by name or camera, or all; returns how many are left.

        >>> names = client.capture_views()
        >>> client.drop_views(["front"]), client.drop_views()
        (2, 0)
        """
        return self._ask(self._drop, DropViews.Request(names=list(names))).kept

    def undo(self) -> Undone:
        """Takes the newest added or refined object back.

        >>> changed = client.refine_object(1, [("front", 95, 46)])
        >>> back = client.undo()
        >>> back.object_id, back.object_remains
        (1, True)
        """
        return Undone.of(self._ask(self._undo, Undo.Request()))

    def save_scene(self, path: str) -> str:
        """Writes the scene to a file on the node's machine; returns its absolute path.

        >>> client.save_scene("balls.ws3d")
        '/.../balls.ws3d'
        """
        return self._ask(self._save, SaveScene.Request(path=path)).path

    def load_scene(self, path: str) -> str:
        """Makes the node answer from a saved scene; returns its scene id.

        >>> path, scene_id = client.save_scene("balls.ws3d"), client.build().scene_id
        >>> client.load_scene(path) == scene_id
        False
        """
        return self._ask(self._load, LoadScene.Request(path=path)).scene_id

    def label_maps(
        self, cameras: Sequence[str], timeout: float = 20.0
    ) -> dict[str, NDArray[np.int32]]:
        """(H, W) int32 object ids of each camera's cached masks, 0 = no object.

        >>> client.label_maps(["front"])["front"][53, 61]
        np.int32(1)

        Raises:
            TimeoutError: a camera's labels did not come; the text names it.
        """
        maps: dict[str, NDArray[np.int32]] = {}
        complete = threading.Event()

        def take(camera: str, message: Image) -> None:
            maps[camera] = array_from_image(message, camera).astype(np.int32)
            if len(maps) == len(cameras):
                complete.set()

        subscriptions = [
            self.node.create_subscription(
                Image, f"{camera}/labels", partial(take, camera), latched()
            )
            for camera in cameras
        ]
        try:
            if not complete.wait(timeout):
                missing = ", ".join(camera for camera in cameras if camera not in maps)
                raise TimeoutError(f"no label image of {missing} within {timeout:g} s")
        finally:
            for subscription in subscriptions:
                self.node.destroy_subscription(subscription)
        return maps

    def _reach(
        self,
        client: ActionClient,
        goal: Any,
        progress: Callable[[str, float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> Any:
        """Sends a goal and waits for its result."""
        self.wait_until_ready()

        def feedback(message: Any) -> None:
            if progress is not None:
                progress(message.feedback.stage, message.feedback.fraction)

        handle = self._wait(client.send_goal_async(goal, feedback))
        future = handle.get_result_async()
        done = when_done(future)
        try:
            seen = time.monotonic()
            while not done.wait(0.1):
                if client.server_is_ready():
                    seen = time.monotonic()
                elif time.monotonic() - seen > _GONE_SECONDS:
                    raise TimeoutError("the scene node went away before it was done")
                if cancelled is not None and cancelled():
                    handle.cancel_goal_async()
                    cancelled = None
        except BaseException:  # Ctrl-C ends the goal too
            handle.cancel_goal_async()
            raise
        return future.result().result

    def _call(self, client: Client, request: Any) -> Any:
        if not (self._discovered and client.service_is_ready()):
            self.wait_until_ready()
            _require(
                wait_for(client.service_is_ready, self._timeout), client.srv_name, self._timeout
            )
        by_name = bool(getattr(getattr(request, "prompt", None), "text", ""))
        timeout = max(self._timeout, _TEXT_SECONDS) if by_name else None
        return self._wait(client.call_async(request), timeout)

    def _ask(self, client: Client, request: Any) -> Any:
        reply = self._call(client, request)
        raise_unless_ok(reply.status)
        return reply

    def _wait(self, future: Future, timeout: float | None = None) -> Any:
        timeout = self._timeout if timeout is None else timeout
        if not when_done(future).wait(timeout):
            future.cancel()
            raise TimeoutError(f"the scene node did not answer within {timeout} s")
        return future.result()


def _require(there: bool, name: str, timeout: float) -> None:
    if not there:
        raise TimeoutError(
            f"nobody serves '{name}' after {timeout} s; is the scene node running, in the same "
            "ROS_DOMAIN_ID and namespace?"
        )
