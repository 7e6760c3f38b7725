"""A mask cache after the image of one view was replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import MaskCache, WorldPointmaps
from wildseg3d_ros.masks.association import Association, ObjectVisibility, Tracks, associate
from wildseg3d_ros.masks.cache import describe_objects


def replace_view_masks(
    cache: MaskCache,
    changed: int,
    maps: NDArray[np.int32],
    scores: Callable[[Collection[int]], NDArray[np.float32]],
    visibility: Visibility,
    world: WorldPointmaps,
    quality: Mapping[int, float] | None = None,
    soft: Mapping[int, NDArray[np.uint8]] | None = None,
    tracks: Sequence[Tracks] = (),
) -> MaskCache:
    """Assigns the new masks of one view to the objects of the others, or makes them new objects.

    The masks of the other views stay as they are, and so do their ids and levels, and what is
    recorded of known objects in these views. Of the new image no embedding is known yet.

    Args:
        cache: of the views before.
        changed: index of the view.
        maps: (L, H, W) its new masks in mask layers, as of ``associate``; names are its own.
        scores: its soft scores (H, W), given the labels that are whole objects.
        visibility, world: with the new image.
        quality, soft: of its masks, by label.
        tracks: masks followed from or into the view; names are those of ``maps`` and, in the other
            views, ids.
    """
    layers = [
        maps if v == changed else np.stack([level[v] for level in cache.maps])
        for v in range(len(cache.labels))
    ]
    known = [
        {} if v == changed else {int(i): int(i) for i in np.unique(m) if i}
        for v, m in enumerate(layers)
    ]
    levels = {int(i): k for k, level in enumerate(cache.maps) for m in level for i in np.unique(m)}
    result = associate(layers, world, visibility, tracks, known, levels, cache.first_new_id())
    names = result.id_of_mask[changed]
    rest = [
        (mask, each.object_id) for each in cache.objects for mask in each.masks
        if mask.view != changed
    ]  # fmt: skip
    qualities = {(mask.view, name): mask.score for mask, name in rest}
    crops = {(mask.view, name): mask.soft for mask, name in rest if mask.soft is not None}
    for old, new in ((qualities, quality or {}), (crops, soft or {})):
        old |= {(changed, names[label]): v for label, v in new.items() if label in names}
    # The old image's would answer for the new image.
    kept = tuple(() if v == changed else each for v, each in enumerate(cache.embeddings))
    fresh = scores(whole_labels(result, changed))
    all_scores = tuple(fresh if v == changed else s for v, s in enumerate(cache.scores))
    unmasked = _unmasked(result)
    for each in cache.objects:
        if each.object_id in unmasked:
            now = {changed}.intersection(unmasked[each.object_id])
            unmasked[each.object_id] = tuple(sorted(now | ({*each.unmasked} - {changed})))
    objects = describe_objects(result.maps, all_scores, qualities, crops, unmasked)
    return dataclasses.replace(cache, embeddings=kept).with_masks(result.maps, all_scores, objects)


def whole_labels(result: Association, view: int) -> list[int]:
    """Labels of a view's masks that are whole objects."""
    whole = set(result.whole_ids)
    return [label for label, name in result.id_of_mask[view].items() if name in whole]


def assemble_cache(
    result: Association,
    scores: tuple[NDArray[np.float32], ...],
    quality: Mapping[tuple[int, int], float],
    soft: Mapping[tuple[int, int], NDArray[np.uint8]],
) -> MaskCache:
    """The cache of associated masks; arguments as of ``describe_objects``."""
    return MaskCache(
        labels=result.labels,
        scores=scores,
        object_ids=result.whole_ids,
        finer=result.maps[1:],
        objects=describe_objects(result.maps, scores, quality, soft, _unmasked(result)),
    )


def _unmasked(result: Association) -> dict[int, tuple[int, ...]]:
    """By id, views that see an object and have no mask of it."""
    return {
        object_id: tuple(np.flatnonzero(states == ObjectVisibility.MISSED).tolist())
        for object_id, states in zip(result.object_ids, result.visibility, strict=True)
    }
