"""Known relative poses beside the solved cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.priors.camera_poses import OUTLIER, Spread
from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import RelativePose, View


def check_relative_poses(relative: Sequence[RelativePose], views: Sequence[View]) -> None:
    """Raises InputError unless every relative pose names two of the views."""
    for pose in relative:
        if not (0 <= pose.a < len(views) and 0 <= pose.b < len(views)) or pose.a == pose.b:
            raise InputError(
                f"a relative pose names the views ({pose.a}, {pose.b}); expected two different "
                f"indices of the {len(views)} views"
            )


@dataclass(frozen=True, eq=False)
class Baseline:
    """A known relative pose beside the solved one.

    Attributes:
        length: metres; log_metre: log of graph units per metre by it, NaN when it is too short.
        wrong: why it contradicts the pairs whatever the scale; empty when it does not.
    """

    pose: RelativePose
    length: float
    log_metre: float
    wrong: str


def baselines_of(
    views: Sequence[View],
    cameras: Sequence[NDArray | None],
    reach: NDArray,
    relative: Sequence[RelativePose],
    spread: Spread,
) -> list[Baseline]:
    """Relative poses of cameras that are both located, compared each with a scale of its own."""
    out = []
    for pose in relative:
        a, b = cameras[pose.a], cameras[pose.b]
        if a is None or b is None:
            continue
        ours = float(np.linalg.norm(a[:3, 3] - b[:3, 3]))
        length = float(np.linalg.norm(pose.a_from_b[:3, 3]))
        log_metre, wrong = np.nan, ""
        if ours > 0 and length > 3.0 * pose.translation_sigma:
            log_metre = float(np.log(ours / length))
            away, angle, far = relative_difference(pose, cameras, reach, ours / length)
            if stands_out(away, angle, length, far, pose, spread):
                wrong = outvoted_text(pose, views, away + angle * far)
        out.append(Baseline(pose, length, log_metre, wrong))
    return out


def outvoted_text(pose: RelativePose, views: Sequence[View], error: float) -> str:
    """The warning that a relative pose is left out; error [m] at the scene."""
    return (
        f"the given relative pose of the cameras '{views[pose.a].name}' and "
        f"'{views[pose.b].name}' is {error * 1e3:.0f} mm (at the scene) from what the images say; "
        "the pairs outvote it, and it is left out: check their calibration"
    )


def stands_out(
    away: float, angle: float, length: float, far: float, pose: RelativePose, spread: Spread
) -> bool:
    """Whether a known relative pose is farther from the pairs' than these drift on the way.

    Args:
        away, angle: by which it differs [m, rad]; length: of the baseline; far: viewing distance.
    """
    hops = float(spread.hops[pose.a, pose.b])
    turned = 2.0 * hops * spread.rotation**2
    moved = 2.0 * hops * (spread.position * far) ** 2 + turned * length**2 / 2.0
    metres = np.sqrt(pose.translation_sigma**2 + moved)
    radians = np.sqrt(pose.rotation_sigma**2 + turned)
    return max(away / metres, angle / radians) > OUTLIER


def relative_difference(
    pose: RelativePose, cameras: Sequence[NDArray | None], reach: NDArray, metre: float
) -> tuple[float, float, float]:
    """By how much solved cameras differ from a known relative pose [m, rad], and the viewing
    distance [m]; NaN where a camera has no frame.

    Args:
        cameras: solved poses; reach: (N,) viewing distances, in the cameras' units.
        metre: of these units in a metre.
    """
    a, b = cameras[pose.a], cameras[pose.b]
    if a is None or b is None:
        return np.nan, np.nan, np.nan
    solved = invert(a) @ b
    away = float(np.linalg.norm(solved[:3, 3] / metre - pose.a_from_b[:3, 3]))
    angle = rotation_angle(solved[:3, :3] @ pose.a_from_b[:3, :3].T)
    return away, angle, float(max(reach[pose.a], reach[pose.b]) / metre)
