"""Settings of the stereo back end."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildseg3d_ros.core.settings import check_order, setting

if TYPE_CHECKING:
    from wildseg3d_ros.pointmaps import PointmapBackend


@dataclass(frozen=True)
class StereoPointmapConfig:
    """Pointmaps of RGB cameras with known intrinsics and poses."""

    min_angle: float = setting(
        5.0, "minimum angle between two cameras at the scene [degrees]", 0.5, 60.0
    )
    max_angle: float = setting(20.0, "maximum such angle [degrees]", 1.0, 60.0)
    bridge_angle: float = setting(
        35.0,
        "maximum angle of a pair that is used although it is too wide, where nothing narrower "
        "connects the views [degrees]",
        1.0,
        60.0,
    )
    min_depth: float = setting(
        0.0, "minimum depth that is searched [m]; 0 = from cameras and features", 0.0, 1000.0
    )
    max_depth: float = setting(
        0.0, "maximum depth that is searched [m]; 0 = from cameras and features", 0.0, 1000.0
    )
    prior_translation_sigma: float = setting(
        0.01,
        "standard deviation of given camera positions [m], where a view does not say its own",
        1e-6,
        10.0,
    )
    prior_rotation_sigma: float = setting(
        0.01, "the same of given camera orientations [rad]", 1e-6, 3.0
    )
    max_disagreement: float = setting(
        0.3,
        "maximum disagreement of two pairs about the same pixels, as a share of their depth and "
        "beyond what the poses' deviations explain; no scene is built above it; 0 = never refuse",
        0.0,
        1e6,
    )

    def __post_init__(self) -> None:
        check_order("pointmaps.stereo", self, "min_angle", "max_angle")
        if self.min_depth and self.max_depth:
            check_order("pointmaps.stereo", self, "min_depth", "max_depth")

    def load(self) -> PointmapBackend:
        """The back end with these settings."""
        return pkgutil.resolve_name("wildseg3d_ros.pointmaps.stereo.backend:StereoPointmaps")(self)
