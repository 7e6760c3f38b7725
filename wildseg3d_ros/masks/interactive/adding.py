"""New objects in the mask cache, and new masks of cached ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import LEVELS, MaskCache, ViewPrompts, WorldPointmaps
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.interactive.finding import find_object, points_of
from wildseg3d_ros.masks.sources import MIN_HITS, MaskSource


def extend_cache(
    cache: MaskCache,
    source: MaskSource,
    prompts: Mapping[int, ViewPrompts],
    world: WorldPointmaps,
    visibility: Visibility,
    names: Sequence[str],
) -> tuple[MaskCache, int]:
    """The cache with the object that the prompts mean, and the object's id.

    Arguments and errors as of :func:`find_object`.
    """
    soft, quality = find_object(source, prompts, world, visibility, names)
    prompted = {
        view: mask > 0.5 for view, mask in enumerate(soft) if view in prompts and mask is not None
    }
    points, origin = points_of(prompted, world)
    visible = [
        view in prompts or len(visibility.pixels_of(view, points, origin)) >= MIN_HITS
        for view in range(len(names))
    ]
    return add_masks(cache, soft, quality, visible)


def add_masks(
    cache: MaskCache,
    soft: Sequence[NDArray[np.float32] | None],
    quality: Sequence[float],
    visible: Sequence[bool],
) -> tuple[MaskCache, int]:
    """The cache with one more object, and its id.

    The object goes to the level where the fewest of its pixels belong to others: beside the
    cached ones it is a whole, inside a whole it is a part. Pixels that it shares with others of
    its level become its own, because somebody asked for it.

    Args:
        soft: per view (H, W) soft scores, None where it has no mask.
        quality: per view.
        visible: per view, whether its surface is seen there.
    """
    masks = [
        np.zeros(labels.shape, np.bool_) if each is None else each > 0.5
        for labels, each in zip(cache.labels, soft, strict=True)
    ]
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


def replace_object_masks(
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
    scored = {(m.view, each.object_id): m.score for each in cache.objects for m in each.masks}
    crops = _unchanged_crops(cache, maps)
    for view, each in enumerate(soft):
        crops.pop((view, object_id), None)
        if each is not None and (each > 0.5).any():
            rows, columns = np.nonzero(each > 0.5)
            box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            scored[view, object_id] = quality[view]
            crops[view, object_id] = np.rint(255 * each[box]).astype(np.uint8)
    hidden = {each.object_id: each.unmasked for each in cache.objects} | dict(unmasked)
    records = describe_objects(maps, scores, scored, crops, hidden)
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
