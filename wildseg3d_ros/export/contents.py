"""What the formats are made from: a scene, the chosen objects, their masks and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import LEVELS, ObjectCloud
from wildseg3d_ros.export.target import file_names
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.grasping.objects import SceneObject, scene_objects
from wildseg3d_ros.scene.camera_pixels import at_camera, camera_image, camera_intrinsics
from wildseg3d_ros.scene.prompting import objects_cloud
from wildseg3d_ros.scene.scene import Scene


@dataclass(frozen=True)
class ViewMaskOf:
    """The mask of an object in a view, which is not empty.

    Attributes:
        view: index of the view.
        each: the object.
        mask: (H, W) bool.
    """

    view: int
    each: SceneObject
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(u, v, width, height) of the mask."""
        rows = np.flatnonzero(self.mask.any(axis=1))
        columns = np.flatnonzero(self.mask.any(axis=0))
        u, v = int(columns[0]), int(rows[0])
        return u, v, int(columns[-1]) - u + 1, int(rows[-1]) - v + 1


class Contents:
    """A scene and the objects of it that are exported.

    Masks are those of an answer, as `wildseg3d segment --masks` writes them.

    Args:
        scene: what is exported.
        ids: the objects; None for all, of all levels.

    Raises:
        PromptError: the scene has no such object (UNKNOWN_OBJECT).
    """

    def __init__(self, scene: Scene, ids: Sequence[int] | None = None) -> None:
        self.scene = scene
        self.graspable = GraspableScene(scene)
        self.names = file_names(scene.view_names)
        known = scene.index.ids.tolist()
        wrong = [i for i in ids or () if i not in known]
        if wrong:
            listed = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
            raise PromptError(
                f"the scene has no object {wrong[0]}; its objects are {listed or 'none'}",
                ErrorCode.UNKNOWN_OBJECT,
            )
        self._ids = None if ids is None else set(ids)

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        """The chosen objects, by id."""
        return tuple(scene_objects(self.graspable, self._ids))

    @cached_property
    def masks(self) -> tuple[ViewMaskOf, ...]:
        """The masks of all chosen objects, view by view."""
        masks = {e.object_id: self.scene.view_masks((e.object_id,)) for e in self.objects}
        return tuple(
            ViewMaskOf(view, each, mask)
            for view, name in enumerate(self.scene.view_names)
            for each in self.objects
            if (mask := masks[each.object_id][name]).any()
        )

    def labels(self, view: int, level: str = LEVELS[0]) -> NDArray[np.int32]:
        """(H, W) ids of the chosen objects of a level in a view, 0 = none."""
        drawn = np.zeros(self.scene.camera_size(view), np.int32)
        for each in self.masks:
            if each.view == view and each.each.level == level:
                drawn[each.mask] = each.each.object_id
        return drawn

    def image(self, view: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB image of a view at its camera's size."""
        return camera_image(self.scene, view)

    def intrinsics(self, view: int) -> NDArray[np.float64]:
        """(3, 3) intrinsics of that image."""
        return camera_intrinsics(self.scene, view)

    def cloud(self, each: SceneObject) -> ObjectCloud:
        """The cloud of an object that has points."""
        return objects_cloud(self.scene, (each.object_id,))

    def depth(self, view: int) -> NDArray[np.float32]:
        """(H, W) depth of a view's points along its axis, in the scene's unit; 0 = none."""
        world, shape = self.scene.world, self.scene.images[view].shape[:2]
        depth = np.zeros(shape, np.float32)
        valid = world.valid(view)
        points = np.asarray(world.points[view])[valid].astype(np.float64)
        depth[valid] = apply(invert(self.scene.world_from_cam[view]), points)[:, 2]
        return at_camera(self.scene, view, np.maximum(depth, 0.0))
