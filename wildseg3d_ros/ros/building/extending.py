"""Prompts that change the scene: an object that no cached mask is, and corrections of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from wildseg3d_msgs.srv import Segment, Undo
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.types import ObjectCloud
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.ros.building.action import BuildAction
from wildseg3d_ros.ros.building.worker import BuildWorker
from wildseg3d_ros.ros.services.segment import CurrentScene
from wildseg3d_ros.scene.prompting import NOT_CACHED, objects_cloud, selected_by
from wildseg3d_ros.streams.tf.buffer import Transforms


@dataclass(frozen=True)
class SceneEditor:
    """Lets the build process change the scene; the old one answers until that is done.

    Attributes:
        worker: with the loaded back ends.
        builds: refused meanwhile.
        current: gives the scene that answers.
        adopt: makes the changed scene the one that answers.
    """

    worker: BuildWorker
    builds: BuildAction
    current: Callable[[], CurrentScene]
    adopt: Callable[[CurrentScene], None]

    def answer(
        self, request: Segment.Request, transforms: Transforms
    ) -> tuple[CurrentScene, ObjectCloud]:
        """The scene that answers a request with ``add_object`` or ``refine``, and the cloud.

        Raises:
            WildSeg3DError: with the code and text of the reply; BUSY while a scene is built.
        """
        if request.add_object and request.refine:
            raise PromptError("add_object and refine exclude each other; ask for one of them")
        current = self.current()
        # An unknown frame is to be refused before seconds of work, not after.
        target = current.target(request.target_frame)
        current.target_from_scene(target, transforms, request.target_now)
        if request.add_object:
            try:
                cloud = segment(current.scene, current.prompt(request, transforms))
                if selected_by(current.scene, cloud) == cloud.object_ids:
                    return current, cloud
            except PromptError as error:
                if error.code not in NOT_CACHED:
                    raise
        what = "adding an object" if request.add_object else "refining"
        with self.builds.kept_out(what) as stop:
            current = self.current()  # a build may have ended since
            prompt = current.prompt(request, transforms)
            if request.refine and not prompt.object_ids:
                raise PromptError("refine needs the id of the object to correct in object_ids")
            found = self.worker.extend(current.scene, prompt, request.refine, stop)
            extended = replace(current, scene=found.scene)
            self.adopt(extended)
        return extended, objects_cloud(found.scene, (found.object_id,))

    def undo(self, _: Undo.Request) -> Undo.Response:
        """Takes the newest change back; errors as of :meth:`answer`."""
        with self.builds.kept_out("taking a change back") as stop:
            current = self.current()
            found = self.worker.undo(current.scene, stop)
            self.adopt(replace(current, scene=found.scene))
        scene = found.scene
        return Undo.Response(
            scene_id=scene.scene_id,
            object_id=found.object_id,
            object_remains=found.object_id in scene.index.ids,
            remaining=len(scene.edits),
        )
