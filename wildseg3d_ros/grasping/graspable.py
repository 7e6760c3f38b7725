"""Answers for grasping from one scene, with what they share computed once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import ViewMasks
from wildseg3d_ros.core.types.tree import Nodes, Selected
from wildseg3d_ros.grasping.boxes import OrientedBox, fit_box
from wildseg3d_ros.grasping.coverage import face_coverage
from wildseg3d_ros.grasping.normals import fit_normals, neighbourhood_radius
from wildseg3d_ros.grasping.surface import Surface, seen_surface
from wildseg3d_ros.grasping.surroundings import (
    PlainCloud,
    context,
    context_edge,
    solid_pixels,
    without_object,
)
from wildseg3d_ros.scene.camera_pixels import at_camera, camera_image
from wildseg3d_ros.scene.scene import Scene

_Value = TypeVar("_Value")

DEFAULT_VOXEL = 0.005
"""Edge of the voxels of context and surroundings [m] unless told otherwise."""


class GraspableScene:
    """Computes what is asked for when it is asked for, and keeps it: a scene does not change.

    Safe to use from several threads; two that ask for the same thing at once both compute it.

    Args:
        scene: that is asked.
        boxes: bounding boxes of its objects that are known already, by id.
    """

    def __init__(self, scene: Scene, boxes: Mapping[int, OrientedBox] | None = None) -> None:
        self.scene, self._boxes = scene, boxes or {}
        self._kept: OrderedDict[tuple, object] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def visibility(self) -> Visibility:
        """Depth images of all views."""
        return Visibility.create(self.scene.K, self.scene.world_from_cam, self.scene.world)

    @cached_property
    def _solid(self) -> tuple[NDArray[np.bool_], ...]:
        return solid_pixels(self.scene, self.visibility)

    def surface(self, selected: Selected, voxel_size: float = 0.0) -> Surface:
        """See :func:`wildseg3d_ros.grasping.surface.seen_surface`."""
        return self._keep(
            ("surface", _key(selected), voxel_size),
            lambda: seen_surface(self.scene, selected, self.visibility, voxel_size),
        )

    def normals(
        self, selected: Selected, voxel_size: float = 0.0, radius: float = 0.0
    ) -> NDArray[np.float32]:
        """(M, 3) unit normals of :meth:`surface`, towards the cameras that saw the points.

        Args:
            selected, voxel_size: of the surface.
            radius: of the neighbourhood that a plane is fitted to; 0 chooses one.
        """

        def fit() -> NDArray[np.float32]:
            # Fitted to every point, whatever is returned: thinning must not change the shape.
            every = self.surface(selected)
            chosen = radius or neighbourhood_radius(every.points, max(every.spacing, voxel_size))
            surface = self.surface(selected, voxel_size) if voxel_size else every
            return fit_normals(surface.points, surface.toward, chosen)

        return self._keep(("normals", _key(selected), voxel_size, radius), fit)

    def bounding_box(self, selected: Selected) -> OrientedBox:
        """The box about the objects, without coverage: upright where the frame has an up.

        The z axis of a frame that the given poses fix is taken to point up (REP 103).
        """
        key = _key(selected)
        if isinstance(key, tuple) and len(key) == 1 and key[0] in self._boxes:
            return self._boxes[key[0]]

        def fit() -> OrientedBox:
            up = [0.0, 0.0, 1.0] if self.scene.alignment.in_prior_frame else None
            return fit_box(self.scene.index.points[self.scene.rows_of(selected)], up)

        return self._keep(("bounding box", key), fit)

    def box(self, selected: Selected) -> OrientedBox:
        """The same box with its coverage, which takes longer."""

        def look() -> OrientedBox:
            points, box = self.surface(selected).points, self.bounding_box(selected)
            normals = self.normals(selected)
            step = max(1, len(points) // 20_000)  # enough for 16 x 16 cells a face
            shares = face_coverage(points[::step], normals[::step], box)
            return OrientedBox(box.frame_from_box, box.size, shares)

        return self._keep(("box", _key(selected)), look)

    def context(
        self, selected: Selected, edge: float = 0.0, voxel_size: float = DEFAULT_VOXEL
    ) -> PlainCloud:
        """See :func:`wildseg3d_ros.grasping.surroundings.context`; edge 0 chooses one."""

        def cut() -> PlainCloud:
            box = self.bounding_box(selected)
            size = edge or context_edge(box.size, self.scene.alignment.metric)
            centre = box.frame_from_box[:3, 3]
            masks = self._masks(selected)
            return context(self.scene, self._solid, masks, centre, size, voxel_size)

        return self._keep(("context", _key(selected), edge, voxel_size), cut)

    def surroundings(self, selected: Selected, voxel_size: float = DEFAULT_VOXEL) -> PlainCloud:
        """See :func:`wildseg3d_ros.grasping.surroundings.without_object`."""

        def cut() -> PlainCloud:
            masks, points = self._masks(selected), self.surface(selected).points
            return without_object(self.scene, self._solid, masks, points, voxel_size)

        return self._keep(("surroundings", _key(selected), voxel_size), cut)

    def organized(
        self, selected: Selected, view: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """(H, W, 3) points of the objects at the pixels of a camera's image, NaN elsewhere, and
        the image.

        The points are those of the object's cloud that come from this view.
        """
        index, image = self.scene.index, self.scene.images[view]
        points = np.full(image.shape, np.nan, np.float32)
        rows = self.scene.rows_of(selected)
        mine = index.view[rows] == view
        points.reshape(-1, 3)[index.pixel[rows][mine]] = index.points[rows][mine]
        return at_camera(self.scene, view, points), camera_image(self.scene, view)

    def _masks(self, selected: Selected) -> ViewMasks:
        return self.scene.view_masks(selected, of_images=True)

    def _keep(self, key: tuple, compute: Callable[[], _Value]) -> _Value:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]  # type: ignore[return-value]
        value = compute()
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > 32:  # the least recently used go first
                self._kept.popitem(last=False)
        return value


def _key(selected: Selected) -> Hashable:
    return selected if isinstance(selected, Nodes) else tuple(selected)


def bounding_boxes(scene: Scene) -> dict[int, OrientedBox]:
    """Boxes about all objects of a scene that have a point, by id; without coverage."""
    graspable = GraspableScene(scene)
    return {
        object_id: graspable.bounding_box((object_id,))
        for object_id in scene.index.ids.tolist()
        if scene.index.count(object_id)
    }
