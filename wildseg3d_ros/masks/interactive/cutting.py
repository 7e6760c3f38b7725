"""A leaf of the tree of masks, cut in two between clicks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import MaskCache, WorldPointmaps
from wildseg3d_ros.masks.interactive.leaves import tree_of
from wildseg3d_ros.masks.interactive.nearest_pixels import copy_nearest
from wildseg3d_ros.masks.sources import LocatedClick

SAME_COLOUR = 15.0
"""Distance in CIE L*a*b* up to which colours differ by no more than shading and noise do."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """What the pixels of the views show.

    Attributes:
        images: per view (H, W, 3) uint8 RGB.
        world: points of their pixels.
    """

    images: Sequence[NDArray[np.uint8]]
    world: WorldPointmaps

    def features(
        self, view: int, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, 3) points, NaN where there is none, and (n, 3) L*a*b* colours of pixels."""
        points = self.world.points[view][rows, columns]
        points[~self.world.valid(view)[rows, columns]] = np.nan
        rgb = self.images[view][rows, columns].astype(np.float32)[None] / 255
        return points, np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB))[0]


def cut_between(cache: MaskCache, clicks: Sequence[LocatedClick], shown: Pictures) -> MaskCache:
    """The cache whose tree has no leaf with clicks both on and off the object.

    Such a leaf is cut in two in every view: its pixels go where the nearest click is, by point and
    colour. Pixels without a point follow the nearest one in the image.

    Args:
        cache: with a tree.
        clicks: no pixel of them is both on and off.
        shown: of the views.

    Raises:
        PromptError: there is no depth by which a leaf could be cut (CONTRADICTING_CLICKS).
    """
    while True:
        tree = tree_of(cache)
        at = [click.at(tree.leaves) for click in clicks]
        on = {leaf for leaf, click in zip(at, clicks, strict=True) if click.on}
        off = {leaf for leaf, click in zip(at, clicks, strict=True) if not click.on}
        both = sorted((on & off) - {-1})
        if not both:
            return cache
        leaf = both[0]
        seeds = [click for each, click in zip(at, clicks, strict=True) if each == leaf]
        first = _sides(tree.leaves, leaf, seeds, shown)
        cut, number = tree.cut(leaf, first)
        records = tuple(
            replace(each, nodes=tuple(sorted(int(number[node]) for node in each.nodes)))
            for each in cache.objects
        )
        cache = dataclasses.replace(cache, tree=cut, objects=records)


def _sides(
    leaves: Sequence[NDArray[np.int32]],
    leaf: int,
    seeds: Sequence[LocatedClick],
    shown: Pictures,
) -> list[NDArray[np.bool_]]:
    """Per view (H, W) bool, whether a pixel of the leaf is on the object."""
    points, colours = _seed_features(leaves, leaf, seeds, shown)
    on = np.array([seed.on for seed in seeds])
    apart = np.linalg.norm(points[on][:, None] - points[~on], axis=2)
    unlike = np.linalg.norm(colours[on][:, None] - colours[~on], axis=2)
    if not np.isfinite(apart).all():
        raise PromptError(
            "a positive and a negative click are on one part of the surface, which has no depth "
            "near one of them in its image, so that it cannot be cut between them; click where "
            "it has depth, or build the scene with a mask back end that takes prompts",
            ErrorCode.CONTRADICTING_CLICKS,
        )
    reach = max(float(apart.min()), 1e-9)
    contrast = max(float(unlike.min()), SAME_COLOUR)
    sides = []
    for view, of_view in enumerate(leaves):
        side = np.zeros(of_view.shape, np.bool_)
        rows, columns = np.nonzero(of_view == leaf)
        if len(rows):
            place, colour = shown.features(view, rows, columns)
            distance = np.stack([
                np.hypot(
                    np.linalg.norm(place - point, axis=1) / reach,
                    np.linalg.norm(colour - seen, axis=1) / contrast,
                )
                for point, seen in zip(points, colours, strict=True)
            ])  # fmt: skip
            distance = np.where(np.isfinite(distance), distance, np.inf)
            near = distance[on].min(axis=0), distance[~on].min(axis=0)
            side[rows, columns] = near[0] < near[1]
            missing = np.zeros_like(side)
            missing[rows, columns] = ~np.isfinite(np.minimum(*near))
            given = (of_view == leaf) & ~missing
            if missing.any() and given.any():
                copy_nearest(side, given, missing)
        for seed in seeds:
            if seed.view == view:
                side[seed.row, seed.column] = seed.on
        sides.append(side)
    return sides


def _seed_features(
    leaves: Sequence[NDArray[np.int32]],
    leaf: int,
    seeds: Sequence[LocatedClick],
    shown: Pictures,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 3) points and colours at the clicks; where one has no point, that of the nearest pixel
    of the leaf that has one, NaN if there is none."""
    points, colours = [], []
    for seed in seeds:
        at = np.array([seed.row]), np.array([seed.column])
        point, colour = shown.features(seed.view, *at)
        if np.isnan(point).any():
            valid = (leaves[seed.view] == leaf) & shown.world.valid(seed.view)
            rows, columns = np.nonzero(valid)
            if len(rows):
                near = np.hypot(rows - seed.row, columns - seed.column).argmin()
                point = shown.features(seed.view, rows[[near]], columns[[near]])[0]
        points.append(point[0])
        colours.append(colour[0])
    return np.stack(points), np.stack(colours)
