"""Dynamic Global Alignment: pairwise pointmaps into one world.

The method is that of WildSeg3D (ICCV 2025, arXiv 2503.08407), solved on the reduced graph of one
similarity per pair: world points are eliminated, so that a Gauss-Newton pass needs only weighted
second moments of a few hundred pixels per view. torch is loaded when a function is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wildseg3d_ros.alignment.config import AlignmentConfig
    from wildseg3d_ros.core.types import (
        Alignment,
        MaskCache,
        PairPrediction,
        RelativePose,
        View,
        WorldPointmaps,
    )


def align(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    config: AlignmentConfig,
    masks: MaskCache | None = None,
    start: Alignment | None = None,
    relative_poses: Sequence[RelativePose] = (),
) -> Alignment:
    """Brings all pairs and cameras into one world.

    Minimises ``sum_e sum_v sum_i W_i |chi_i^v - (sigma_e R_e x_i^{v,e} + t_e)|`` robustly over
    the world points chi and one similarity per pair e (WildSeg3D, dynamic global alignment). Where
    no pair is metric, the product of the used pairs' scales is fixed to 1, or they are brought to
    the given poses' scale; pairs with ``metric=True`` keep scale 1. Pairs that contradict the
    others are left out and named in ``warnings``.

    The world is the frame of the given camera poses when there are any that fix it (and then
    metric), else camera 0's frame.

    Args:
        predictions: one or more pairs that connect all views; both pointmaps of a pair have the
            size of their view's image. Points with confidence 0 or NaN anywhere are left out.
        views: all views that the pairs refer to by index.
        config: weighting, sampling, tolerance, device.
        masks: object masks with soft scores; without them every pixel's score is 1.
        start: an earlier answer over the same views; pairs it knows start where it left them, the
            others are placed onto it.
        relative_poses: known poses between some of the cameras.

    Given poses of views always place the finished world. Where their deviations are said (by the
    view or in ``config``) they also enter the solve, as relative poses and the depth images of
    views with pairs of unknown scale do, weighed against the pairs' own residuals; a prior that
    the pairs contradict is left out and its camera named in ``warnings``. A prior acts on a camera
    through the pairs that have a map in that camera's frame.

    Raises:
        AlignmentError: the pairs do not connect all views (``ErrorCode.DISCONNECTED_VIEWS``, the
            groups named), or there is nothing to align.
        InputError: a pair's indices or sizes do not fit the views.
        ConfigError: the configured device is not there.
    """
    from wildseg3d_ros.alignment.aligner import align as run

    return run(predictions, views, config, masks, start, relative_poses)


def align_view(
    pairs: Sequence[PairPrediction],
    views: Sequence[View],
    changed: int,
    start: Alignment,
    world: WorldPointmaps,
    config: AlignmentConfig,
    masks: MaskCache | None = None,
) -> Alignment:
    """Brings one view that was added or replaced into a world that stands.

    Its pairs, camera and surface are solved against the other views' world pointmaps, which stay
    where they are: what is known of objects elsewhere keeps its place to the last digit. A fresh
    :func:`align` of everything would move the others by a part of their own error.

    Args:
        pairs: one or more, all with the changed view. Nothing is asked of the other pairs.
        views: all of them; an added view is the last.
        changed: index of the view.
        start: of the other views (and of the changed one before); world: :func:`fuse` of it.
        masks: as for :func:`align`; those of the changed view may be the new ones.

    Returns:
        ``start`` with the view's rows replaced, and its pairs after those of the others.

    Raises:
        AlignmentError: no pair connects the view. InputError: pairs without the view. Others: as
            of :func:`align`.
    """
    from wildseg3d_ros.alignment.register_view import align_view as run

    return run(pairs, views, changed, start, world, config, masks)


def fuse_view(
    pairs: Sequence[PairPrediction],
    views: Sequence[View],
    changed: int,
    alignment: Alignment,
    world: WorldPointmaps,
    config: AlignmentConfig,
) -> WorldPointmaps:
    """The world pointmaps with those of one view made anew.

    Args:
        pairs, views, changed, world: as for :func:`align_view`, whose answer ``alignment`` is.

    Raises:
        InputError: the alignment was made from other pairs.
    """
    from wildseg3d_ros.alignment.fusion.fuse import fuse_view as run

    return run(pairs, views, changed, alignment, world, config)


def fuse(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    alignment: Alignment,
    config: AlignmentConfig,
) -> WorldPointmaps:
    """World pointmaps of all views at full resolution, from the pairs that the alignment uses.

    A view whose pairs all share one measured map gets that map, posed once. Otherwise each pixel
    is the mean of its observations on its camera's ray, with weights C and a Geman-McClure loss of
    falling width, and then moves along that ray to what all views see there.

    Args:
        predictions: the pairs that ``alignment`` was made from, in the same order.

    Raises:
        InputError: the alignment was made from other pairs.
    """
    from wildseg3d_ros.alignment.fusion.fuse import fuse as run

    return run(predictions, views, alignment, config)
