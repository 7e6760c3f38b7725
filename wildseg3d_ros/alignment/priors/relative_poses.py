"""Known relative poses beside the solved cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wildseg3d_ros.alignment.priors.camera_poses import OUTLIER, PairCameras
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
    """A known relative pose of two cameras that the pairs locate.

    Attributes:
        length: metres; log_scale: log of graph units per metre by it, NaN when it is too short.
    """

    pose: RelativePose
    length: float
    log_scale: float


def baselines_of(
    views: Sequence[View], relative: Sequence[RelativePose], cameras: PairCameras
) -> tuple[list[Baseline], list[str]]:
    """Relative poses that no scale makes contradict the pairs, and warnings of the others."""
    out, warnings = [], []
    for pose in relative:
        a, b = cameras.poses[pose.a], cameras.poses[pose.b]
        if a is None or b is None:
            continue
        ours = float(np.linalg.norm(a[:3, 3] - b[:3, 3]))
        length = float(np.linalg.norm(pose.a_from_b[:3, 3]))
        log_scale = np.nan
        if ours > 0 and length > 3.0 * pose.translation_sigma:
            log_scale = float(np.log(ours / length))
            error, is_outlier = _compare(pose, cameras, ours / length)
            if is_outlier:
                warnings.append(_rejected_text(pose, views, error))
                continue
        out.append(Baseline(pose, length, log_scale))
    return out, warnings


def compare_baselines(
    views: Sequence[View],
    baselines: Sequence[Baseline],
    cameras: PairCameras,
    metric_scale: float,
) -> tuple[list[tuple[RelativePose, float]], list[str]]:
    """Relative poses that agree with the pairs, their errors [m] at the scene, and warnings of the
    others.

    Args:
        metric_scale: graph units per metre.
    """
    out, warnings = [], []
    for base in baselines:
        error, is_outlier = _compare(base.pose, cameras, metric_scale)
        if is_outlier:
            warnings.append(_rejected_text(base.pose, views, error))
        else:
            out.append((base.pose, error))
    return out, warnings


def _compare(pose: RelativePose, cameras: PairCameras, metric_scale: float) -> tuple[float, bool]:
    """Error [m] at the scene, and whether it is more than the pairs drift from one camera to the
    other."""
    known = pose.a_from_b
    solved = invert(np.asarray(cameras.poses[pose.a])) @ np.asarray(cameras.poses[pose.b])
    translation = float(np.linalg.norm(solved[:3, 3] / metric_scale - known[:3, 3]))
    rotation = rotation_angle(solved[:3, :3] @ known[:3, :3].T)
    distance = float(max(cameras.distance[pose.a], cameras.distance[pose.b]) / metric_scale)
    position, angle = np.sqrt(2.0 * cameras.hops[pose.a, pose.b]) * np.array(cameras.sigmas)
    # Variances of the pairs' drift; errors of rotation on the way displace its end as well.
    drift = (position * distance) ** 2 + angle**2 * np.sum(known[:3, 3] ** 2) / 2.0
    metres = np.sqrt(pose.translation_sigma**2 + drift)
    radians = np.hypot(pose.rotation_sigma, angle)
    is_outlier = max(translation / metres, rotation / radians) > OUTLIER
    return translation + rotation * distance, bool(is_outlier)


def _rejected_text(pose: RelativePose, views: Sequence[View], error: float) -> str:
    """The warning that a relative pose is left out; error [m] at the scene."""
    return (
        f"the given relative pose of the cameras '{views[pose.a].name}' and "
        f"'{views[pose.b].name}' is {error * 1e3:.0f} mm (at the scene) from what the images say; "
        "the pairs contradict it, and it is rejected: check their calibration"
    )
