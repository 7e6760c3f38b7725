"""Whether the parts of a mask cache are what they must be and fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types.masks import (
    BACKGROUND,
    HIGHEST_ID,
    LEVELS,
    Level,
    MaskCache,
    MaskRecord,
    ObjectRecord,
)
from wildseg3d_ros.scene.file.checks import (
    check_array,
    check_finite,
    check_integer,
    check_range,
    check_text,
    check_tuple,
    expect,
)
from wildseg3d_ros.scene.file.tree_checks import PixelsById, check_tree


def check_masks(cache: MaskCache) -> None:
    """Checks that the parts are what they must be and fit each other.

    Raises:
        InvalidScene: names the part, what was expected and what it is.
    """
    views = len(check_tuple(cache.labels, "label maps of whole objects"))
    check_tuple(cache.finer, "finer label maps")
    expect(len(cache.finer) < len(LEVELS), "levels", f"at most {len(LEVELS)}", len(cache.maps))
    for level, maps in zip(LEVELS, cache.maps, strict=False):
        for view, labels in enumerate(check_tuple(maps, f"label maps of {level}s", views)):
            size = cache.labels[view].shape if level != LEVELS[0] else (None, None)
            check_array(labels, _map_name(level, view), np.int32, size)
    for view, scores in enumerate(check_tuple(cache.scores, "soft scores", views)):
        what = f"soft scores of view {view}"
        check_array(scores, what, np.float32, cache.labels[view].shape)
        check_range(scores, what, 0.0, 1.0)
    check_integer(cache.next_id, "next_id", 1, HIGHEST_ID + 1)
    check_text(cache.encoder, "encoder")
    if cache.origin is not None:
        for name in ("backend", "weights"):
            check_text(getattr(cache.origin, name), f"{name} of the masks' origin")
    ids = _checked_ids(cache)
    pixels = [
        [_checked_pixels(labels, ids[level], _map_name(level, v)) for v, labels in enumerate(m)]
        for level, m in zip(LEVELS, cache.maps, strict=False)
    ]
    shown: dict[int, list[int]] = {}
    for of_level in pixels:
        for view, of_view in enumerate(of_level):
            for object_id in of_view:
                shown.setdefault(object_id, []).append(view)
    for each in cache.objects:
        of_level = pixels[LEVELS.index(each.level)]
        _check_record(cache, each, of_level, shown.get(each.object_id, []))
    for view, parts in enumerate(check_tuple(cache.embeddings, "embeddings")):
        expect(len(cache.embeddings) == views, "embeddings", f"{views} or none", view + 1)
        for k, part in enumerate(check_tuple(parts, f"embedding of view {view}")):
            what = f"embedding of view {view}, level {k}"
            check_array(part, what, np.float16, [None] * np.ndim(part))
            check_finite(part, what)
    check_tree(cache, pixels)


def _checked_ids(cache: MaskCache) -> dict[Level, list[int]]:
    """Sorted ids of each level; raises InvalidScene unless they are unique and known."""
    of_level: dict[Level, list[int]] = {level: [] for level in LEVELS}
    last = 0
    for each in check_tuple(cache.objects, "objects"):
        number = check_integer(each.object_id, "id of an object", 1, HIGHEST_ID)
        expect(number > last, "ids of objects", "each once, sorted", f"{number} after {last}")
        last, known = number, LEVELS[: len(cache.maps)]
        what = f"level of object {number}"
        expect(each.level in known, what, f"one of {', '.join(known)}", each.level)
        of_level[each.level].append(number)
    levels = {i: LEVELS.index(level) for level, ids in of_level.items() for i in ids}
    for each in cache.objects:
        above = -1 if each.parent == 0 else levels.get(each.parent, len(LEVELS))
        expected = f"0 or an object of a level above '{each.level}'"
        fits = above < LEVELS.index(each.level)
        expect(fits, f"parent of object {each.object_id}", expected, each.parent)
    whole = [check_integer(i, "id of a whole object", 1, HIGHEST_ID)
             for i in check_tuple(cache.object_ids, "ids of whole objects")]  # fmt: skip
    expect(whole == sorted(set(whole)), "ids of whole objects", "each once, sorted", whole)
    unknown = sorted(set(of_level[LEVELS[0]]) - set(whole))
    expect(not unknown, "ids of whole objects", f"object {unknown} among them", whole)
    if not cache.objects:
        of_level[LEVELS[0]] = whole
    return of_level


def _check_record(
    cache: MaskCache, each: ObjectRecord, pixels: Sequence[PixelsById], shown: Sequence[int]
) -> None:
    """Checks an object's record against its level's maps, of which the pixels are given, and the
    views in which it has some."""
    who, maps = f"object {each.object_id}", cache.maps[LEVELS.index(each.level)]
    masks = check_tuple(each.masks, f"masks of {who}")
    views = [check_integer(m.view, f"view of {who}", 0, len(maps) - 1) for m in masks]
    expect(views == list(shown), f"views with a mask of {who}", str(shown), views)
    what = f"views without a mask of {who}"
    unmasked = [check_integer(v, what, 0, len(maps) - 1) for v in check_tuple(each.unmasked, what)]
    expect(set(unmasked).isdisjoint(views), what, f"none of {views}", unmasked)
    for name in ("score", "ambiguity"):
        value = getattr(each, name)
        fits = isinstance(value, Real) and not (float(value) < 0.0 or float(value) > 1.0)
        expect(fits, f"{name} of {who}", "a number from 0 to 1, or not a number", value)
    for mask in masks:
        what = f"mask of {who} in view {mask.view}"
        mine = pixels[mask.view][each.object_id]
        in_map = f"{len(mine)} pixels as in its label map"
        expect(mask.area == len(mine), f"area of the {what}", in_map, mask.area)
        _check_box(mask, maps[mask.view].shape, mine, f"box of the {what}")
        fits = isinstance(mask.score, Real) and 0.0 <= float(mask.score) <= 1.0
        expect(fits, f"score of the {what}", "a number from 0 to 1", mask.score)
        if mask.soft is not None:
            size = (mask.box[3] - mask.box[1] + 1, mask.box[2] - mask.box[0] + 1)
            check_array(mask.soft, f"soft scores of the {what}", np.uint8, size)


def _map_name(level: Level, view: int) -> str:
    return f"label map of {level}s in view {view}"


def _checked_pixels(labels: NDArray[np.int32], ids: Sequence[int], what: str) -> PixelsById:
    """Flat indices of the pixels of each id that a label map has, sorted; raises InvalidScene for
    an id that nobody knows."""
    known = np.array([BACKGROUND, *ids], np.int32)
    place = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    strange = known[place] != labels
    if strange.any():
        got = f"{labels[strange].flat[0]} on {np.count_nonzero(strange)} pixels"
        expect(False, what, "0 and ids of recorded objects of that level", got)
    # Numbers of 16 bits are sorted in linear time.
    small = np.uint16 if len(known) <= 2**16 else np.int32
    order = np.argsort(place.ravel().astype(small), kind="stable")
    ends = np.cumsum(np.bincount(place.ravel(), minlength=len(known)))
    groups = np.split(order, ends[:-1])
    return {i: group for i, group in zip(known.tolist(), groups, strict=True) if i and len(group)}


def _check_box(
    mask: MaskRecord, size: tuple[int, ...], pixels: NDArray[np.int64], what: str
) -> None:
    box = check_tuple(mask.box, what, 4)
    for value, length in zip(box, 2 * size[::-1], strict=True):
        check_integer(value, what, 0, length - 1)
    v, u = np.divmod(pixels, size[1])
    true = (int(u.min()), int(v[0]), int(u.max()), int(v[-1]))
    fits = true == tuple(box)
    expect(fits, what, f"{true}, the first and last column and row of its pixels", box)
