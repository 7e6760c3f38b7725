"""A mask cache after the image of one view was replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association import Association, Presence, associate
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.types import LEVELS, Alignment, MaskCache, WorldPointmaps


def replace_masks(
    cache: MaskCache,
    changed: int,
    maps: Sequence[NDArray[np.int32]],
    scores: NDArray[np.float32],
    alignment: Alignment,
    world: WorldPointmaps,
    quality: Mapping[int, float] | None = None,
    soft: Mapping[int, NDArray[np.uint8]] | None = None,
    embedding: tuple[NDArray[np.float16], ...] = (),
) -> MaskCache:
    """Assigns the new masks of one view to the objects of the others, or makes them new objects.

    The masks of the other views stay as they are, and so do their ids.

    Args:
        cache: of the views before.
        changed: index of the view.
        maps: its new label maps by level; names are its own.
        scores: its new soft scores.
        alignment, world: with the new image.
        quality, soft: of its masks, by label.
        embedding: of its image; empty when there is none, so that a prompt encodes it anew.
    """
    visibility = Visibility.create(alignment.K, alignment.world_from_cam, world)
    levels = max(len(maps), len(cache.maps))
    nothing = tuple(np.zeros_like(labels) for labels in cache.labels)
    old = [*cache.maps, *([nothing] * (levels - len(cache.maps)))]
    # Ids of other levels are taken: a new object of one level must not get one of them.
    first_id = 1 + max(
        (int(m.max(initial=0)) for level in old for v, m in enumerate(level)), default=0
    )
    results = []
    for level in range(levels):
        mine = maps[level] if level < len(maps) else np.zeros_like(maps[0])
        labels = [mine if v == changed else m for v, m in enumerate(old[level])]
        known = [
            {} if v == changed else {int(i): int(i) for i in np.unique(m) if i}
            for v, m in enumerate(labels)
        ]
        results.append(associate(labels, world, visibility, known=known, first_id=first_id))
        first_id = max(first_id - 1, *results[-1].object_ids, 0) + 1
    all_scores = tuple(scores if v == changed else s for v, s in enumerate(cache.scores))
    names: dict[int, int] = {}
    for result in results:
        names.update(result.id_of_mask[changed])
    rest = [
        (mask, each.object_id) for each in cache.objects for mask in each.masks
        if mask.view != changed
    ]  # fmt: skip
    sure = {(mask.view, name): mask.score for mask, name in rest}
    crops = {(mask.view, name): mask.soft for mask, name in rest if mask.soft is not None}
    sure |= {(changed, names[label]): value for label, value in (quality or {}).items()}
    crops |= {(changed, names[label]): value for label, value in (soft or {}).items()}
    embeddings = cache.embeddings
    if embeddings:
        # Also without a new one: the old image's would answer for the new image.
        embeddings = (*embeddings[:changed], embedding, *embeddings[changed + 1 :])
    return assemble_cache(results, all_scores, sure, crops, embeddings)


def assemble_cache(
    results: Sequence[Association],
    scores: tuple[NDArray[np.float32], ...],
    quality: Mapping[tuple[int, int], float],
    soft: Mapping[tuple[int, int], NDArray[np.uint8]],
    embeddings: tuple[tuple[NDArray[np.float16], ...], ...] = (),
) -> MaskCache:
    """The cache of associated masks.

    Args:
        results: by level.
        scores: by view.
        quality, soft: of the mask of (view, id), as of ``describe_objects``.
    """
    unmasked = {
        object_id: tuple(np.flatnonzero(presence == Presence.MISSED).tolist())
        for result in results
        for object_id, presence in zip(result.object_ids, result.presence, strict=True)
    }
    maps = tuple(result.labels for result in results)
    return MaskCache(
        labels=maps[0],
        scores=scores,
        object_ids=results[0].object_ids,
        finer=maps[1 : len(LEVELS)],
        objects=describe_objects(maps, scores, quality, soft, unmasked),
        embeddings=embeddings,
    )
