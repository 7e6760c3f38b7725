"""New objects in the mask cache, and new masks of cached ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import LEVELS, MaskCache, MaskRecord, ViewPrompts, WorldPointmaps
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
    size = max(1, sum(map(np.count_nonzero, masks)))
    taken = [
        sum(np.count_nonzero(m[mask]) for m, mask in zip(level, masks, strict=True)) / size
        for level in maps
    ]
    level = next((k for k, share in enumerate(taken) if share < 0.15), int(np.argmin(taken)))
    object_id = cache.first_new_id()
    maps[level] = tuple(
        np.where(mask, np.int32(object_id), labels)
        for labels, mask in zip(maps[level], masks, strict=True)
    )
    del maps[max(len(cache.maps), level + 1) :]
    unmasked = tuple(v for v, seen in enumerate(visible) if seen and not masks[v].any())
    return _recorded(cache, maps, object_id, soft, quality, {object_id: unmasked}), object_id


def replace_object_masks(
    cache: MaskCache, level: int, object_id: int, masks: Sequence[NDArray[np.bool_]]
) -> MaskCache:
    """The cache with other masks of an object.

    What they take is no longer other objects' of the level, what they give up is nobody's.
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
    before = {(m.view, each.object_id): m for each in cache.objects for m in each.masks}
    scored = {key: mask.score for key, mask in before.items()}
    scored |= {(view, object_id): quality[view] for view in range(len(soft))}
    hidden = {each.object_id: each.unmasked for each in cache.objects} | dict(unmasked)

    def with_soft(name: int, mask: MaskRecord) -> MaskRecord:
        new, old = soft[mask.view], before.get((mask.view, name))
        if name == object_id and new is not None:
            u0, v0, u1, v1 = mask.box
            crop = np.rint(255 * new[v0 : v1 + 1, u0 : u1 + 1]).astype(np.uint8)
        else:
            crop = old.soft if old and old.box == mask.box else None
        return replace(mask, soft=crop)

    records = tuple(
        replace(each, masks=tuple(with_soft(each.object_id, mask) for mask in each.masks))
        for each in describe_objects(maps, scores, scored, unmasked=hidden)
    )
    return cache.with_masks(maps, scores, records)
