"""The node: camera topics in, scenes built on request, object clouds out.

docs/reference/node.md lists its services and topics, all with relative names; in code they are in
``services``, ``building.action`` and ``topics``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration

from wildseg3d_msgs.srv import LoadScene
from wildseg3d_ros.core.errors import ErrorCode, RigError, WildSeg3DError
from wildseg3d_ros.core.types import check_names
from wildseg3d_ros.core.types.tree import Selected
from wildseg3d_ros.grasping.surroundings import PlainCloud, whole_scene
from wildseg3d_ros.ros.building.action import Build, BuildAction, warn
from wildseg3d_ros.ros.building.extending import SceneEditor
from wildseg3d_ros.ros.building.process import PIPELINE, Settings
from wildseg3d_ros.ros.building.text_search import TextSearch
from wildseg3d_ros.ros.building.worker import BuildWorker
from wildseg3d_ros.ros.cameras.captured import CapturedViews, hand_eye_warnings
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.lifecycle import ManagedNode
from wildseg3d_ros.ros.memory import MemoryRelease
from wildseg3d_ros.ros.messages.reports import view_reports
from wildseg3d_ros.ros.monitoring.monitor import NodeMonitor
from wildseg3d_ros.ros.monitoring.validity import SceneMonitor
from wildseg3d_ros.ros.parameters import Parameters, parameters_help
from wildseg3d_ros.ros.running import run_node
from wildseg3d_ros.ros.services.auto_capture import AutoCapture
from wildseg3d_ros.ros.services.captures import CaptureServices
from wildseg3d_ros.ros.services.check_rig import RigCheck
from wildseg3d_ros.ros.services.current import CurrentScene
from wildseg3d_ros.ros.services.lookup import LookupServices
from wildseg3d_ros.ros.services.objects import ObjectServices, loaded_scene
from wildseg3d_ros.ros.tf.listener import TransformListener, make_buffer
from wildseg3d_ros.ros.topics.prompts import PromptTopics
from wildseg3d_ros.ros.topics.scene import SceneTopics
from wildseg3d_ros.streams.capture import Capture
from wildseg3d_ros.streams.config import NodeConfig
from wildseg3d_ros.streams.tf.buffer import poses_at, rebased


class SceneNode(ManagedNode):
    """Subscribes, builds, answers. The current scene is one immutable value, replaced as a whole.

    Service and action exist in every state, so that a question has an answer that says what to do.
    Configured, the node has its models loaded and its publishers; active, it listens.

    Args:
        builder: see :class:`wildseg3d_ros.ros.building.process.Settings`.
        options: of :class:`rclpy.node.Node`.

    Attributes:
        cameras: what it listens to.
        monitor: compares them with the current scene.
        apart: groups with an executor of their own, see running.Spinner: what streams in, and
            ``segment``.

    Raises:
        ConfigError: parameters that do not fit.
    """

    def __init__(self, builder: str = PIPELINE, **options: object) -> None:
        super().__init__("wildseg3d", **options)
        try:
            self._config = Parameters(self)
        except BaseException:
            self.destroy_node()
            raise
        config = self._config.node()
        self._builder = builder
        self._current: CurrentScene | None = None
        self._built_of: Capture | None = None
        self._topics: SceneTopics | None = None
        streams, look_ups = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self.apart = (streams, look_ups)
        topics = {name: self._config.camera(name) for name in self._config.camera_names}
        self.cameras = Cameras(self, topics, config, streams)
        self._transforms = TransformListener(self, make_buffer(), streams)
        self.monitor = SceneMonitor(self.cameras, self._transforms)
        self._worker = BuildWorker(self._settings(config), self._log)
        self._create_servers()
        self._clock_jumps = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-0.1), on_clock_change=False
            ),
            post_callback=self._on_time_jump,
        )
        NodeMonitor(
            self,
            self.cameras,
            self.monitor,
            self._builds,
            self._config.node,
            lambda: None if self._current is None else self._current.scene,
        )
        if config.autostart:
            self.autostart()

    def _create_servers(self) -> None:
        """A callback group for each: an answer waits neither for another one nor for a build."""
        self._memory = MemoryRelease(self)
        lookup = LookupServices(
            self, self._transforms, self._scene, self.monitor, self._show, self.apart[1]
        )
        self._on_segment = lookup.segment
        self._builds = BuildAction(self, self._build)
        self._texts = TextSearch(self._worker, self._builds.stopping)
        self._editor = SceneEditor(
            self,
            self._transforms,
            self._worker,
            self._builds,
            self._scene,
            self.adopt,
            self.monitor.size_warning,
        )
        self._captured = CapturedViews()
        CaptureServices(
            self,
            self.cameras,
            self._transforms,
            self._config.node,
            self._captured,
            self._wait_until_active,
        )
        views = self._captured
        AutoCapture(self, self.cameras, self._transforms, self._config.node, views)
        rig_check = RigCheck(self, self.cameras, self._transforms, self._config.node)
        rig_check.serve(self._wait_until_active)
        ObjectServices(self, self._scene, self._transforms, self._load)
        self._prompts = PromptTopics(self, self.cameras.names, self._on_segment)

    def _log(self, text: str) -> None:
        self.get_logger().info(text)

    def _on_time_jump(self, jump: TimeJump) -> None:
        """Simulated time went back: a simulation or a recording starts again."""
        self._transforms.forget()
        self.cameras.clear()
        self.get_logger().warning(
            f"/clock went back by {-jump.delta.nanoseconds / 1e9:.3f} s; images and moving "
            "transforms of before are forgotten"
        )

    def adopt(self, current: CurrentScene) -> None:
        """Answers from this scene from now on."""
        self._memory.note()
        self._current = current
        if self._topics is not None:
            self._topics.selection.show(current)
            self._topics.publish_objects(current)

    def _adopt_new(
        self, current: CurrentScene, cloud: PlainCloud, poses: Mapping[str, NDArray], frame: str
    ) -> None:
        self.adopt(current)
        self.monitor.start(current.scene, poses, frame)
        if self._topics is not None:
            self._topics.publish_cloud(current, cloud)

    def configure(self) -> None:
        """Loads the models, in the build process, and makes the publishers."""
        infos = {n: self.cameras[n].config.camera_info_topic for n in self.cameras.names}
        self._topics = SceneTopics(self, infos)
        self._worker.configure(self._settings(self._config.node()))
        self._worker.load()

    def activate(self) -> None:
        """Listens to cameras and TF."""
        self.cameras.subscribe()
        self._transforms.subscribe()
        self._prompts.subscribe()
        self._builds.allow()
        names = self.cameras.names
        self._log(f"ready for build_scene with {len(names)} camera(s): {', '.join(names)}")

    def deactivate(self) -> None:
        """Ends a running build; keeps scene and models."""
        self._builds.stop()
        self.cameras.unsubscribe()
        self._transforms.unsubscribe()
        self._prompts.unsubscribe()

    def cleanup(self) -> None:
        """Frees scene, models and publishers."""
        self._worker.stop()
        self._current = self._built_of = None
        self.monitor.stop()
        self.cameras.clear()
        self._transforms.forget()
        if self._topics is not None:
            self._topics.destroy()
            self._topics = None

    def close(self) -> None:
        """Ends a running build and the build process; safe to call twice."""
        self._builds.stop()
        self._worker.close()
        self.leave()

    def destroy_node(self) -> None:
        """Leaves the graph."""
        builds = getattr(self, "_builds", None)  # absent when the parameters did not fit
        if builds is not None:
            builds.destroy()
            self._editor.destroy()
            del self._builds, self._editor
            self._clock_jumps.unregister()
        super().destroy_node()

    def _show(self, current: CurrentScene, selected: Selected) -> None:
        if self._topics is not None:
            self._topics.selection.show(current, selected)

    def _scene(self) -> CurrentScene:
        """The scene that answers, or the reason why there is none."""
        self.require_active()
        self._memory.note()
        if self._current is not None:
            return self._current
        progress = self._builds.progress
        why = "there is no scene yet; send a goal to the action build_scene first"
        if progress:
            why = f"the first scene is on its way ({progress}); ask again when it is there"
        raise WildSeg3DError(why, ErrorCode.NO_SCENE)

    def _wait_until_active(self) -> None:
        """Raises WildSeg3DError: the node is not active, nor on its way to it."""
        self.wait_until_started(lambda: False)
        self.require_active()

    def _load(
        self, path: Path, reply: Callable[[CurrentScene], LoadScene.Response]
    ) -> LoadScene.Response:
        self._wait_until_active()
        with self._builds.kept_out("loading a scene", "changed"):
            current = replace(
                loaded_scene(path, self.cameras), live=self.cameras.live, find=self._texts.find
            )
            cloud = whole_scene(current.scene, self._config.node().scene_cloud_voxel)
            # The scene before answers until nothing is left that could fail.
            made = reply(current)
            self._adopt_new(current, cloud, {}, self._config.node().world_frame)
            self._built_of = None
        return made

    def _build(self, build: Build) -> None:
        start = time.monotonic()
        build.report("starting", 0.0)
        self.wait_until_started(build.cancelled)
        self.require_active()
        config = self._config.node()
        names = self.cameras.choose(build.cameras, at_least=1)
        capture, changed = self._views(build, names, config)
        if not config.allow_missing_poses:
            capture.require_poses()
        warn(build, self, capture.warnings)
        # What TF knows now, before it forgets: ``root_from_frame``.
        root = config.world_frame if capture.tf_poses else capture.views[0].frame_id
        stamp_ns = max(view.stamp_ns for view in capture.views)
        poses = poses_at(self._transforms, root, stamp_ns)
        build.report("images", 1.0)

        self._worker.configure(self._settings(config))
        current = self._current
        update = (current.scene, changed) if changed and current else None
        try:
            built = self._worker.build(
                capture.views, config.world_frame, build.report, build.cancelled, update
            )
        except RigError as error:
            build.result.camera_reports = view_reports(capture.views, error.cameras)
            raise
        except WildSeg3DError as error:
            raise capture.explain(error) from error.__cause__
        scene = built.scene
        poses = rebased(poses, root, scene.frame_id)
        in_world = scene.frame_id == config.world_frame
        current = CurrentScene(
            scene,
            capture.calibrations,
            poses,
            capture.warnings,
            built.boxes,
            view_poses=capture.tf_poses if in_world else {},
            live=self.cameras.live,
            find=self._texts.find,
        )
        self._adopt_new(current, built.overview, capture.tf_poses, config.world_frame)
        self._built_of = capture
        seconds = time.monotonic() - start
        stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in scene.seconds.items())
        self._log(
            f"scene {scene.scene_id}: {len(scene.object_ids)} objects from "
            f"{len(scene.view_names)} views in {seconds:.1f} s ({stages}); "
            f"frame '{scene.frame_id}', {scene.alignment.scale_text}"
        )
        warn(build, self, [*scene.warnings, *hand_eye_warnings(scene, current.view_poses)])
        build.describe(scene, seconds)

    def _views(
        self, build: Build, names: Sequence[str], config: NodeConfig
    ) -> tuple[Capture, Sequence[str]]:
        """What the cameras see or have captured, and the views that alone are new in the scene;
        none where all is built."""
        standing = self._built_of
        if config.join_captured_views and standing is not None and self._current is not None:
            capture, new = self._captured.joining(standing, names)
            if new:
                return capture, new
        live = [name for name in names if name not in self._captured.cameras()]
        check_names([*live, *(each.view.name for each in self._captured.of(names))])
        waiting = build.waiting("images")
        seen = self.cameras.take(live, config, self._transforms, waiting) if live else None
        return self._captured.joined(seen, names, config.world_frame), build.changed

    def _settings(self, config: NodeConfig) -> Settings:
        return Settings(
            self._config.scene(),
            self._builder,
            config.scene_cloud_voxel,
            self._config.is_given("masks.backend"),
        )


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to stop; exit status 2 for parameters that do not fit.

    Args:
        args: command line without the program's name; None for the process's own.
    """
    return run_node(SceneNode, args, parameters_help())


if __name__ == "__main__":
    sys.exit(main())
