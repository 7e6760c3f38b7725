"""The metric scale of the world: what gives it, and how far it can be relied on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wildseg3d_ros.alignment.priors.factors import ScaleRows
from wildseg3d_ros.alignment.priors.gauge import Registration
from wildseg3d_ros.core.types import PairPrediction, View

POSES, RELATIVE, DEPTH = "camera poses", "relative poses", "depth"
"""Sources of the metric scale, in the words of ``Alignment.scale_sources``."""

_MISSHAPEN = 0.15
"""Robust sigma of the log ratio of depth to a pointmap beyond which the two show different things;
in constructed scenes with a network's errors it is up to 0.03."""

_METRIC_NETWORK = 1.5
"""Factor by which a network's own metric scale may be wrong: beyond it something else is."""


def well_shaped(
    depths: ScaleRows, views: Sequence[View]
) -> tuple[ScaleRows, tuple[int, ...], list[str]]:
    """Without depth images that no scale brings onto their pointmaps; these views; warnings."""
    misshapen = {
        int(v): float(np.median(depths.sigma[depths.view == v])) for v in np.unique(depths.view)
    }
    misshapen = {v: sigma for v, sigma in misshapen.items() if sigma > _MISSHAPEN}
    warnings = [
        f"the depth image of camera '{views[v].name}' has another shape than its image "
        f"({sigma:.0%} beside a common scale) and is left out: check that it is registered to "
        "the image, of the same moment, and neither rotated nor mirrored"
        for v, sigma in misshapen.items()
    ]
    return depths.select(~np.isin(depths.view, list(misshapen))), tuple(misshapen), warnings


def unconfirmed(views: Sequence[View], metric_pairs: Sequence[PairPrediction]) -> bool:
    """Whether the world cannot but agree with the given poses: two views, triangulated with
    them."""
    return len(views) == 2 and any(pair.scale_source == POSES for pair in metric_pairs)


def scale_warnings(
    views: Sequence[View],
    metric_pairs: Sequence[PairPrediction],
    sources: tuple[str, ...],
    registration: Registration,
    factor: float,
    rough: bool,
) -> list[str]:
    """Warnings where nothing gives the metric scale or confirms what does, and where that of a
    network that was trained on metres is far from it.

    Args:
        metric_pairs: those in use whose scale is known.
        factor: world units per unit of the pairs of unknown scale.
        rough: whether these units are about metres.
    """
    if not sources:
        # Poses that do not suffice have a warning of their own.
        if any(view.world_from_cam_prior is not None for view in views):
            return []
        text = (
            f"lengths are in the network's own scale, not in metres, and the frame is that of "
            f"camera '{views[0].name}': give the poses of two cameras or the depth of one to "
            "change that"
        )
        return [text]
    warnings = []
    if unconfirmed(views, metric_pairs):
        warnings.append(
            f"the points of '{views[0].name}' and '{views[1].name}' were triangulated with the "
            "given poses, and no third view confirms these: there is no residual, and an error of "
            "the poses goes into all lengths"
        )
    posed = np.flatnonzero(np.isfinite(registration.error))
    if sources == (POSES,) and len(posed) == 2 and factor != 1.0:
        a, b = (views[v].name for v in posed.tolist())
        warnings.append(
            f"the scale rests on one baseline, from '{a}' to '{b}', and nothing confirms it: any "
            f"length of it fits the images (now {factor:.3g} x the network's own lengths), and an "
            "error of either position goes into all lengths. Give a third pose, or depth"
        )
    if rough and max(factor, 1.0 / factor) > _METRIC_NETWORK:
        warnings.append(
            f"scaled by {' and '.join(sources)}, lengths are {factor:.3g} times what the network "
            f"takes them for, which is seldom wrong by more than {_METRIC_NETWORK:g}: check that "
            "poses and depth are in metres, and the distances between the given camera positions"
        )
    return warnings
