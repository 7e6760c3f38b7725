"""Pixels that no object has, because they are no part of the scene: the robot's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import MaskCache, View
from wildseg3d_ros.masks.cache import describe_objects


def without_ignored(cache: MaskCache, views: Sequence[View]) -> MaskCache:
    """The cache without masks at the views' ignored pixels; objects that lie there alone go."""
    if all(view.ignored is None for view in views):
        return cache

    def blank(maps: Sequence[NDArray], value: float) -> tuple[NDArray, ...]:
        return tuple(
            each if view.ignored is None else np.where(view.ignored, each.dtype.type(value), each)
            for view, each in zip(views, maps, strict=True)
        )

    maps = [blank(of_level, 0) for of_level in cache.maps]
    scores = blank(cache.scores, 0.0)
    tree = cache.tree
    if tree is not None:
        tree = dataclasses.replace(tree, leaves=blank(tree.leaves, -1))
    if not cache.objects:
        shown = {int(i) for labels in maps[0] for i in np.unique(labels)}
        ids = tuple(i for i in cache.object_ids if i in shown)
        finer = tuple(maps[1:])
        return dataclasses.replace(
            cache, labels=maps[0], finer=finer, scores=scores, object_ids=ids, tree=tree
        )
    masks = [(each.object_id, mask) for each in cache.objects for mask in each.masks]
    described = describe_objects(
        maps,
        scores,
        {(mask.view, name): mask.score for name, mask in masks},
        {(mask.view, name): mask.soft for name, mask in masks if mask.soft is not None},
        {each.object_id: each.unmasked for each in cache.objects},
    )
    before = {each.object_id: each for each in cache.objects}
    objects = tuple(
        dataclasses.replace(
            each,
            nodes=before[each.object_id].nodes,
            score=before[each.object_id].score,
            ambiguity=before[each.object_id].ambiguity,
        )
        for each in described
    )
    return cache.with_masks(maps, scores, objects, tree)
