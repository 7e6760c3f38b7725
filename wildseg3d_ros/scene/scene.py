"""The immutable snapshot that answers prompts (MGM: multi-view group mapping in WildSeg3D)."""

from __future__ import annotations

import dataclasses
import difflib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import (
    Alignment,
    CameraVerdict,
    LeftOutView,
    MaskCache,
    ObjectTree,
    Prompt,
    View,
    ViewMasks,
    WorldPointmaps,
)
from wildseg3d_ros.core.types.tree import Nodes, Selected
from wildseg3d_ros.scene.config import IndexConfig
from wildseg3d_ros.scene.frozen import ReadOnlyArrays
from wildseg3d_ros.scene.index import ObjectIndex, as_index


@dataclass(frozen=True)
class Edit:
    """A prompt that changed a scene.

    Attributes:
        prompt: of the caller.
        object_id: of the object that it made or corrected.
        refines: whether it corrected an object that was there.
    """

    prompt: Prompt
    object_id: int
    refines: bool


@dataclass(frozen=True, eq=False)
class Scene(ReadOnlyArrays):
    """Everything that is known of a scene.

    Nothing in it changes after it is made, so threads may share it without a lock.

    Attributes:
        scene_id: unique to this build.
        view_names: N camera names.
        images: per view (H, W, 3) uint8 RGB, at the size that the scene is built at.
        K: (N, 3, 3) float64 intrinsics in pixels.
        world_from_cam: (N, 4, 4) float64 camera poses.
        stamps_ns: per view, time of the image.
        camera_frames: per view, name of the camera's optical frame in TF; may be empty.
        masks: labels, soft scores and records of the objects of all levels.
        world: a point per pixel of every view.
        object_tree: nested parts of the surface, of which the objects are nodes: those of the
            masks, or derived from their label maps.
        index: the points of each of these nodes.
        frame_id: name of the frame of all points: the world frame when the alignment is in the
            frame of the given poses, else the first camera's.
        stamp_ns: time of the newest image.
        alignment: how the views were brought together, and how well they agree.
        seconds: wall time by stage of the build.
        warnings: what a user should know, one sentence each.
        click_radius: half edge [px] of the window around a click that decides the object.
        camera_sizes: per view (height, width) of the camera's own image, in whose pixels prompts
            and masks of answers are; empty where images have these sizes.
        left_out: views that were given, and that no pair relates to those of the scene.
        edits: what added or corrected objects since it was built, oldest first.
        original: the scene before these; None where there are none. A scene's file keeps neither.
    """

    scene_id: str
    view_names: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    K: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]
    stamps_ns: tuple[int, ...]
    camera_frames: tuple[str, ...]
    masks: MaskCache
    world: WorldPointmaps
    object_tree: ObjectTree
    index: ObjectIndex
    frame_id: str
    stamp_ns: int
    alignment: Alignment
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    click_radius: int = 6
    camera_sizes: tuple[tuple[int, int], ...] = ()
    left_out: tuple[LeftOutView, ...] = ()
    edits: tuple[Edit, ...] = ()
    original: Scene | None = None

    @classmethod
    def create(
        cls,
        views: Sequence[View],
        alignment: Alignment,
        world: WorldPointmaps,
        cache: MaskCache,
        config: IndexConfig = IndexConfig(),
        world_frame: str = "world",
        seconds: Mapping[str, float] | None = None,
        warnings: Sequence[str] = (),
        nothing_found: tuple[str, str] = ("its masks are empty", "look at the images"),
    ) -> Scene:
        """Builds the object index and takes the snapshot.

        Args:
            views: the N views that the scene is made from.
            alignment, world, cache: of the stages before.
            config: of the index.
            world_frame: name of the frame that the views' given poses refer to.
            seconds: wall time by stage so far; the time taken here is added as stage "index".
            warnings: of the stages before, beside the alignment's own.
            nothing_found: why the cache has no object, if so, and the way out.
        """
        start = time.perf_counter()
        images = tuple(view.image for view in views)
        K, world_from_cam = alignment.K, alignment.world_from_cam
        objects = ObjectTree.of_cache(cache)
        index = ObjectIndex.build(images, K, world_from_cam, world, objects, config)
        warnings = [*warnings, *alignment.warnings]
        if not cache.object_ids:
            warnings.append(_nothing_found(world, *nothing_found))
        bare = [str(i) for i in index.ids.tolist() if not index.count(i)]
        if bare:
            warnings.append(f"no reliable 3D point on object(s) {', '.join(bare)}: masks only")
        first = views[0]
        return cls(
            scene_id=uuid.uuid4().hex[:12],
            view_names=tuple(view.name for view in views),
            images=images,
            K=K,
            world_from_cam=world_from_cam,
            stamps_ns=tuple(int(view.stamp_ns) for view in views),
            camera_frames=tuple(view.frame_id for view in views),
            masks=cache,
            world=world,
            object_tree=objects,
            index=index,
            frame_id=world_frame if alignment.in_prior_frame else first.frame_id or first.name,
            stamp_ns=max(int(view.stamp_ns) for view in views),
            alignment=alignment,
            seconds={**(seconds or {}), "index": time.perf_counter() - start},
            warnings=tuple(warnings),
            click_radius=config.click_radius,
            camera_sizes=(
                tuple(view.full_size for view in views)
                if any(view.full_size != view.size for view in views)
                else ()
            ),
        )

    def __repr__(self) -> str:
        return (
            f"<scene {self.scene_id}: {len(self.object_ids)} objects in {len(self.view_names)} "
            f"views, frame '{self.frame_id}'>"
        )

    def with_masks(
        self,
        cache: MaskCache,
        config: IndexConfig = IndexConfig(),
        warnings: Sequence[str] = (),
    ) -> Scene:
        """Another snapshot of the same views, with other masks of them and further warnings."""
        objects = ObjectTree.of_cache(cache)
        index = ObjectIndex.build(
            self.images, self.K, self.world_from_cam, self.world, objects, config
        )
        return self._with(cache, objects, index, warnings)

    def with_edited_masks(self, cache: MaskCache) -> Scene:
        """Another snapshot whose masks have other objects of the same tree, or of this tree with
        leaves cut in two. The points are those of before: none is filtered anew."""
        objects = ObjectTree.of_cache(cache)
        same = objects.tree is self.object_tree.tree
        index = (self.index.with_objects if same else self.index.reordered)(objects)
        return self._with(cache, objects, index, ())

    def _with(
        self, cache: MaskCache, objects: ObjectTree, index: ObjectIndex, warnings: Sequence[str]
    ) -> Scene:
        found = bool(cache.object_ids)
        still_true = [w for w in self.warnings if not (found and w.startswith(_NOTHING))]
        return dataclasses.replace(
            self,
            scene_id=uuid.uuid4().hex[:12],
            masks=cache,
            object_tree=objects,
            index=index,
            warnings=(*still_true, *warnings),
        )

    def runs_of(self, selected: Selected) -> NDArray[np.int32]:
        """(R, 2) runs of leaves of objects of any level, or of nodes, merged and sorted.

        Raises:
            KeyError: there is no such object.
        """
        if isinstance(selected, Nodes):
            return self.object_tree.tree.runs(selected.nodes)
        return self.index.runs_of(selected)

    def rows_of(self, selected: Selected) -> slice | NDArray[np.int64]:
        """Rows of their points in the index, in the order of an answer; errors as above."""
        return as_index(self.index.slices(self.runs_of(selected)))

    def view_masks(self, selected: Selected, of_images: bool = False) -> ViewMasks:
        """Per-view masks of objects of any level, or of nodes; errors as above.

        Args:
            of_images: at the sizes of ``images`` instead of the cameras' own.
        """
        sizes = () if of_images else self.camera_sizes
        return ViewMasks(
            self.view_names, self.object_tree.tree.leaves, self.runs_of(selected), sizes
        )

    def camera_size(self, view: int) -> tuple[int, int]:
        """(height, width) of the camera's own image of a view."""
        height, width = self.images[view].shape[:2]
        return self.camera_sizes[view] if self.camera_sizes else (height, width)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all whole objects, sorted."""
        return self.masks.object_ids

    @property
    def labels(self) -> tuple[NDArray[np.int32], ...]:
        """Per view (H, W) int32 ids of whole objects, 0 = no object."""
        return self.masks.labels

    @property
    def verdicts(self) -> tuple[CameraVerdict, ...]:
        """On the cameras of the scene, where any were passed, and of the views left out."""
        return (*self.alignment.cameras, *(view.verdict for view in self.left_out))

    def view_index(self, name: str) -> int:
        """Index of the named view.

        Raises:
            PromptError: the scene has no such view; the text lists those it has, and why one that
                was given was left out.
        """
        name = name if isinstance(name, str) else repr(name)  # who calls may pass anything
        if name in self.view_names:
            return self.view_names.index(name)
        for view in self.left_out:
            if view.name == name:
                raise PromptError(
                    f"camera '{name}' is not in the scene: it was left out of the build because "
                    f"{view.verdict.why}; build the scene anew with views in between, or click in "
                    f"another camera: {', '.join(self.view_names)}",
                    ErrorCode.UNKNOWN_CAMERA,
                )
        near = difflib.get_close_matches(name, self.view_names, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise PromptError(
            f"the scene has no camera '{name}'; {hint}its cameras are: "
            f"{', '.join(self.view_names)}",
            ErrorCode.UNKNOWN_CAMERA,
        )


_NOTHING = "no object was found in any view"


def _nothing_found(world: WorldPointmaps, why: str, way_out: str) -> str:
    """Why there is no object, as far as can be told, and the way out."""
    pixels = sum(confidence.size for confidence in world.confidence)
    share = sum(int(np.count_nonzero(c)) for c in world.confidence) / max(pixels, 1)
    if share < 0.05:
        why = f"only {share:.1%} of the pixels have a 3D point"
        way_out = "look at the depth images and at the range and back end in 'pointmaps'"
    return (
        f"{_NOTHING}, so no click can be answered: {why}; {way_out}, or add objects by clicks and "
        "boxes (edit_object; on the command line: --add)"
    )
