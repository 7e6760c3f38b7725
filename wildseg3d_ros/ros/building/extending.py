"""Edits of the scene: the action ``edit_object``, and the service ``undo``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from wildseg3d_msgs.action import EditObject
from wildseg3d_msgs.srv import Undo
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.ros.building.action import BuildAction
from wildseg3d_ros.ros.building.goals import Goal, GoalServer
from wildseg3d_ros.ros.building.overall import EDIT_STAGES
from wildseg3d_ros.ros.building.worker import BuildWorker
from wildseg3d_ros.ros.guard import always_replies
from wildseg3d_ros.ros.services.current import CurrentScene, explained
from wildseg3d_ros.scene.prompting import NOT_CACHED, selected_by
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.streams.tf.buffer import Transforms


class SceneEditor:
    """Lets the build process change the scene; the old one answers until that is done.

    Args:
        node, transforms: of the scene node.
        worker: with the loaded back ends.
        builds: refused meanwhile.
        current: gives the scene that answers.
        adopt: makes the changed scene the one that answers.
        why: what is known of a camera that a refused prompt names.
    """

    def __init__(
        self,
        node: Node,
        transforms: Transforms,
        worker: BuildWorker,
        builds: BuildAction,
        current: Callable[[], CurrentScene],
        adopt: Callable[[CurrentScene], None],
        why: Callable[[str], str | None],
    ) -> None:
        self._transforms, self._worker, self._builds = transforms, worker, builds
        self._current, self._adopt, self._why = current, adopt, why
        self._server = GoalServer(
            node, EditObject, "edit_object", EDIT_STAGES, self._edit, builds.stopping
        )
        node.create_service(
            Undo,
            "undo",
            always_replies(self._undo, Undo, node.get_logger()),
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def destroy(self) -> None:
        """Leaves the graph."""
        self._server.destroy()

    def _edit(self, goal: Goal) -> None:
        goal.report("starting", 0.0)
        with explained(goal.request.prompt, self._why):
            if goal.request.edit == EditObject.Goal.ADD:
                if not self._answered(goal):
                    self._change(goal, "adding an object", refine=False)
            elif goal.request.edit == EditObject.Goal.REFINE:
                self._change(goal, "refining", refine=True)
            else:
                raise PromptError(f"edit must be 0 (ADD) or 1 (REFINE), got {goal.request.edit}")

    def _answered(self, goal: Goal) -> bool:
        """Whether objects answer the prompt as the scene is."""
        current = self._current()
        try:
            cloud, warnings = current.look_up(goal.request.prompt, self._transforms)
        except PromptError as error:
            if error.code not in NOT_CACHED:
                raise
            return False
        if selected_by(current.scene, cloud) != cloud.object_ids:
            return False
        _fill(goal.result, current.scene, cloud.object_ids, warnings)
        return True

    def _change(self, goal: Goal, what: str, refine: bool) -> None:
        with self._builds.kept_out(what, "changed", is_goal=True):
            current = self._current()  # a build may have ended since
            reader = current.reader(self._transforms)
            prompt = reader.read(goal.request.prompt)
            if refine and not prompt.object_ids:
                raise PromptError("refine needs the id of the object to correct in object_ids")
            found = self._worker.extend(current.scene, prompt, refine, goal.report, goal.cancelled)
            self._adopt_changed(current, found.scene, found.boxes)
        warnings = [*reader.warnings(goal.request.prompt), *current.warnings]
        _fill(goal.result, found.scene, (found.object_id,), [*warnings, *found.scene.warnings])

    def _undo(self, _: Undo.Request) -> Undo.Response:
        with self._builds.kept_out("taking a change back", "changed"):
            current = self._current()
            found = self._worker.undo(current.scene, self._builds.stopping)
            self._adopt_changed(current, found.scene, found.boxes)
        scene = found.scene
        return Undo.Response(
            scene_id=scene.scene_id,
            object_id=found.object_id,
            object_remains=found.object_id in scene.index.ids,
            remaining=len(scene.edits),
        )

    def _adopt_changed(
        self, current: CurrentScene, scene: Scene, boxes: Mapping[int, OrientedBox]
    ) -> None:
        self._adopt(replace(current, scene=scene, boxes=boxes))


def _fill(
    result: EditObject.Result, scene: Scene, object_ids: tuple[int, ...], warnings: list[str]
) -> None:
    result.scene_id, result.object_ids = scene.scene_id, list(object_ids)
    result.warnings = warnings
