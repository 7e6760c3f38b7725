"""Masks for prompts without a network: regions that grow over the fused surface from the clicks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import ErrorCode, PromptError
from wildseg3d_ros.masks.geometric.drawing import draw_labels
from wildseg3d_ros.masks.geometric.objects import UNKNOWN
from wildseg3d_ros.masks.geometric.observations import observe
from wildseg3d_ros.masks.geometric.regions import Region, regions_about
from wildseg3d_ros.masks.geometric.seeds import Seeds
from wildseg3d_ros.masks.geometric.surface import Surface, fuse_surface
from wildseg3d_ros.masks.prompted import Hints, satisfies
from wildseg3d_ros.types import WorldPointmaps

import os
LONG_EDGE = int(os.environ.get('LE', '640'))
"""Longer edge of the views that are fused [px]."""
LARGEST = 0.25
"""Largest part of a support that is taken for a thing, as a share of the view."""
BOXED = 0.5
"""Share of a box that the extent of what is meant by it fills."""
IN_BOX = 0.8
"""Share of a region that must be in the box: what goes on beyond it is background."""


class RegionGrowing:
    """Regions of the fused surface that end at supports, at concave creases and at edges of colour.

    Args:
        images: per view (H, W, 3) uint8 RGB.
        world: points of their pixels.
        K: (N, 3, 3) intrinsics [px].
        world_from_cam: (N, 4, 4) poses.
        metric: whether the scene's unit is the metre.
    """

    note = "found by growing a region over the pointmap, without SAM 2: approximate"

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
        self._answers: list[Region] = []

    def propose(self, view: int, hints: Hints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Regions about the positive points that exclude the negative ones, likeliest first.

        In a view that was not prompted, the regions that others were answered with are drawn, and
        what their points show is proposed as it is, too.

        Raises:
            PromptError: no point was measured at a positive point, or no region fits.
        """
        seeds = self._seeds_of(view)
        if hints.area is not None:
            return self._lifted(seeds, hints.area, hints)
        on = _patches(seeds, hints.points[hints.on])
        off = _patches(seeds, hints.points[~hints.on])
        if len(on):
            regions = regions_about(seeds.surface, on, off)
        else:
            regions = []
        soft, sure = [], []
        for region in regions:
            mask = self._drawn(seeds, region, hints)
            if region.of_support and (mask > 0.5).mean() > LARGEST:
                continue
            soft.append(mask)
            sure.append(region.quality)
            if satisfies(mask > 0.5, hints):
                self._answers.append(region)
                break
        if not soft:
            raise PromptError(
                "what is there goes on as far as a table or a wall does, so there seems to be "
                "background; click on a thing, or use SAM 2 masks",
                ErrorCode.NO_OBJECT_AT_PIXEL,
            )
        return np.stack(soft), np.array(sure, np.float32)

    def _lifted(self, seeds, area, hints):
        regions = self._answers
        soft = [self._drawn(seeds, region, Hints()) for region in regions]
        sure = [region.quality for region in regions]
        soft.append(area.astype(np.float32))
        sure.append(0.0)
        return np.stack(soft), np.array(sure, np.float32)

    def _drawn(self, seeds: Seeds, region: Region, hints: Hints) -> NDArray[np.float32]:
        """(H, W) soft score of a region in a view."""
        labels = region.voxels.astype(np.int32)
        observation = seeds.surface.observations[seeds.view]
        image = self._images[seeds.view]
        label, score = draw_labels(image, observation, seeds.voxels, labels)
        soft = np.where(label > 0, np.maximum(score, 0.51), np.minimum(score, 0.49))
        return soft.astype(np.float32)

    def _seeds_of(self, view: int) -> Seeds:
        if view not in self._seeds:
            if self._surface is None:
                raise PromptError(
                    "no depth was measured in any view, so no region can grow; use SAM 2 masks",
                    ErrorCode.NO_DEPTH_AT_PIXEL,
                )
            self._seeds[view] = Seeds.of_view(self._surface, view)
        return self._seeds[view]

    @cached_property
    def _surface(self) -> Surface | None:
        observations = [
            observe(image, points, confidence, pose, K, LONG_EDGE)
            for image, points, confidence, pose, K in zip(
                self._images,
                self._world.points,
                self._world.confidence,
                self._world_from_cam,
                self._K,
                strict=True,
            )
        ]
        return fuse_surface(observations, 0.0, self._metric)


def _patches(seeds: Seeds, points: NDArray[np.float64]) -> NDArray[np.intp]:
    """The patches at some pixels (n, 2)."""
    return np.array(sorted({seeds.patch_at(u, v) for u, v in points}), np.intp)
