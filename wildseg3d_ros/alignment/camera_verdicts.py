"""What an alignment says about each camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.prior_consistency import CONTRADICTS, PoseFinding
from wildseg3d_ros.alignment.priors.gauge import Registration
from wildseg3d_ros.core.geometry.transforms import rotation_angle
from wildseg3d_ros.core.types import CameraVerdict, Verdict, View


def camera_verdicts(
    views: Sequence[View],
    world_from_cam: NDArray[np.float64],
    registration: Registration,
    poses: Mapping[int, PoseFinding],
    doubts: Mapping[int, tuple[Verdict, str]],
) -> tuple[CameraVerdict, ...]:
    """One verdict per view.

    Args:
        world_from_cam: (N, 4, 4) of the finished world; registration: of it to the given poses.
        poses: findings on given poses, by view.
        doubts: ``suspect`` or ``unchecked`` and why, of views whose pairs say so.
    """
    out, nan = [], float("nan")
    for v, view in enumerate(views):
        given, found, pose = view.world_from_cam_prior, world_from_cam[v], poses.get(v)
        apart = sigmas = (nan, nan)
        if given is not None and registration.found:
            angle = rotation_angle(found[:3, :3] @ given[:3, :3].T)
            apart = (float(np.linalg.norm(found[:3, 3] - given[:3, 3])), angle)
            sigmas = pose.sigmas if pose is not None and pose.is_checked else sigmas
        deviations = nan if pose is None else pose.deviations
        weight = float(given is not None and pose is not None and pose.used)
        verdict, why = _verdict(given is not None, pose, registration.share[v], doubts.get(v))
        out.append(
            CameraVerdict(
                view.name, given is not None, *apart, *sigmas, deviations, weight, verdict, why
            )
        )
    return tuple(out)


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
    return "ok", ""
