"""Objects that no cached mask is: found in the prompted view, lifted into the others, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import ErrorCode, PromptError
from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.types import LEVELS, MaskCache, WorldPointmaps

SAMPLES = 4000
"""Points of a mask that are lifted into the other views."""
LEAST_HITS = 20
"""Fewer of them in a view, and the object is not visible there."""
HELD = 0.7
"""Share of the lifted points that the mask of the other view must hold."""
RETURNED = 0.6
"""Share of that mask's points, of those the prompted view sees, that must lie on its mask."""
SEEDS = 3
"""Points that prompt another view."""


@dataclass(frozen=True, eq=False)
class Hints:
    """What is known of an object in one view.

    Attributes:
        points: (n, 2) pixels (u, v).
        on: (n,) bool, whether each is on the object.
        box: (u0, v0, u1, v1) about it; None when there is none.
        area: (H, W) bool pixels that are on the object by the points of other views; None in a
            view that was prompted itself.
        mask: (H, W) bool all pixels of the object, to be taken as they are; None when not given.
    """

    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    on: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    box: tuple[float, float, float, float] | None = None
    area: NDArray[np.bool_] | None = None
    mask: NDArray[np.bool_] | None = None


class MaskSource(Protocol):
    """Something that proposes masks for hints."""

    @property
    def note(self) -> str:
        """What a user should know of its answers; empty when nothing."""
        ...

    def propose(self, view: int, hints: Hints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(A, H, W) soft scores in [0, 1] of alternatives, and (A,) their quality in [0, 1].

        Raises:
            PromptError: nothing can be proposed there; says why.
        """
        ...


def extend_cache(
    cache: MaskCache,
    source: MaskSource,
    hints: Mapping[int, Hints],
    world: WorldPointmaps,
    visibility: Visibility,
    names: Sequence[str],
) -> tuple[MaskCache, int]:
    """The cache with the object that the hints mean, and the object's id.

    Arguments and errors as of :func:`find_object`.
    """
    soft, quality = find_object(source, hints, world, visibility, names)
    prompted = {
        view: mask > 0.5 for view, mask in enumerate(soft) if view in hints and mask is not None
    }
    points, origin = _points_of(prompted, world)
    visible = [
        view in hints or len(_hits(points, origin, view, visibility)) >= LEAST_HITS
        for view in range(len(names))
    ]
    return add_masks(cache, soft, quality, visible)


def find_object(
    source: MaskSource,
    hints: Mapping[int, Hints],
    world: WorldPointmaps,
    visibility: Visibility,
    names: Sequence[str],
) -> tuple[tuple[NDArray[np.float32] | None, ...], tuple[float, ...]]:
    """The soft masks of one object in all views.

    In the prompted views the best proposal that satisfies every hint is taken. Its points are
    lifted into the other views, the one that shows most of them first; what is proposed there for
    the places that they hit must hold them, and its own points must come back onto the masks that
    are known so far, to which it then belongs.

    Args:
        source: of the proposals.
        hints: by index of the prompted views.
        names: of all views, for errors.

    Returns:
        Per view (H, W) float32 soft scores, None where the object is not visible or no proposal
        stands the checks, and the quality of each, 0 where there is none.

    Raises:
        PromptError: no proposal satisfies the hints of a view.
    """
    masks: list[NDArray[np.float32] | None] = [None] * len(names)
    quality = [0.0] * len(names)
    for view, given in hints.items():
        if given.mask is None:
            soft, sure = source.propose(view, given)
        else:
            soft, sure = given.mask.astype(np.float32)[None], np.ones(1, np.float32)
        fits = [_satisfies(each > 0.5, given) for each in soft]
        if not any(fits):
            raise PromptError(
                f"camera '{names[view]}': no mask holds all positive points and no negative one "
                "inside what was asked for; give fewer or other points",
                ErrorCode.NO_OBJECT_AT_PIXEL,
            )
        best = int(np.where(fits, sure, -1.0).argmax())
        masks[view], quality[view] = soft[best], float(sure[best])
    known = {view: mask > 0.5 for view, mask in enumerate(masks) if mask is not None}
    left = set(range(len(names))) - known.keys()
    while left:
        # The view that shows most of what is known comes next: its far side leads to others.
        points, origin = _points_of(known, world)
        hits = {view: _hits(points, origin, view, visibility) for view in left}
        view = max(sorted(left), key=lambda v, hits=hits: len(hits[v]))
        if len(hits[view]) < LEAST_HITS:
            break
        left.discard(view)
        found = _propose_lifted(source, view, hits[view], known, world, visibility)
        if found is not None:
            masks[view], quality[view] = found
            known[view] = found[0] > 0.5
    return tuple(masks), tuple(quality)


def _propose_lifted(
    source: MaskSource,
    view: int,
    hit: NDArray[np.intp],
    known: Mapping[int, NDArray[np.bool_]],
    world: WorldPointmaps,
    visibility: Visibility,
) -> tuple[NDArray[np.float32], float] | None:
    """The best proposal for lifted points that stands the checks, and its quality."""
    area = _area(hit, visibility.depth[view].shape)
    seeds = _deepest(area)
    try:
        soft, sure = source.propose(view, Hints(seeds, np.ones(len(seeds), np.bool_), area=area))
    except PromptError:
        return None
    standing = [_agreement(each > 0.5, hit, view, known, world, visibility) for each in soft]
    # What is certain but shows no more than was known already has a quality of 0.
    best = int(np.argmax(np.array(standing) * (0.05 + sure)))
    return (soft[best], float(sure[best])) if standing[best] > 0 else None


def _satisfies(mask: NDArray[np.bool_], hints: Hints) -> bool:
    column, row = np.rint(hints.points).astype(int).T
    if not np.array_equal(mask[row, column], hints.on):
        return False
    if hints.box is None:
        return bool(mask.any())
    u0, v0, u1, v1 = (round(x) for x in hints.box)
    inside = mask[max(v0, 0) : v1 + 1, max(u0, 0) : u1 + 1].sum()
    return bool(inside and inside >= 0.8 * mask.sum())


def _points_of(
    masks: Mapping[int, NDArray[np.bool_]], world: WorldPointmaps
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    points, origin = [], []
    for view, mask in masks.items():
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        pixel = np.flatnonzero((inner if inner.any() else mask) & world.valid(view))
        pixel = pixel[:: max(1, len(pixel) // SAMPLES)]
        points.append(world.points[view].reshape(-1, 3)[pixel])
        origin.append(np.full(len(pixel), view, np.uint16))
    return np.concatenate(points), np.concatenate(origin)


def _hits(
    points: NDArray[np.float32],
    origin: NDArray[np.uint16],
    view: int,
    visibility: Visibility,
) -> NDArray[np.intp]:
    """Flat pixels of a view that show the points."""
    _, z, pixel = visibility.look(view, points, origin)
    measured = visibility.depth[view].ravel()[pixel]
    return pixel[(measured > 0) & (np.abs(measured - z) < visibility.tolerance(view, z))]


def _area(hit: NDArray[np.intp], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """The hit pixels and the gaps between them, which lifted points leave where the view is nearer
    than the one that they come from."""
    area = np.zeros(size, np.uint8)
    area.ravel()[hit] = 1
    return np.asarray(cv2.morphologyEx(area, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))) > 0


def _deepest(area: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, 2) pixels (u, v) farthest inside an area, far from each other."""
    size = area.shape
    padded = np.pad(area, 1).astype(np.uint8)
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3))[1:-1, 1:-1].copy()
    v, u = np.mgrid[: size[0], : size[1]]
    apart = 0.25 * np.sqrt(float(area.sum()))
    seeds = []
    for _ in range(SEEDS):
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[row, column] <= 0:
            break
        seeds.append((column, row))
        depth[np.hypot(v - row, u - column) < apart] = 0
    return np.array(seeds, np.float64)


def _agreement(
    mask: NDArray[np.bool_],
    hit: NDArray[np.intp],
    view: int,
    known: Mapping[int, NDArray[np.bool_]],
    world: WorldPointmaps,
    visibility: Visibility,
) -> float:
    """How well a mask agrees with the object as other views show it; 0 if it fails a check."""
    held = float(mask.ravel()[hit].mean())
    if held < HELD:
        return 0.0
    points, origin = _points_of({view: mask}, world)
    back, seen = 0, 0
    for other, its_mask in known.items():
        pixel = _hits(points, origin, other, visibility)
        seen += len(pixel)
        back += int(its_mask.ravel()[pixel].sum())
    returned = back / seen if seen else 0.0
    return held * returned if returned >= RETURNED else 0.0


def add_masks(
    cache: MaskCache,
    soft: Sequence[NDArray[np.float32] | None],
    quality: Sequence[float],
    visible: Sequence[bool],
) -> tuple[MaskCache, int]:
    """The cache with one more object, and its id.

    The object goes to the level where the fewest of its pixels belong to others: beside the
    cached ones it is a whole, inside a whole it is a part. What pixels it shares with others of
    its level are its own from now on, for somebody asked for it.

    Args:
        soft: per view (H, W) soft scores, None where it has no mask.
        quality: per view.
        visible: per view, whether its surface is seen there.
    """
    masks = [np.zeros(m.shape, np.bool_) for m in cache.labels]
    for view, each in enumerate(soft):
        if each is not None:
            masks[view] = each > 0.5
    empty = tuple(np.zeros(m.shape, np.int32) for m in cache.labels)
    maps = [*cache.maps, *([empty] * (len(LEVELS) - len(cache.maps)))]
    size = max(1, sum(int(mask.sum()) for mask in masks))
    taken = [
        sum(int(np.count_nonzero(m[mask])) for m, mask in zip(level, masks, strict=True)) / size
        for level in maps
    ]
    level = next((k for k, share in enumerate(taken) if share < 0.15), int(np.argmin(taken)))
    object_id = cache.first_new_id()
    maps[level] = tuple(
        np.where(mask, np.int32(object_id), labels)
        for labels, mask in zip(maps[level], masks, strict=True)
    )
    while len(maps) > max(len(cache.maps), level + 1):
        maps.pop()
    unmasked = {
        object_id: tuple(
            view for view, seen in enumerate(visible) if seen and not masks[view].any()
        )
    }
    return _recorded(cache, maps, object_id, soft, quality, unmasked), object_id


def replace_masks(
    cache: MaskCache, level: int, object_id: int, masks: Sequence[NDArray[np.bool_]]
) -> MaskCache:
    """The cache with other masks of an object.

    What they take is no longer other objects' of the level, what they give up is nobody's.

    Args:
        cache: that has the object.
        level: of the object.
        object_id: its id.
        masks: per view (H, W).
    """
    maps = list(cache.maps)
    maps[level] = tuple(
        np.where(mask, np.int32(object_id), np.where(labels == object_id, 0, labels)).astype(
            np.int32
        )
        for labels, mask in zip(maps[level], masks, strict=True)
    )
    soft = [mask.astype(np.float32) if mask.any() else None for mask in masks]
    return _recorded(cache, maps, object_id, soft, [1.0] * len(masks), {})


def _recorded(
    cache: MaskCache,
    maps: Sequence[tuple[NDArray[np.int32], ...]],
    object_id: int,
    soft: Sequence[NDArray[np.float32] | None],
    quality: Sequence[float],
    unmasked: Mapping[int, tuple[int, ...]],
) -> MaskCache:
    """The cache with other label maps, in which one object has new soft masks."""
    scores = tuple(
        old if each is None else np.maximum(old, each).astype(np.float32)
        for old, each in zip(cache.scores, soft, strict=True)
    )
    sure = {(m.view, each.object_id): m.score for each in cache.objects for m in each.masks}
    crops = _unchanged_crops(cache, maps)
    for view, each in enumerate(soft):
        crops.pop((view, object_id), None)
        if each is not None and (each > 0.5).any():
            rows, columns = np.nonzero(each > 0.5)
            box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            sure[view, object_id] = quality[view]
            crops[view, object_id] = np.rint(255 * each[box]).astype(np.uint8)
    hidden = {each.object_id: each.unmasked for each in cache.objects} | dict(unmasked)
    records = describe_objects(maps, scores, sure, crops, hidden)
    return cache.with_masks(maps, scores, records)


def _unchanged_crops(
    cache: MaskCache, maps: Sequence[Sequence[NDArray[np.int32]]]
) -> dict[tuple[int, int], NDArray[np.uint8]]:
    """Soft scores of the masks whose box is what it was."""
    crops = {}
    for each in cache.objects:
        for mask in each.masks:
            if mask.soft is None:
                continue
            labels = maps[LEVELS.index(each.level)][mask.view]
            rows, columns = np.nonzero(labels == each.object_id)
            if len(rows) and mask.box == (
                columns.min(), rows.min(), columns.max(), rows.max()
            ):  # fmt: skip
                crops[mask.view, each.object_id] = mask.soft
    return crops
