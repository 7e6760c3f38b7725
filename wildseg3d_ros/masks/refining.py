"""Correcting a cached object by clicks: what is missing is added, what does not belong is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import ErrorCode, PromptError
from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.prompted import Hints, MaskSource, find_object, replace_masks
from wildseg3d_ros.types import MaskCache, WorldPointmaps

_APART = 0.3
"""Least distance of an anchor from a click, in square roots of the object's area."""


@dataclass(frozen=True)
class LocatedClick:
    """A click in whole pixels: index of the view, row, column, and whether it is on the object."""

    view: int
    row: int
    column: int
    on: bool

    @property
    def uv(self) -> tuple[float, float]:
        """Column and row."""
        return float(self.column), float(self.row)


def refine_masks(
    cache: MaskCache,
    object_id: int,
    clicks: Sequence[LocatedClick],
    source: MaskSource,
    world: WorldPointmaps,
    visibility: Visibility,
    names: Sequence[str],
) -> tuple[MaskCache, bool]:
    """The cache with one object corrected; it keeps its id and its level.

    A positive click off the object adds the object of its level that is cached there, which is
    then part of this one, or, on what is no object, what the source finds there. A negative click
    on the object takes the finer part away that is cached there, or what the source finds there
    without the rest of the object.

    Args:
        cache: that has the object.
        object_id: of any level.
        clicks: at least one.
        source: proposes masks where the cache has none.
        world, visibility, names: of all views.

    Returns:
        The cache, and whether the source had to be asked.

    Raises:
        PromptError: a click that finds nothing, clicks that contradict one another, or nothing
            that is left of the object.
    """
    level = _level_of(cache, object_id)
    masks = [labels == object_id for labels in cache.maps[level]]

    def on_object(click: LocatedClick) -> bool:
        return bool(masks[click.view][click.row, click.column])

    added = [mask.copy() for mask in masks]
    unknown = []
    for click in clicks:
        if click.on and not on_object(click):
            label = int(cache.maps[level][click.view][click.row, click.column])
            if label:
                for mask, labels in zip(added, cache.maps[level], strict=True):
                    mask |= labels == label
            else:
                unknown.append(click)
    if unknown:
        hints = _hints(unknown, [click for click in clicks if not click.on])
        found, _ = find_object(source, hints, world, visibility, names)
        _unite(added, found)
    asked = bool(unknown)
    cut = [np.zeros(mask.shape, np.bool_) for mask in masks]
    for click in clicks:
        if not click.on and added[click.view][click.row, click.column]:
            part = _part_at(cache, level, click, clicks)
            if part:
                for mask, labels in zip(cut, _map_of(cache, part), strict=True):
                    mask |= labels == part
                continue
            kept = [other for other in clicks if other.on and other.view == click.view]
            kept = kept or _anchors(added[click.view], click)
            asked = True
            found, _ = find_object(source, _hints([click], kept), world, visibility, names)
            _unite(cut, found)
    result = [mask & ~gone for mask, gone in zip(added, cut, strict=True)]
    if not any(mask.any() for mask in result):
        raise PromptError(
            f"the negative clicks take all of object {object_id} away; add a positive click on "
            "what is to stay",
            ErrorCode.CONTRADICTING_CLICKS,
        )
    for click in clicks:
        if bool(result[click.view][click.row, click.column]) != click.on:
            wanted, other = ("on", "off") if click.on else ("off", "on")
            raise PromptError(
                f"camera '{names[click.view]}' pixel {click.uv} is to be {wanted} object "
                f"{object_id}, but the other clicks leave it {other}; give fewer or other clicks",
                ErrorCode.CONTRADICTING_CLICKS,
            )
    return replace_masks(cache, level, object_id, result), asked


def _hints(on: Sequence[LocatedClick], off: Sequence[LocatedClick]) -> dict[int, Hints]:
    """By view, of the views that have something on the object."""
    hints = {}
    for view in sorted({click.view for click in on}):
        ons = [click.uv for click in on if click.view == view]
        offs = [click.uv for click in off if click.view == view]
        flags = np.array([True] * len(ons) + [False] * len(offs))
        hints[view] = Hints(np.array(ons + offs, np.float64), flags)
    return hints


def _unite(masks: list[NDArray[np.bool_]], soft: Sequence[NDArray[np.float32] | None]) -> None:
    for mask, found in zip(masks, soft, strict=True):
        if found is not None:
            mask |= found > 0.5


def _part_at(
    cache: MaskCache, level: int, click: LocatedClick, clicks: Sequence[LocatedClick]
) -> int:
    """The coarsest finer object at a negative click that holds no positive one; 0 = none."""
    for maps in cache.maps[level + 1 :]:
        part = int(maps[click.view][click.row, click.column])
        held = any(other.on and maps[other.view][other.row, other.column] == part
                   for other in clicks)  # fmt: skip
        if part and not held:
            return part
    return 0


def _anchors(mask: NDArray[np.bool_], click: LocatedClick) -> list[LocatedClick]:
    """A pixel deep inside a mask and away from a click, to stay on the object; none if it is so
    small that there is no such pixel."""
    depth = np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)).copy()
    v, u = np.mgrid[: mask.shape[0], : mask.shape[1]]
    near = np.hypot(v - click.row, u - click.column) < _APART * np.sqrt(float(mask.sum()))
    depth[near] = 0
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    if not depth[row, column]:
        return []
    return [LocatedClick(click.view, int(row), int(column), on=True)]


def _level_of(cache: MaskCache, object_id: int) -> int:
    for level, maps in enumerate(cache.maps):
        if any((labels == object_id).any() for labels in maps):
            return level
    raise KeyError(f"no object {object_id}")


def _map_of(cache: MaskCache, object_id: int) -> Sequence[NDArray[np.int32]]:
    return cache.maps[_level_of(cache, object_id)]
