"""Objects of all views with one id each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import InvalidScene
from wildseg3d_ros.types.checks import (
    check_array,
    check_finite,
    check_integer,
    check_range,
    check_text,
    check_tuple,
    expect,
)

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
        soft: (h, w) uint8 soft score of the pixels in the box, 255 = surely on the object; None
            where the back end has one score map for all objects of a view.
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
    """

    object_id: int
    level: Level
    parent: int
    masks: tuple[MaskRecord, ...]
    unmasked: tuple[int, ...] = ()

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
        return f"'{self.backend}'" + (
            f" with the weights '{self.weights}'" if self.weights else ""
        )


@dataclass(frozen=True, eq=False)
class MaskCache:
    """Object masks of all views with one id per object.

    Attributes:
        labels: per view (H, W) int32, 0 = no object, else an id in ``object_ids``.
        scores: per view (H, W) float32 in [0, 1], soft score of a pixel being on an object (S in
            WildSeg3D); near 1 inside objects, near 0 on the background, 0.5 at doubtful borders.
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
    ) -> MaskCache:
        """The cache with other masks of its views; what else it keeps stays.

        Args:
            maps: by level, by view.
            scores: by view.
            objects: records of all objects in the maps.
        """
        whole = tuple(each.object_id for each in objects if each.level == LEVELS[0])
        return dataclasses.replace(
            self,
            labels=maps[0],
            finer=tuple(maps[1:]),
            scores=scores,
            object_ids=whole,
            objects=objects,
        )

    def first_new_id(self) -> int:
        """The least id that no object has or had; those above it are free as well.

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

    def check(self) -> None:
        """Checks that the parts are what they must be and fit each other.

        Raises:
            InvalidScene: names the part, what was expected and what it is.
        """
        views = len(check_tuple(self.labels, "label maps of whole objects"))
        check_tuple(self.finer, "finer label maps")
        expect(len(self.finer) < len(LEVELS), "levels", f"at most {len(LEVELS)}", len(self.maps))
        for level, maps in zip(LEVELS, self.maps, strict=False):
            for view, labels in enumerate(check_tuple(maps, f"label maps of {level}s", views)):
                size = self.labels[view].shape if level != LEVELS[0] else (None, None)
                check_array(labels, _map_name(level, view), np.int32, size)
        for view, scores in enumerate(check_tuple(self.scores, "soft scores", views)):
            what = f"soft scores of view {view}"
            check_array(scores, what, np.float32, self.labels[view].shape)
            check_range(scores, what, 0.0, 1.0)
        check_integer(self.next_id, "next_id", 1, HIGHEST_ID + 1)
        check_text(self.encoder, "encoder")
        if self.origin is not None:
            for name in ("backend", "weights"):
                check_text(getattr(self.origin, name), f"{name} of the masks' origin")
        ids = self._checked_ids()
        areas = [
            [_checked_areas(labels, ids[level], _map_name(level, v)) for v, labels in enumerate(m)]
            for level, m in zip(LEVELS, self.maps, strict=False)
        ]
        for each in self.objects:
            self._check_record(each, areas[LEVELS.index(each.level)])
        for view, parts in enumerate(check_tuple(self.embeddings, "embeddings")):
            expect(len(self.embeddings) == views, "embeddings", f"{views} or none", view + 1)
            for k, part in enumerate(check_tuple(parts, f"embedding of view {view}")):
                what = f"embedding of view {view}, level {k}"
                check_array(part, what, np.float16, [None] * np.ndim(part))
                check_finite(part, what)

    def _checked_ids(self) -> dict[Level, list[int]]:
        """Sorted ids of each level; raises InvalidScene unless they are unique and known."""
        of_level: dict[Level, list[int]] = {level: [] for level in LEVELS}
        last = 0
        for each in check_tuple(self.objects, "objects"):
            number = check_integer(each.object_id, "id of an object", 1, HIGHEST_ID)
            expect(number > last, "ids of objects", "each once, sorted", f"{number} after {last}")
            last, known = number, LEVELS[: len(self.maps)]
            what = f"level of object {number}"
            expect(each.level in known, what, f"one of {', '.join(known)}", each.level)
            of_level[each.level].append(number)
        levels = {i: LEVELS.index(level) for level, ids in of_level.items() for i in ids}
        for each in self.objects:
            above = 0 if each.parent == 0 else levels.get(each.parent, len(LEVELS))
            expect(
                each.parent == 0 or above < LEVELS.index(each.level),
                f"parent of object {each.object_id}",
                f"0 or an object of a level above '{each.level}'",
                each.parent,
            )
        whole = [check_integer(i, "id of a whole object", 1, HIGHEST_ID)
                 for i in check_tuple(self.object_ids, "ids of whole objects")]  # fmt: skip
        expect(whole == sorted(set(whole)), "ids of whole objects", "each once, sorted", whole)
        unknown = sorted(set(of_level[LEVELS[0]]) - set(whole))
        expect(not unknown, "ids of whole objects", f"object {unknown} among them", whole)
        if not self.objects:
            of_level[LEVELS[0]] = whole
        return of_level

    def _check_record(self, each: ObjectRecord, areas: Sequence[Mapping[int, int]]) -> None:
        """Checks an object's record against its level's maps, of which the areas are given."""
        who, maps = f"object {each.object_id}", self.maps[LEVELS.index(each.level)]
        shown = [view for view, of_view in enumerate(areas) if each.object_id in of_view]
        masks = check_tuple(each.masks, f"masks of {who}")
        views = [check_integer(m.view, f"view of {who}", 0, len(maps) - 1) for m in masks]
        expect(views == shown, f"views with a mask of {who}", str(shown), views)
        unmasked = [
            check_integer(v, f"views without a mask of {who}", 0, len(maps) - 1)
            for v in check_tuple(each.unmasked, f"views without a mask of {who}")
        ]
        both = sorted(set(unmasked) & set(views))
        expect(not both, f"views without a mask of {who}", f"none of {views}", unmasked)
        for mask in masks:
            what = f"mask of {who} in view {mask.view}"
            area = areas[mask.view][each.object_id]
            expect(mask.area == area, f"area of the {what}", f"{area} pixels as in its label map",
                   mask.area)  # fmt: skip
            _check_box(mask, maps[mask.view], each.object_id, what)
            check_range(np.array(mask.score, np.float64), f"score of the {what}", 0.0, 1.0)
            if mask.soft is not None:
                u0, v0, u1, v1 = mask.box
                check_array(
                    mask.soft, f"soft scores of the {what}", np.uint8, (v1 - v0 + 1, u1 - u0 + 1)
                )


def _map_name(level: Level, view: int) -> str:
    return f"label map of {level}s in view {view}"


def _checked_areas(labels: NDArray[np.int32], ids: Sequence[int], what: str) -> dict[int, int]:
    """Pixels of each id that a label map has; raises InvalidScene for an id that nobody knows."""
    known = np.array([BACKGROUND, *ids], np.int32)
    place = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    strange = known[place] != labels
    if strange.any():
        raise InvalidScene(
            f"{what}: expected 0 and ids of recorded objects of that level, got "
            f"{labels[strange].flat[0]} on {np.count_nonzero(strange)} pixels"
        )
    counts = np.bincount(place.ravel(), minlength=len(known)).tolist()
    return {i: n for i, n in zip(known.tolist(), counts, strict=True) if i and n}


def _check_box(mask: MaskRecord, labels: NDArray[np.int32], object_id: int, what: str) -> None:
    height, width = labels.shape
    limits = (width - 1, height - 1, width - 1, height - 1)
    box = check_tuple(mask.box, f"box of the {what}", 4)
    for value, limit in zip(box, limits, strict=True):
        check_integer(value, f"box of the {what}", 0, limit)
    u0, v0, u1, v1 = box
    inside = labels[v0 : v1 + 1, u0 : u1 + 1] == object_id
    touched = inside.size and all(
        edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    )
    expect(
        bool(touched) and np.count_nonzero(inside) == mask.area,
        f"box of the {what}",
        "the first and last column and row of its pixels",
        box,
    )
