"""Objects of all views with one id each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InvalidScene
from wildseg3d_ros.core.types.tree import MaskTree

BACKGROUND = 0
"""Label of pixels that belong to no object."""

Level = Literal["whole", "part", "sub_part"]
"""How much of a thing a mask covers: a mug, its handle, the print on it."""
LEVELS: tuple[Level, ...] = get_args(Level)
HIGHEST_ID = 2**31 - 1
"""Of an object: label maps are int32."""


@dataclass(frozen=True, eq=False)
class MaskRecord:
    """One object in one view.

    Attributes:
        view: index of the view.
        area: pixels of the mask.
        box: (u, v, u, v) of the mask's first and last column and row.
        score: quality of the mask in [0, 1], as its back end estimates it.
        soft: (h, w) uint8 soft score of the pixels in the box, 255 = certainly on the object;
            None where the back end has one score map for all objects of a view.
    """

    view: int
    area: int
    box: tuple[int, int, int, int]
    score: float
    soft: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class ObjectRecord:
    """What is known of an object.

    Attributes:
        object_id: unique over all levels of a scene.
        level: whole, part or sub_part.
        parent: id of the object of the level above that this one is part of, 0 = none.
        masks: one for each view that shows the object, in the order of the views.
        unmasked: views that see the object's surface but have no mask of it. In the views that
            are neither here nor in ``masks`` the object is not visible.
        nodes: of the tree of masks, disjoint and sorted, that the object is; empty without a tree.
        score: expected IoU with what a click on it means, in [0, 1]; NaN where nobody said.
        ambiguity: how likely a click on it means something else instead, in [0, 1], relative to
            the object itself; NaN where nobody said.
    """

    object_id: int
    level: Level
    parent: int
    masks: tuple[MaskRecord, ...]
    unmasked: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    score: float = math.nan
    ambiguity: float = math.nan

    @property
    def views(self) -> tuple[int, ...]:
        """Views with a mask of the object."""
        return tuple(mask.view for mask in self.masks)


@dataclass(frozen=True)
class MaskOrigin:
    """What made masks.

    Attributes:
        backend: name of the back end, as in the configuration.
        weights: hub name or absolute folder of its weights; empty where it has none.
    """

    backend: str
    weights: str = ""

    def __str__(self) -> str:
        weights = f" with the weights '{self.weights}'" if self.weights else ""
        return f"'{self.backend}'{weights}"


@dataclass(frozen=True, eq=False)
class MaskCache:
    """Object masks of all views with one id per object.

    Attributes:
        labels: per view (H, W) int32, 0 = no object, else an id in ``object_ids``.
        scores: per view (H, W) float32 in [0, 1], soft score of a pixel being on an object (S in
            WildSeg3D); near 1 inside objects, near 0 on the background, 0.5 at ambiguous borders.
        object_ids: sorted ids of the whole objects, 1 .. 2**31 - 1.
        finer: label maps of the levels below, parts first: per level, per view (H, W) int32. Their
            ids differ from those of all other levels. Empty for a back end that finds whole
            objects only.
        objects: records of the objects of all levels, by id; a back end may give none.
        embeddings: per view the image embedding that prompts outside the masks are answered from,
            as the back end stores it; empty when none are kept, or of one view.
        encoder: fingerprint of the network that made the embeddings; they are nothing to another.
        origin: what built it; None where nobody said. Updates and added objects leave it as it is.
        next_id: above every id that an object has, or had before it vanished in an update: ids are
            never given twice, so that who remembers one cannot be answered with another thing.
            What is given is raised above the ids that there are.
        tree: nested parts of the surface, of which the objects of all levels are nodes; None for a
            back end that finds label maps alone. Every pixel with a label of an object has a leaf
            in one of the object's nodes.
    """

    labels: tuple[NDArray[np.int32], ...]
    scores: tuple[NDArray[np.float32], ...]
    object_ids: tuple[int, ...]
    finer: tuple[tuple[NDArray[np.int32], ...], ...] = ()
    objects: tuple[ObjectRecord, ...] = ()
    embeddings: tuple[tuple[NDArray[np.float16], ...], ...] = ()
    next_id: int = 1
    encoder: str = ""
    origin: MaskOrigin | None = None
    tree: MaskTree | None = None

    def __post_init__(self) -> None:
        ids = [*self.object_ids, *(each.object_id for each in self.objects)]
        ids += [int(labels.max(initial=0)) for maps in self.maps for labels in maps]
        object.__setattr__(self, "next_id", max(self.next_id, 1 + max(ids, default=0)))

    @property
    def maps(self) -> tuple[tuple[NDArray[np.int32], ...], ...]:
        """Label maps by level, by view; whole objects first."""
        return (self.labels, *self.finer)

    def with_masks(
        self,
        maps: Sequence[tuple[NDArray[np.int32], ...]],
        scores: tuple[NDArray[np.float32], ...],
        objects: tuple[ObjectRecord, ...],
        tree: MaskTree | None = None,
    ) -> MaskCache:
        """The cache with other masks of its views: maps by level, by view, scores by view, and the
        records of all objects in the maps, with their tree. What else it keeps stays."""
        whole, finer = maps[0], tuple(maps[1:])
        ids = tuple(each.object_id for each in objects if each.level == LEVELS[0])
        return dataclasses.replace(
            self,
            labels=whole,
            finer=finer,
            scores=scores,
            object_ids=ids,
            objects=objects,
            tree=tree,
        )

    def first_new_id(self) -> int:
        """The smallest id that no object has or had; those above it are free as well.

        Raises:
            InvalidScene: there are hardly any left.
        """
        if self.next_id > HIGHEST_ID // 2:
            raise InvalidScene(
                f"the scene's objects have used up the ids to {self.next_id - 1}; build it again"
            )
        return self.next_id

    def record(self, object_id: int) -> ObjectRecord:
        """The record of an object of any level.

        Raises:
            KeyError: there is none.
        """
        for each in self.objects:
            if each.object_id == object_id:
                return each
        raise KeyError(f"no record of object {object_id}")
