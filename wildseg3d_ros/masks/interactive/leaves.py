"""Objects as sets of leaves of the tree of masks: added, corrected, cut out of a leaf."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import (
    LEVELS,
    MaskCache,
    MaskRecord,
    MaskTree,
    ObjectRecord,
    ObjectTree,
)
from wildseg3d_ros.core.types.tree import MIN_SCORE
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.masks.sources import MIN_LEFT

DAB = 0.01
"""Share of an object that a click changes at least, where the tree has such a node."""
TAKEN = 0.15
"""Share of an object's pixels that others of a level have, up to which it is of that level."""


def with_tree(cache: MaskCache) -> MaskCache:
    """The cache with a tree: its own, or that of its label maps, and then with records."""
    if cache.tree is not None:
        return cache
    objects = ObjectTree.of_cache(cache)
    records = cache.objects or describe_objects(cache.maps, cache.scores)
    records = tuple(replace(each, nodes=objects.nodes[each.object_id]) for each in records)
    return dataclasses.replace(cache, tree=objects.tree, objects=records)


def without_tree(cache: MaskCache) -> MaskCache:
    """The cache as label maps alone, for a back end that knows no tree."""
    unsaid = {"nodes": (), "score": math.nan, "ambiguity": math.nan}
    records = tuple(replace(each, **unsaid) for each in cache.objects)
    return dataclasses.replace(cache, tree=None, objects=records)


def tree_of(cache: MaskCache) -> MaskTree:
    """The tree of a cache that has one."""
    assert cache.tree is not None
    return cache.tree


def object_of_leaf(cache: MaskCache, level: int) -> NDArray[np.int32]:
    """(L + 1,) id of the object of a level that holds each leaf, 0 = none; the last entry is that
    of -1, no leaf."""
    tree = tree_of(cache)
    ids = np.zeros(tree.leaf_count + 1, np.int32)
    for each in cache.objects:
        if each.level == LEVELS[level]:
            for first, end in tree.runs(each.nodes):
                ids[first:end] = each.object_id
    return ids


def add_leaves(cache: MaskCache, held: NDArray[np.bool_]) -> tuple[MaskCache, int]:
    """The cache with one more object, and its id.

    The object goes to the coarsest level where others keep hardly any of its pixels: beside the
    cached ones it is a whole, inside a whole it is a part, and what lacked a piece, such as a mug
    without its handle, vanishes in the whole one. What it shares with others of its level becomes
    its own, because somebody asked for it.

    Args:
        cache: with a tree.
        held: (L,) bool, the object's leaves.
    """
    area = tree_of(cache).leaf_areas
    size, taken = int(area[held].sum()), []
    for level in range(len(LEVELS)):
        ids = object_of_leaf(cache, level)[:-1]
        every, mine = np.bincount(ids, area), np.bincount(ids[held], area[held], ids.max() + 1)
        kept = (mine < (1.0 - TAKEN) * every) | (every >= size)
        taken.append(float(mine[1:][kept[1:]].sum()) / max(1, size))
    level = next((k for k, share in enumerate(taken) if share < TAKEN), int(np.argmin(taken)))
    object_id = cache.first_new_id()
    return set_leaves(cache, level, object_id, held), object_id


def set_leaves(cache: MaskCache, level: int, object_id: int, held: NDArray[np.bool_]) -> MaskCache:
    """The cache with an object, new or known, of exactly these leaves.

    What it takes is no longer other objects' of the level, of which those that have nothing left
    vanish; what it gives up is nobody's. All that changed is scored anew, by what the tree says of
    it. Arguments as of :func:`add_leaves`.
    """
    tree = tree_of(cache)
    before = object_of_leaf(cache, level)
    after = np.where(np.append(held, False), object_id, np.where(before == object_id, 0, before))
    after = after.astype(np.int32)
    changed = before != after
    maps = [list(of_level) for of_level in cache.maps]
    while len(maps) <= level:
        maps.append([np.zeros_like(labels) for labels in cache.labels])
    for view, leaves in enumerate(tree.leaves):
        where = changed[leaves]
        if where.any():
            maps[level][view] = np.where(where, after[leaves], maps[level][view])
    touched = {object_id, *before[changed].tolist(), *after[changed].tolist()} - {0}
    records = {each.object_id: each for each in cache.objects}
    for name in touched:
        leaves = after[:-1] == name
        nodes, known = tree.cover(leaves), records.pop(name, None)
        masks = _mask_records(maps[level], name, known)
        if nodes and masks:
            parent = known.parent if known else 0
            unmasked = tuple(
                view
                for view in (known.unmasked if known else ())
                if view not in {mask.view for mask in masks}
            )
            said = tree.certainty(leaves)
            records[name] = ObjectRecord(
                name, LEVELS[level], parent, masks, unmasked, nodes, *said
            )
    scores = tuple(
        np.maximum(old, (labels == object_id).astype(np.float32))
        for old, labels in zip(cache.scores, maps[level], strict=True)
    )
    objects = tuple(records[name] for name in sorted(records))
    made = cache.with_masks([tuple(each) for each in maps], scores, objects, tree)
    return _with_parents(made, touched)


def _mask_records(
    maps: Sequence[NDArray[np.int32]], name: int, known: ObjectRecord | None
) -> tuple[MaskRecord, ...]:
    """Records of the masks of an object in the label maps of its level; masks that did not change
    keep theirs."""
    before = {mask.view: mask for mask in known.masks} if known else {}
    records = []
    for view, labels in enumerate(maps):
        mask = labels == name
        rows = np.flatnonzero(mask.any(axis=1))
        if not len(rows):
            continue
        columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
        area = int(np.count_nonzero(mask))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
        old = before.get(view)
        if old and (old.area, old.box) == (area, box):
            records.append(old)
        else:
            records.append(MaskRecord(view, area, box, 1.0))
    return tuple(records)


def _with_parents(cache: MaskCache, touched: Collection[int]) -> MaskCache:
    """The cache with the parents of the objects that changed, of those below these, and of those
    that have none: the object above that has most of the pixels, if that is more than half."""
    area = tree_of(cache).leaf_areas
    of_level = [object_of_leaf(cache, level)[:-1] for level in range(len(cache.maps))]
    records = []
    for each in cache.objects:
        level = LEVELS.index(each.level)
        if level and (each.object_id in touched or each.parent in {0, *touched}):
            mine = of_level[level] == each.object_id
            above, place = np.unique(of_level[level - 1][mine], return_inverse=True)
            pixels = np.bincount(place, area[mine], len(above))
            best = int(pixels.argmax())
            most = 2 * pixels[best] > area[mine].sum()
            each = replace(each, parent=int(above[best]) if most else 0)
        records.append(each)
    return dataclasses.replace(cache, objects=tuple(records))


def refined_leaves(
    cache: MaskCache, object_id: int, on: Collection[int], off: Collection[int]
) -> NDArray[np.bool_]:
    """(L,) bool, the leaves of an object after clicks that correct it.

    A positive click off the object adds the object of its level that is there, which is then part
    of this one, or the best node that has nothing of any object and no negative click. A negative
    click on the object takes away the best node in the object that has no positive click and
    leaves a tenth of the object or more. Best is as of :func:`_best_change`.

    Args:
        cache: with a tree.
        on, off: leaves of the positive and negative clicks; none of them is in both.

    Raises:
        PromptError: next to nothing would be left of the object (CONTRADICTING_CLICKS).
    """
    tree, record = tree_of(cache), cache.record(object_id)
    ids = object_of_leaf(cache, LEVELS.index(record.level))[:-1]
    held = tree.leaves_of(record.nodes)
    area = tree.leaf_areas
    for leaf in on:
        if held[leaf]:
            continue
        if ids[leaf]:
            held |= ids == ids[leaf]
            continue
        free = ~held & (ids == 0)
        free[list(off)] = False
        node = _best_change(tree, leaf, held, free)
        held[tree.start[node] : tree.stop[node]] = True
    whole = held.copy()
    for leaf in off:
        if not held[leaf]:
            continue
        loose = whole.copy()
        loose[list(on)] = False
        most = (1.0 - MIN_LEFT) * float(area[whole].sum())
        node = _best_change(tree, leaf, whole, loose, most)
        if node >= 0:
            held[tree.start[node] : tree.stop[node]] = False
        if node < 0 or area[held].sum() < MIN_LEFT * area[whole].sum():
            raise PromptError(
                f"what is at the negative clicks is the whole of object {object_id}: less than "
                f"{MIN_LEFT:.0%} of it would be left. Add a positive click on what is to stay",
                ErrorCode.CONTRADICTING_CLICKS,
            )
    return held


def _best_change(
    tree: MaskTree,
    leaf: int,
    held: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    most: float = math.inf,
) -> int:
    """The node at a leaf that is best taken away from a set of leaves (L,) which has the leaf, or
    added to one that has not; -1 = none.

    The best one leaves the greatest value: size times score of the set, and of the node, where
    that is apart from it. So another thing comes or goes as a whole, the rest of the same thing
    comes to what it is of, and what is of one thing, or background, comes or goes by a dab.

    Args:
        allowed: (L,) leaves that may change.
        most: pixels of the node.
    """
    area = tree.leaf_areas
    size, both, whole = tree.sums(area), tree.sums(area * held), int(area[held].sum())
    sign = -1 if held[leaf] else 1
    score = tree.score.astype(np.float64)

    def value_of_set(shared: NDArray[np.int64], total: int) -> float:
        return float((score * shared / np.maximum(size + total - shared, 1)).max()) * total

    before = value_of_set(both, whole)
    best, value, thing = -1, -1.0, MIN_SCORE
    for node in tree.path(leaf):
        first, end = tree.start[node], tree.stop[node]
        if not allowed[first:end].all() or size[node] > most:
            break
        below = (tree.start >= first) & (tree.stop <= end)
        above = (tree.start <= first) & (tree.stop >= end)
        change = sign * np.where(below, size, np.where(above, size[node], 0))
        changed = value_of_set(both + change, whole + sign * int(size[node]))
        # A node is a thing by itself where none below it on the way is a better one.
        own = float(size[node] * score[node]) if score[node] >= thing else 0.0
        thing = max(thing, score[node])
        found = changed + own if sign < 0 else max(changed, before + own)
        if size[node] <= DAB * whole or found > value * (1.0 + 1e-6):
            best, value = node, found
    return best
