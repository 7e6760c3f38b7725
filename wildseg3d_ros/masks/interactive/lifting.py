"""The leaves of a view with a new image, from the other views that see its surface."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import LEVELS, MaskCache, MaskTree, WorldPointmaps
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.interactive.leaves import object_of_leaf, tree_of
from wildseg3d_ros.masks.interactive.nearest_pixels import copy_nearest


def lift_leaves(
    leaves: Sequence[NDArray[np.int32]],
    changed: int,
    world: WorldPointmaps,
    visibility: Visibility,
) -> NDArray[np.int32]:
    """(H, W) int32 leaf of each pixel of a view, -1 where no other view sees its point on one.

    Args:
        leaves: per view (H, W) leaf of each pixel, -1 = none; the view's own do not matter.
        changed: index of the view.
        world, visibility: with the new image.
    """
    pixels = np.flatnonzero(world.valid(changed))
    points = world.points[changed].reshape(-1, 3)[pixels]
    origin = np.full(len(pixels), changed, np.uint16)
    nearest = np.full(len(pixels), np.inf, np.float32)
    found = np.full(len(pixels), -1, np.int32)
    for other, of_view in enumerate(leaves):
        if other == changed:
            continue
        row, z, at = visibility.look(other, points, origin)
        measured, leaf = visibility.depth[other].ravel()[at], of_view.ravel()[at]
        gap = np.abs(measured - z)
        better = (measured > 0) & (leaf >= 0) & (gap < visibility.tolerance(other, z))
        better &= gap < nearest[row]
        nearest[row[better]], found[row[better]] = gap[better], leaf[better]
    lifted = np.full(world.valid(changed).shape, -1, np.int32)
    lifted.ravel()[pixels] = found
    return lifted


def carry_tree(
    cache: MaskCache, before: MaskCache, changed: int, lifted: NDArray[np.int32]
) -> MaskCache:
    """The cache after the image of one view was replaced, with the tree that it had.

    Known objects keep their nodes. A new whole becomes a root of its own. Pixels of the new image
    whose leaf is not of their whole object take that of the nearest pixel of the object.

    Args:
        cache: with the new image's masks, and without a tree.
        before: with the tree and the old image's masks.
        changed: index of the view.
        lifted: (H, W) leaf of each pixel of the new image, -1 = none.
    """
    tree, labels = tree_of(before), cache.labels[changed]
    known = {each.object_id for each in before.objects}
    fresh = [each for each in cache.objects if each.object_id not in known]
    fresh = [each for each in fresh if each.level == LEVELS[0]]
    alive = {each.object_id for each in cache.objects}
    kept = [each for each in before.objects if each.object_id in alive]
    of_leaf = object_of_leaf(replace(before, objects=tuple(kept)), 0)
    leaves = np.where(of_leaf[lifted] == labels, lifted, -1)
    for object_id in np.unique(labels[(labels > 0) & (leaves < 0)]).tolist():
        mine = labels == object_id
        given, missing = mine & (leaves >= 0), mine & (leaves < 0)
        if given.any():
            copy_nearest(leaves, given, missing)
        elif (of_leaf == object_id).any():
            leaves[missing] = np.argmax(of_leaf == object_id)
    for number, each in enumerate(fresh, tree.leaf_count):
        leaves[labels == each.object_id] = number
    of_views = (*tree.leaves[:changed], leaves.astype(np.int32), *tree.leaves[changed + 1 :])
    score = np.array([each.masks[0].score for each in fresh], np.float32)
    grown, number = tree.with_roots(of_views, score)
    nodes = {each.object_id: tuple(number[list(each.nodes)].tolist()) for each in kept}
    nodes |= {each.object_id: (k,) for k, each in enumerate(fresh, tree.leaf_count)}
    maps = [list(of_level) for of_level in cache.maps]
    for level in range(1, len(maps)):
        ids = object_of_leaf(replace(before, objects=tuple(kept)), level)[:-1]
        ids = np.concatenate([ids, np.zeros(len(fresh) + 1, np.int32)])
        maps[level][changed] = ids[leaves]
    return _recorded(cache, [tuple(each) for each in maps], before, nodes, grown)


def _recorded(
    cache: MaskCache,
    maps: Sequence[tuple[NDArray[np.int32], ...]],
    before: MaskCache,
    nodes: Mapping[int, tuple[int, ...]],
    tree: MaskTree,
) -> MaskCache:
    """The cache with these label maps, tree and nodes by id."""
    masks = [(each.object_id, mask) for each in cache.objects for mask in each.masks]
    said = {each.object_id: (each.score, each.ambiguity) for each in before.objects}
    described = describe_objects(
        maps,
        cache.scores,
        {(mask.view, name): mask.score for name, mask in masks},
        {(mask.view, name): mask.soft for name, mask in masks if mask.soft is not None},
        {each.object_id: each.unmasked for each in cache.objects},
    )
    nan = (math.nan, math.nan)
    objects = []
    for each in described:
        score, ambiguity = said.get(each.object_id, nan)
        objects.append(
            replace(each, nodes=nodes[each.object_id], score=score, ambiguity=ambiguity)
        )
    return cache.with_masks(maps, cache.scores, tuple(objects), tree)
