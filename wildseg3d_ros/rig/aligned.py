"""The cameras of a rig after alignment, as far as measured depth allows one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from wildseg3d_ros.alignment import align
from wildseg3d_ros.core.errors import InputError, WildSeg3DError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import CameraVerdict, View
from wildseg3d_ros.pairing import choose_pairs
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.rig.cameras import Cameras


@dataclass(frozen=True, eq=False)
class AlignedRig:
    """Where the alignment puts the cameras.

    Attributes:
        cameras: of all N views, those that took no part NaN; None where nothing was aligned.
        reason: why that is, one sentence.
        left_out: why views took no part, by name.
        in_given_frame: whether the world is that of the given poses, else the first camera's.
        verdicts: of the alignment on those that took part, by name.
        warnings: of the alignment, one sentence each.
    """

    cameras: Cameras | None
    reason: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    in_given_frame: bool = False
    verdicts: dict[str, CameraVerdict] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def align_measured(views: Sequence[View], progress: Progress | None = None) -> AlignedRig:
    """Aligns the views that have depth and intrinsics, with the default settings.

    What keeps them from being aligned is said, not raised.

    Raises:
        Cancelled: the caller asked to stop.
    """
    progress, backend = progress or Progress(), DepthPointmaps()
    left_out = {}
    for view in views:
        try:
            backend.check([view])
        except InputError as error:
            left_out[view.name] = _what_is_missing(view) or str(error)
    index = [v for v, view in enumerate(views) if view.name not in left_out]
    if len(index) < 2:
        return AlignedRig(None, "fewer than two cameras have depth and intrinsics", left_out)
    used = [views[v] for v in index]
    try:
        predictions = backend.predict(used, choose_pairs(used), progress)
        alignment = align(predictions, used)
    # Poses that are wrong enough may leave no equations to solve.
    except (WildSeg3DError, ValueError, ArithmeticError) as error:
        return AlignedRig(None, f"the alignment failed: {error}", left_out)
    cameras = Cameras.of_any(views)
    poses = np.full((len(views), 4, 4), np.nan)
    poses[index], cameras.K[index] = alignment.world_from_cam, alignment.K
    return AlignedRig(
        replace(cameras, world_from_cam=poses),
        "",
        left_out,
        alignment.in_prior_frame,
        {each.name: each for each in alignment.cameras},
        (*progress.warnings, *alignment.warnings),
    )


def _what_is_missing(view: View) -> str:
    if view.K is None:
        return "no intrinsics"
    return "no depth" if view.depth is None or not view.depth.any() else ""
