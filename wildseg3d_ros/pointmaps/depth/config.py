"""Settings of the depth back end."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildseg3d_ros.core.settings import check_order, setting

if TYPE_CHECKING:
    from wildseg3d_ros.pointmaps import PointmapBackend


@dataclass(frozen=True)
class DepthPointmapConfig:
    """Pointmaps of calibrated RGB-D cameras."""

    min_depth: float = setting(0.1, "minimum depth that is trusted [m]", 0.0, 100.0)
    max_depth: float = setting(5.0, "maximum depth that is trusted [m]", 0.0, 1000.0)
    prior_translation_sigma: float = setting(
        0.01, "standard deviation of the given camera positions [m]", 1e-6, 10.0
    )
    prior_rotation_sigma: float = setting(
        0.01, "standard deviation of the given camera orientations [rad]", 1e-6, 3.0
    )
    refine: bool = setting(True, "estimate each pair's relative pose by registration")
    matcher: str = setting(
        "",
        "weights of EfficientLoFTR, a hub name or a folder, for views that SIFT does not place; "
        "empty = SIFT alone",
    )
    noise_constant: float = setting(
        0.0012, "standard deviation of the depth at close range [m]", 1e-5, 1.0
    )
    noise_quadratic: float = setting(
        0.0019, "growth of that deviation with the square of the range [1/m]", 0.0, 1.0
    )

    def __post_init__(self) -> None:
        check_order("pointmaps.depth", self, "min_depth", "max_depth")

    def load(self) -> PointmapBackend:
        """The back end with these settings."""
        return pkgutil.resolve_name("wildseg3d_ros.pointmaps.depth.backend:DepthPointmaps")(self)
