"""Settings of the pointmap back ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wildseg3d_ros.core.settings import setting
from wildseg3d_ros.pointmaps.depth.config import DepthPointmapConfig
from wildseg3d_ros.pointmaps.mast3r.config import Mast3rPointmapConfig
from wildseg3d_ros.pointmaps.stereo.config import StereoPointmapConfig


@dataclass(frozen=True)
class PointmapConfig:
    """The geometry back end."""

    backend: Literal["depth", "stereo", "mast3r"] = setting("depth", "geometry back end")
    depth: DepthPointmapConfig = DepthPointmapConfig()
    stereo: StereoPointmapConfig = StereoPointmapConfig()
    mast3r: Mast3rPointmapConfig = Mast3rPointmapConfig()
