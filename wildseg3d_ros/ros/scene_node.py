"""The node: camera topics in, scenes built on request, object clouds out.

Interface, all names relative:
    action  build_scene         wildseg3d_msgs/action/BuildScene
    service segment             wildseg3d_msgs/srv/Segment
    topic   scene_cloud         sensor_msgs/PointCloud2, latched
    topic   <camera>/labels     sensor_msgs/Image mono16 of object ids, latched
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.action.server import ActionServer, CancelResponse, GoalResponse, ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from wildseg3d_msgs.action import BuildScene
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.errors import Cancelled, ErrorCode, WildSeg3DError
from wildseg3d_ros.geometry.transforms import invert
from wildseg3d_ros.ros.answers import CurrentScene
from wildseg3d_ros.ros.build_process import PIPELINE, Built, Settings
from wildseg3d_ros.ros.cameras import Cameras, Shot
from wildseg3d_ros.ros.conversions import cloud_from_packed, image_from_array, pack_cloud
from wildseg3d_ros.ros.guard import status_of
from wildseg3d_ros.ros.parameters import NodeConfig, Parameters
from wildseg3d_ros.ros.running import run_node
from wildseg3d_ros.ros.transforms import TransformBuffer, make_buffer, poses_at
from wildseg3d_ros.ros.worker import BuildWorker

_LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class SceneNode(Node):
    """Subscribes, builds, answers. The current scene is one immutable value, replaced as a whole.

    Args:
        builder: see :class:`wildseg3d_ros.ros.build_process.Settings`.
        options: of :class:`rclpy.node.Node`.

    Raises:
        ConfigError: parameters that do not fit.
    """

    def __init__(self, builder: str = PIPELINE, **options: object) -> None:
        super().__init__("wildseg3d", **options)  # type: ignore[arg-type]
        try:
            self._config = Parameters(self)
        except BaseException:
            self.destroy_node()
            raise
        config = self._config.node()
        self._builder = builder
        self._current: CurrentScene | None = None
        self._busy = threading.Lock()
        self._stage = ("", 0.0)
        self._stopping = threading.Event()

        # One group for what streams in (which gets an executor of its own: see running.Spinner),
        # one for the service, one for the action: an answer waits neither for images nor a build.
        self.streams = MutuallyExclusiveCallbackGroup()
        topics = {name: self._config.camera(name) for name in self._config.camera_names}
        self._cameras = Cameras(self, topics, config, self.streams)
        self._transforms: TransformBuffer = make_buffer(self, self.streams)
        self._cloud = self.create_publisher(PointCloud2, "scene_cloud", _LATCHED)
        self._labels = {
            name: self.create_publisher(Image, f"{name}/labels", _LATCHED) for name in topics
        }
        self.create_service(
            Segment, "segment", self._on_segment, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._action = ActionServer(
            self,
            BuildScene,
            "build_scene",
            execute_callback=self._on_build,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )
        self._worker = BuildWorker(self._settings(config), self._log)
        self._worker.start()
        self.get_logger().info(
            f"ready for build_scene with {len(topics)} camera(s): {', '.join(topics)}"
        )

    def _log(self, text: str) -> None:
        self.get_logger().info(text)

    def adopt(self, current: CurrentScene) -> None:
        """Answers from this scene from now on."""
        self._current = current

    def close(self) -> None:
        """Ends a running build and the build process; safe to call twice."""
        self._stopping.set()
        if self._busy.locked():
            # The executor sends the result, so it has to run until that is done.
            if self._busy.acquire(timeout=3.0):
                self._busy.release()
            time.sleep(0.2)
        self._worker.close()

    def destroy_node(self) -> None:
        """Leaves the graph. rclpy's own leaves an action server in it."""
        action = getattr(self, "_action", None)  # absent when the parameters did not fit
        if action is not None:
            action.destroy()
            self._action = None
        super().destroy_node()

    # ---- service -------------------------------------------------------------------------------

    def _on_segment(self, request: Segment.Request, _: Segment.Response) -> Segment.Response:
        try:
            current = self._current
            if current is None:
                raise WildSeg3DError(self._why_no_scene(), ErrorCode.NO_SCENE)
            return current.answer(request, self._transforms)
        except Exception as error:  # noqa: BLE001
            return Segment.Response(status=status_of(error, self.get_logger()))

    def _why_no_scene(self) -> str:
        if self._busy.locked():
            stage, fraction = self._stage
            return f"the first scene is being built ({stage}, {fraction:.0%}); ask again when done"
        return "there is no scene yet; send a goal to the action build_scene first"

    # ---- action --------------------------------------------------------------------------------

    def _on_build(self, goal: ServerGoalHandle) -> BuildScene.Result:
        result = BuildScene.Result()
        try:
            if not self._busy.acquire(blocking=False):
                stage, fraction = self._stage
                raise WildSeg3DError(
                    f"a scene is being built already ({stage}, {fraction:.0%}); wait for it, or "
                    "cancel that goal",
                    ErrorCode.BUSY,
                )
            try:
                self._build(goal, result)
            finally:
                self._busy.release()
            goal.succeed()
        except Exception as error:  # noqa: BLE001
            result.status = status_of(error, self.get_logger())
            self._end_goal(goal, cancelled=isinstance(error, Cancelled))
        return result

    def _end_goal(self, goal: ServerGoalHandle, cancelled: bool) -> None:
        try:
            goal.canceled() if cancelled and goal.is_cancel_requested else goal.abort()
        except Exception as error:  # noqa: BLE001  the context is gone at shutdown
            self.get_logger().debug(f"goal state not set: {error}")

    def _build(self, goal: ServerGoalHandle, result: BuildScene.Result) -> None:
        start = time.monotonic()

        def report(stage: str, fraction: float) -> None:
            self._stage = (stage, fraction)
            feedback = BuildScene.Feedback(stage=stage, fraction=fraction)
            goal.publish_feedback(feedback)  # type: ignore[arg-type]

        def cancelled() -> bool:
            return goal.is_cancel_requested or self._stopping.is_set()

        config = self._config.node()
        names = self._cameras.choose(goal.request.cameras)
        report("images", 0.0)
        shot = self._cameras.take(names, config, self._transforms, cancelled)
        self._warn(result, shot.warnings)
        root, poses = self._poses(shot, config)
        report("images", 1.0)

        self._worker.configure(self._settings(config))
        built = self._worker.build(shot.views, config.world_frame, report, cancelled)
        scene = built.scene
        poses = _rooted_at(scene.frame_id, root, poses)
        self.adopt(CurrentScene(scene, shot.calibrations, poses, shot.warnings))
        self._publish(built, shot)
        seconds = time.monotonic() - start
        self.get_logger().info(
            f"scene {scene.scene_id}: {len(scene.object_ids)} objects from {len(names)} views in "
            f"{seconds:.1f} s ({', '.join(f'{k} {v:.1f}' for k, v in scene.seconds.items())}); "
            f"frame '{scene.frame_id}', {scene.alignment.scale_text}"
        )
        self._warn(result, scene.warnings)
        result.scene_id = scene.scene_id
        result.objects = len(scene.object_ids)
        result.frame_id = scene.frame_id
        result.scale_sources = list(scene.alignment.scale_sources)
        result.scale_factor = float(scene.alignment.scale_factor)
        result.registration_residual = float(scene.alignment.registration_residual)
        result.seconds = seconds
        result.stage_names = list(scene.seconds)
        result.stage_seconds = [float(value) for value in scene.seconds.values()]

    def _warn(self, result: BuildScene.Result, warnings: Sequence[str]) -> None:
        """In the log and in the reply, of a build that fails too: they often say why."""
        for warning in warnings:
            self.get_logger().warning(warning)
        result.warnings = [*result.warnings, *warnings]

    def _settings(self, config: NodeConfig) -> Settings:
        return Settings(self._config.scene(), self._builder, config.scene_cloud_voxel)

    def _poses(self, shot: Shot, config: NodeConfig) -> tuple[str, dict[str, NDArray]]:
        """A root frame, and ``root_from_frame`` of what TF knows now, before it forgets."""
        placed = any(view.world_from_cam_prior is not None for view in shot.views)
        root = config.world_frame if placed else shot.views[0].frame_id
        stamp_ns = max(view.stamp_ns for view in shot.views)
        return root, poses_at(self._transforms, root, stamp_ns)

    def _publish(self, built: Built, shot: Shot) -> None:
        scene, cloud = built.scene, built.overview
        packed = pack_cloud(cloud.points, cloud.colors)
        self._cloud.publish(cloud_from_packed(packed, scene.frame_id, scene.stamp_ns))
        for view, name in enumerate(scene.view_names):
            labels = shot.calibrations[name].published_labels(scene.labels[view].astype(np.uint16))
            self._labels[name].publish(
                image_from_array(
                    labels, "mono16", scene.camera_frames[view], scene.stamps_ns[view]
                )
            )


def _rooted_at(
    frame: str, root: str, root_from: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """The poses as ``frame_from_...`` instead of ``root_from_...``; none if TF lacks the frame."""
    if frame == root:
        return dict(root_from)
    if frame not in root_from:
        return {}
    frame_from_root = invert(root_from[frame])
    return {name: frame_from_root @ pose for name, pose in root_from.items()}


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to stop; exit status 2 for parameters that do not fit.

    Args:
        args: command line without the program's name; None for the process's own.
    """
    return run_node(SceneNode, args)


if __name__ == "__main__":
    sys.exit(main())
