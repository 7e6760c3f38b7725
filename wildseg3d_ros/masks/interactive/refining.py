"""Correcting a cached object by clicks: what is missing is added, what does not belong is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import MaskCache, ViewPrompts, WorldPointmaps
from wildseg3d_ros.masks.interactive.adding import replace_object_masks
from wildseg3d_ros.masks.interactive.finding import find_object
from wildseg3d_ros.masks.sources import MIN_LEFT, LocatedClick, MaskSource


def refine_masks(
    cache: MaskCache,
    object_id: int,
    clicks: Sequence[LocatedClick],
    source: MaskSource,
    world: WorldPointmaps,
    visibility: Visibility,
    names: Sequence[str],
) -> MaskCache:
    """The cache with one object corrected; it keeps its id and its level.

    A positive click off the object adds the object of its level that is cached there, which is
    then part of this one, or, on what is no object, what the source finds there. A negative click
    on the object takes the finer part away that is cached there, or what the source finds there
    without what the positive clicks are on. Only the clicks that are given count: a later call
    wins over an earlier one. An object is corrected, never taken away.

    Args:
        object_id: of any level.
        clicks: at least one; no pixel of them is both on and off.
        source: proposes masks where the cache has none.
        names: of all views.

    Raises:
        PromptError: a click that finds nothing, clicks that contradict one another, or next to
            nothing that is left of the object.
    """
    off = [click for click in clicks if not click.on]
    level = _level_of(cache, object_id)
    masks = [labels == object_id for labels in cache.maps[level]]

    def find(prompts: Mapping[int, ViewPrompts]) -> list[NDArray[np.bool_] | None]:
        found, _ = find_object(source, prompts, world, visibility, names)
        return [None if soft is None else soft > 0.5 for soft in found]

    added = [mask.copy() for mask in masks]
    unknown = _take_cached(cache.maps[level], clicks, masks, added)
    if unknown:
        _unite(added, find(_prompts(unknown, off)))
    cut = [np.zeros(mask.shape, np.bool_) for mask in masks]
    for click in off:
        if not click.at(added):
            continue
        part = _part_at(cache, level, click, clicks)
        if part is None:
            prompts = _prompts([click], _kept(click.view, clicks, world, visibility))
            # A network's most confident answer to one click may be the whole object.
            prompts[click.view] = replace(prompts[click.view], spared=added[click.view])
            part = find(prompts)
        _unite(cut, part)
    result = [mask & ~gone for mask, gone in zip(added, cut, strict=True)]
    area, whole = (sum(map(np.count_nonzero, each)) for each in (result, added))
    if area < MIN_LEFT * whole:
        raise PromptError(
            f"what is at the negative clicks is the whole of object {object_id}: less than "
            f"{MIN_LEFT:.0%} of it would be left. Add a positive click on what is to stay",
            ErrorCode.CONTRADICTING_CLICKS,
        )
    check_satisfied(result, object_id, clicks, names)
    return replace_object_masks(cache, level, object_id, result)


def check_satisfied(
    masks: Sequence[NDArray[np.bool_]],
    object_id: int,
    clicks: Sequence[LocatedClick],
    names: Sequence[str],
) -> None:
    """Raises PromptError unless masks (H, W) by view have the pixels of all clicks on the object,
    and none off it."""
    for click in clicks:
        if click.at(masks) != click.on:
            wanted, other = ("on", "off") if click.on else ("off", "on")
            raise PromptError(
                f"camera '{names[click.view]}' pixel {click.uv} is to be {wanted} object "
                f"{object_id}, but the other clicks leave it {other}; give fewer or other clicks",
                ErrorCode.CONTRADICTING_CLICKS,
            )


def _prompts(on: Sequence[LocatedClick], off: Sequence[LocatedClick]) -> dict[int, ViewPrompts]:
    """What is sought, by view."""
    prompts = {}
    for view in sorted({click.view for click in [*on, *off]}):
        ons, offs = ([c.uv for c in clicks if c.view == view] for clicks in (on, off))
        flags = np.arange(len(ons) + len(offs)) < len(ons)
        prompts[view] = ViewPrompts(np.array(ons + offs, np.float64), flags)
    return prompts


def _unite(masks: Sequence[NDArray[np.bool_]], others: Sequence[NDArray[np.bool_] | None]) -> None:
    """Adds the others' pixels to the masks, view by view."""
    for mask, other in zip(masks, others, strict=True):
        if other is not None:
            mask |= other


def _part_at(
    cache: MaskCache, level: int, click: LocatedClick, clicks: Sequence[LocatedClick]
) -> list[NDArray[np.bool_] | None] | None:
    """The masks of the coarsest finer object at a negative click and at no positive one."""
    for maps in cache.maps[level + 1 :]:
        part = click.at(maps)
        if part and not any(other.on and other.at(maps) == part for other in clicks):
            return [labels == part for labels in maps]
    return None


def _kept(
    view: int, clicks: Sequence[LocatedClick], world: WorldPointmaps, visibility: Visibility
) -> list[LocatedClick]:
    """The positive clicks, those of other views once more as clicks in a view that shows them."""
    kept = [click for click in clicks if click.on]
    for click in kept[:]:
        if click.view == view or not world.valid(click.view)[click.row, click.column]:
            continue
        point = world.points[click.view][click.row, click.column][None]
        pixel = visibility.pixels_of(view, point, np.array([click.view], np.uint16))
        for flat in pixel.tolist():
            row, column = divmod(flat, visibility.depth[view].shape[1])
            kept.append(LocatedClick(view, row, column, on=True))
    return kept


def _take_cached(
    maps: Sequence[NDArray[np.int32]],
    clicks: Sequence[LocatedClick],
    masks: Sequence[NDArray[np.bool_]],
    added: Sequence[NDArray[np.bool_]],
) -> list[LocatedClick]:
    """Adds the cached objects of a level at the positive clicks off the object's ``masks``;
    returns the clicks that are on no object."""
    unknown = []
    for click in clicks:
        if not click.on or click.at(masks):
            continue
        if click.at(maps):
            _unite(added, [labels == click.at(maps) for labels in maps])
        else:
            unknown.append(click)
    return unknown


def _level_of(cache: MaskCache, object_id: int) -> int:
    for level, maps in enumerate(cache.maps):
        if any((labels == object_id).any() for labels in maps):
            return level
    raise KeyError(f"no object {object_id}")
