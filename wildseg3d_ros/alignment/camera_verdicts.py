"""What an alignment says about each camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.priors.gauge import Registration
from wildseg3d_ros.core.geometry.transforms import rotation_angle
from wildseg3d_ros.core.types import CameraVerdict, Verdict, View


def camera_verdicts(
    views: Sequence[View],
    world_from_cam: NDArray[np.float64],
    registration: Registration,
    doubts: Mapping[int, tuple[Verdict, str]],
) -> tuple[CameraVerdict, ...]:
    """One verdict per view.

    Args:
        world_from_cam: (N, 4, 4) of the finished world.
        doubts: ``suspect`` or ``unchecked`` and why, of views whose pairs say so.
    """
    nan = float("nan")
    out = []
    for v, view in enumerate(views):
        given, sizes = view.world_from_cam_prior, (nan, nan)
        if given is not None and registration.found:
            found = world_from_cam[v]
            sizes = (
                float(np.linalg.norm(found[:3, 3] - given[:3, 3])),
                rotation_angle(found[:3, :3] @ given[:3, :3].T),
            )
        verdict, why = doubts.get(v, ("ok", ""))
        if registration.wrong[v]:
            verdict, why = "left out", "the other cameras contradict its given pose"
        weight = float(given is not None and not registration.wrong[v])
        out.append(
            CameraVerdict(
                view.name, given is not None, *sizes, nan, nan, nan, weight, verdict, why
            )
        )
    return tuple(out)
