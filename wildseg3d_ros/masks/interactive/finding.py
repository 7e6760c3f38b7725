"""One object in all views: found in the prompted ones, lifted into the others, checked there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import ViewPrompts, WorldPointmaps
from wildseg3d_ros.masks.sources import (
    MIN_HITS,
    MIN_LEFT,
    MaskSource,
    SoftMask,
    satisfies,
)


def find_object(
    source: MaskSource,
    prompts: Mapping[int, ViewPrompts],
    world: WorldPointmaps,
    visibility: Visibility,
    names: Sequence[str],
) -> tuple[tuple[NDArray[np.float32] | None, ...], tuple[float, ...]]:
    """The soft masks of one object in all views.

    In the prompted views the best proposal that satisfies every prompt is taken. Its points are
    lifted into the other views, the one that shows most of them first. What is proposed there for
    the pixels that they hit must cover them, and its own points must come back onto the masks that
    are known so far, to which it then belongs.

    Args:
        prompts: by index of the prompted views; positive ones in one view at least.
        names: of all views, for errors.

    Returns:
        Per view (H, W) float32 soft scores, None where the object is not visible or no proposal
        passes the checks, and the quality of each, 0 where there is none.

    Raises:
        PromptError: no proposal satisfies the prompts of a view.
    """
    found: dict[int, SoftMask] = {}
    for view, given in prompts.items():
        if given.positive:
            others = {other: each for other, each in prompts.items() if other != view}
            found[view] = _prompted(source, view, replace(given, elsewhere=others), names[view])
    known = {view: soft > 0.5 for view, (soft, _) in found.items()}
    left = set(range(len(names))) - known.keys()
    while left:
        # The view that shows most of what is known comes next: its far side leads to others.
        points, origin = points_of(known, world)
        hits = {view: visibility.pixels_of(view, points, origin) for view in left}
        view = max(sorted(left), key=lambda v, hits=hits: len(hits[v]))
        if len(hits[view]) < MIN_HITS:
            break
        left.discard(view)
        lifted = _propose_lifted(source, view, hits[view], known, world, visibility)
        if lifted is not None:
            found[view], known[view] = lifted, lifted[0] > 0.5
    masks = [found.get(view, (None, 0.0)) for view in range(len(names))]
    return tuple(soft for soft, _ in masks), tuple(quality for _, quality in masks)


def find_in_view(
    source: MaskSource,
    view: int,
    known: Mapping[int, NDArray[np.bool_]],
    world: WorldPointmaps,
    visibility: Visibility,
) -> SoftMask | None:
    """The mask in one view of an object that masks (H, W) of other views, by index, show; None
    where it is not visible or no proposal passes the checks."""
    hit = visibility.pixels_of(view, *points_of(known, world))
    if len(hit) < MIN_HITS:
        return None
    return _propose_lifted(source, view, hit, known, world, visibility)


def _prompted(source: MaskSource, view: int, given: ViewPrompts, name: str) -> SoftMask:
    """The best proposal in a prompted view that satisfies its prompts."""
    if given.mask is None:
        try:
            soft, quality = source.propose(view, given)
        except PromptError as error:
            raise PromptError(f"camera '{name}': {error}", error.code) from error
    else:
        soft, quality = given.mask.astype(np.float32)[None], np.ones(1, np.float32)
    fits = [satisfies(each > 0.5, given) for each in soft]
    if not any(fits):
        raise _unsatisfied(name, soft, given)
    if (spared := given.spared) is not None:
        left = [(spared & ~(each > 0.5)).sum() >= MIN_LEFT * spared.sum() for each in soft]
        choice = np.logical_and(fits, left)
        fits = choice if choice.any() else fits
    best = int(np.where(fits, quality, -1.0).argmax())
    return soft[best], float(quality[best])


def _propose_lifted(
    source: MaskSource,
    view: int,
    hit: NDArray[np.intp],
    known: Mapping[int, NDArray[np.bool_]],
    world: WorldPointmaps,
    visibility: Visibility,
) -> SoftMask | None:
    """The best proposal for lifted points that passes the checks."""
    lifted = np.zeros(visibility.depth[view].shape, np.uint8)
    lifted.ravel()[hit] = 1
    # Lifted points leave gaps where the view is nearer than the one that they come from.
    area = np.asarray(cv2.morphologyEx(lifted, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))) > 0
    seeds = _seeds(area)
    prompts = ViewPrompts(seeds, np.ones(len(seeds), np.bool_), area=area)
    try:
        soft, quality = source.propose(view, prompts)
    except PromptError:
        return None

    def agreement(mask: NDArray[np.bool_]) -> float:
        """0 unless the mask covers 70 % of the lifted points, and 60 % of its own points, of those
        that the other views see, come back onto the masks there."""
        covered = float(mask.ravel()[hit].mean())
        if covered < 0.7:
            return 0.0
        points, origin = points_of({view: mask}, world)
        back, seen = 0, 0
        for other, its_mask in known.items():
            pixel = visibility.pixels_of(other, points, origin)
            seen += len(pixel)
            back += int(its_mask.ravel()[pixel].sum())
        returned = back / seen if seen else 0.0
        return covered * returned if returned >= 0.6 else 0.0

    agreements = np.array([agreement(each > 0.5) for each in soft])
    # What is certain but shows no more than was known already has a quality of 0.
    best = int(np.argmax(agreements * (0.05 + quality)))
    return (soft[best], float(quality[best])) if agreements[best] > 0 else None


def _unsatisfied(name: str, soft: NDArray[np.float32], prompts: ViewPrompts) -> PromptError:
    """Says which points the best of the proposals (A, H, W) does not satisfy."""
    column, row = np.rint(prompts.points).astype(int).T
    wrong = (soft[:, row, column] > 0.5) != prompts.on
    best = wrong[int(wrong.sum(axis=1).argmin())]
    failed = [
        f"pixel ({u:g}, {v:g}), which is to be {'on' if on else 'off'} the object, is "
        f"{'off' if on else 'on'} it"
        for (u, v), on in zip(prompts.points[best], prompts.on[best], strict=True)
    ]
    text = (
        "no mask holds all positive points and no negative one; in the one that comes closest, "
        f"{' and '.join(failed)}. Leave such a point out or move it"
        if failed
        else "what is found in the box goes on beyond it; draw the box close about the whole of a "
        "thing, or click on it"
    )
    return PromptError(f"camera '{name}': {text}", ErrorCode.NO_OBJECT_AT_PIXEL)


def points_of(
    masks: Mapping[int, NDArray[np.bool_]], world: WorldPointmaps
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """(n, 3) points inside masks (H, W) by view, 4000 of each at about most; their view."""
    points, origin = [], []
    for view, mask in masks.items():
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        pixel = np.flatnonzero((inner if inner.any() else mask) & world.valid(view))
        pixel = pixel[:: max(1, len(pixel) // 4000)]
        points.append(world.points[view].reshape(-1, 3)[pixel])
        origin.append(np.full(len(pixel), view, np.uint16))
    return np.concatenate(points), np.concatenate(origin)


def _seeds(area: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, 2) pixels (u, v) farthest inside an area, three at most, far from each other."""
    padded = np.pad(area, 1).astype(np.uint8)
    inside = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3))[1:-1, 1:-1].copy()
    v, u = np.indices(area.shape)
    min_distance = 0.25 * np.sqrt(float(area.sum()))
    seeds = []
    for _ in range(3):
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        if inside[row, column] <= 0:
            break
        seeds.append((column, row))
        inside[np.hypot(v - row, u - column) < min_distance] = 0
    return np.array(seeds, np.float64)
