"""What an alignment says about each camera."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.given import PoseFinding
from wildseg3d_ros.alignment.prior_consistency import CONTRADICTS
from wildseg3d_ros.core.geometry.transforms import rotation_angle
from wildseg3d_ros.core.types import CameraVerdict, Verdict, View

Doubts = Mapping[int, tuple[Verdict, str]]
"""``suspect`` or ``unchecked`` and why, by view, of those whose pairs say so."""


def camera_verdict(
    view: View,
    world_from_cam: NDArray[np.float64] | None,
    distance: float,
    pose: PoseFinding | None,
    doubt: tuple[Verdict, str] | None = None,
) -> CameraVerdict:
    """The verdict on one camera.

    Args:
        world_from_cam: (4, 4) as it was found, in the frame of the given poses; None where nothing
            fixes that frame. distance: viewing distance [m].
        pose: finding on the view's given pose; None where there is nothing to compare it with.
    """
    given, nan = view.world_from_cam_prior, float("nan")
    apart, sigmas, share = (nan, nan), (nan, nan), 0.0
    if given is not None and world_from_cam is not None:
        angle = rotation_angle(world_from_cam[:3, :3] @ given[:3, :3].T)
        apart = float(np.linalg.norm(world_from_cam[:3, 3] - given[:3, 3])), angle
        share = (apart[0] + angle * distance) / distance
        if pose is not None and pose.is_checked:
            sigmas = pose.sigmas
    verdict, why = _verdict(given is not None, pose, share, doubt)
    return CameraVerdict(
        view.name,
        given is not None,
        *apart,
        *sigmas,
        deviations=nan if pose is None else pose.deviations,
        weight=float(pose is not None and pose.used),
        verdict=verdict,
        why=why,
    )


def _verdict(
    posed: bool, pose: PoseFinding | None, share: float, doubt: tuple[Verdict, str] | None
) -> tuple[Verdict, str]:
    """The verdict and why; ``share``: of the viewing distance that a given pose is off by."""
    if pose is not None and not pose.used:
        if doubt is not None:
            return "suspect", f"the pairs contradict its given pose, and {doubt[1]}"
        if not pose.is_checked:
            return "suspect", "its given pose and another one contradict each other"
        if share > CONTRADICTS:
            return "left out", "its given pose contradicts all others, and took no part"
        return "moved", "its given pose contradicts the others, and was corrected"
    if doubt is not None or not posed:
        return doubt or ("ok", "")
    if pose is None:
        return "unchecked", "no other given pose to compare its own with"
    if np.isnan(pose.deviations):
        return "unchecked", "nothing measured checks its given pose"
    if pose.worse:
        return "moved", "its given pose is off by more than is expected of it, as most are"
    return "ok", ""
