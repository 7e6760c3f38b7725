"""Masks for prompts without a network: regions that grow over the fused surface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import ViewPrompts, WorldPointmaps
from wildseg3d_ros.masks.interactive.regions import (
    MIN_FILL,
    NO_BORDER,
    Region,
    fills_box,
    regions_about,
    regions_in_box,
)
from wildseg3d_ros.masks.interactive.seeds import Seeds
from wildseg3d_ros.masks.sources import (
    MIN_HITS,
    Proposals,
    SoftMask,
    box_window,
    satisfies,
)
from wildseg3d_ros.masks.surface.drawing import draw_labels
from wildseg3d_ros.masks.surface.fused import Surface, fuse_surface
from wildseg3d_ros.masks.surface.observations import observe_views

_SURFACES: WeakKeyDictionary[
    WorldPointmaps, tuple[tuple[NDArray[np.uint8], ...], Surface | None]
] = WeakKeyDictionary()
"""Of each scene that still answers, its images and surface: fusing is nearly all of an answer."""


class RegionGrowing:
    """Regions of the fused surface that end at supports, concave creases and edges of colour.

    Args:
        images: per view (H, W, 3) uint8 RGB.
        world: points of their pixels.
        K: (N, 3, 3) intrinsics [px].
        world_from_cam: (N, 4, 4) poses.
        metric: whether the scene's unit is the metre.
    """

    note = "found by growing a region over the pointmap, not by the mask back end: approximate"

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        world: WorldPointmaps,
        K: NDArray[np.float64],
        world_from_cam: NDArray[np.float64],
        metric: bool,
    ) -> None:
        self._images, self._world, self._metric = images, world, metric
        self._K, self._world_from_cam = K, world_from_cam
        self._seeds: dict[int, Seeds] = {}
        self._answers: list[tuple[int, NDArray[np.bool_], Region]] = []

    def propose(self, view: int, prompts: ViewPrompts) -> Proposals:
        """Regions about the positive points that exclude the negative ones, the likeliest first.

        The last one is the first that satisfies the prompts, if any does.

        Raises:
            PromptError: no point was measured at a point (NO_DEPTH_AT_PIXEL), no edge parts the
                points on and off the object (CONTRADICTING_CLICKS), or there is
                background (NO_OBJECT_AT_PIXEL).
        """
        seeds = self._seeds_of(view)
        soft, quality, halved = [], [], False
        for region in self._regions(seeds, prompts):
            if region.border > NO_BORDER:
                halved = True
                continue
            mask = self._drawn(seeds, region, prompts)
            # Part of a support is taken for a thing while it is small in the view.
            if region.of_support and (mask > 0.5).mean() > 0.25:
                continue
            if prompts.box is not None and not fills_box(mask > 0.5, box_window(prompts.box)):
                continue
            soft.append(mask)
            quality.append(region.quality)
            if satisfies(mask > 0.5, prompts):
                self._answers.append((view, mask > 0.5, region))
                break
        if not soft:
            no_box = halved and prompts.box is None
            raise _contradiction(prompts) if no_box else _background(prompts)
        return np.stack(soft), np.array(quality, np.float32)

    def elsewhere(self, view: int, known: Mapping[int, NDArray[np.bool_]]) -> SoftMask | None:
        """The region that masks of other views show, drawn into a view."""
        regions = [
            region
            for other, mask, region in self._answers
            if other in known and np.array_equal(mask, known[other])
        ] or self._regions_of(known)
        if not regions:
            return None
        voxels = np.any([region.voxels for region in regions], axis=0)
        quality = min(region.quality for region in regions)
        soft = self._drawn(self._seeds_of(view), Region(voxels, quality), None)
        return (soft, quality) if np.count_nonzero(soft > 0.5) >= MIN_HITS else None

    def _regions_of(self, known: Mapping[int, NDArray[np.bool_]]) -> list[Region]:
        """The likeliest region that masks of any origin show; none without depth."""
        if self._surface is None:
            return []
        inside, shown = np.zeros((2, len(self._surface.patches)), np.int64)
        for view, mask in known.items():
            patches = self._seeds_of(view).patches
            height, width = patches.shape
            small = cv2.resize(mask.astype(np.uint8), (width, height)) > 0
            inside += np.bincount(patches[small & (patches >= 0)], minlength=len(inside))
            shown += np.bincount(patches[patches >= 0], minlength=len(shown))
        on = np.flatnonzero(2 * inside > shown)
        off = np.flatnonzero((2 * inside <= shown) & (shown > 0))
        return [*islice(regions_about(self._surface, on, off), 1)] if len(on) else []

    def _regions(self, seeds: Seeds, prompts: ViewPrompts) -> Iterable[Region]:
        """What the prompts of all views may mean, the likeliest first."""
        on, off = _patches(seeds, prompts)
        for view, others in prompts.elsewhere.items():
            there = self._seeds_of(view)
            # A point without depth there is an error when that view itself is asked.
            found = np.array([there.shows(u, v) for u, v in others.points], np.bool_)
            known = ViewPrompts(others.points[found], others.on[found])
            more_on, more_off = _patches(there, known)
            on, off = np.union1d(on, more_on), np.union1d(off, more_off)
        if len(np.intersect1d(on, off)):
            raise _contradiction(prompts)
        if len(on):
            return regions_about(seeds.surface, on, off)
        assert prompts.box is not None
        stride = seeds.surface.observations[seeds.view].stride
        box = box_window([x / stride for x in prompts.box])
        return regions_in_box(seeds.surface, seeds.patches, box, off)

    def _drawn(
        self, seeds: Seeds, region: Region, prompts: ViewPrompts | None
    ) -> NDArray[np.float32]:
        """(H, W) soft score of a region in a view.

        Its outline is that of the image, but the surface's where the prompts contradict that one.
        """
        image, observation = self._images[seeds.view], seeds.surface.observations[seeds.view]
        labels = region.voxels.astype(np.int32)
        label, score = draw_labels(image, observation, seeds.voxels, labels)
        soft = np.where(label > 0, np.maximum(score, 0.51), np.minimum(score, 0.49))
        if prompts is not None and not satisfies(soft > 0.5, prompts):
            plain = ((seeds.voxels >= 0) & region.voxels[seeds.voxels]).astype(np.float32)
            size = image.shape[1], image.shape[0]
            plain = cv2.resize(plain, size, interpolation=cv2.INTER_NEAREST)
            soft = plain if satisfies(plain > 0.5, prompts) else soft
        return np.asarray(soft, np.float32)

    def _seeds_of(self, view: int) -> Seeds:
        if view not in self._seeds:
            if self._surface is None:
                raise PromptError(
                    "no depth was measured in any view, so no region can grow; use a mask "
                    "back end that takes prompts",
                    ErrorCode.NO_DEPTH_AT_PIXEL,
                )
            self._seeds[view] = Seeds.of_view(self._surface, view)
        return self._seeds[view]

    @cached_property
    def _surface(self) -> Surface | None:
        kept = _SURFACES.get(self._world)
        if kept and all(a is b for a, b in zip(kept[0], self._images, strict=True)):
            return kept[1]
        observations = observe_views(self._images, self._world, self._K, self._world_from_cam)
        surface = fuse_surface(observations, 0.0, self._metric)
        _SURFACES[self._world] = tuple(self._images), surface
        return surface


def _patches(seeds: Seeds, prompts: ViewPrompts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The patches at the points on the object, and at those off it."""
    at = np.array([seeds.patch_at(u, v) for u, v in prompts.points], np.intp)
    return np.unique(at[prompts.on]), np.unique(at[~prompts.on])


def _contradiction(prompts: ViewPrompts) -> PromptError:
    """Names the points on and off the object that are closest to each other."""
    on, off = prompts.points[prompts.on], prompts.points[~prompts.on]
    if len(on) and len(off):
        distance = np.linalg.norm(on[:, None] - off, axis=2)
        i, j = np.unravel_index(int(distance.argmin()), distance.shape)
        which = "pixel ({:g}, {:g}) is to be on the object and ({:g}, {:g}) off it".format(
            *on[i], *off[j]
        )
    else:
        which = "what is to be on the object is what is to be off it"
    return PromptError(
        f"{which}, but no edge of shape or colour parts them: they are on one surface, so they "
        "contradict each other; leave one of them out, move them to both sides of an edge, or use "
        "a mask back end that takes prompts",
        ErrorCode.CONTRADICTING_CLICKS,
    )


def _background(prompts: ViewPrompts) -> PromptError:
    why, remedy = "what is there goes on as far as a table or a wall does", "click on a thing"
    if prompts.box is not None:
        why = (
            "nothing in the box stands out from what is about it: no region of the pointmap "
            f"fills {MIN_FILL:.0%} of the box and ends there"
        )
        remedy = "draw the box close about a thing"
    return PromptError(
        f"{why}, so there seems to be background; {remedy}, or use a mask back end that takes "
        "prompts",
        ErrorCode.NO_OBJECT_AT_PIXEL,
    )
