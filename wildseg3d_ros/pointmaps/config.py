"""Settings of the pointmap back ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wildseg3d_ros.core.plugins import BackendSection, Registry
from wildseg3d_ros.core.types import View

AUTO = "auto"
_TEXT = (
    "pointmap back end; auto: stereo where no camera has depth and all have intrinsics and poses, "
    "else depth"
)


@dataclass(frozen=True, init=False)
class PointmapConfig(BackendSection):
    """The pointmap back end, and a group of settings for each one that is installed."""

    registry = Registry("wildseg3d.pointmaps")
    rules = (AUTO,)
    backend: str = registry.setting(AUTO, _TEXT)

    def of(self, views: Sequence[View]) -> PointmapConfig:
        """The same with a back end by name; that of no views is `depth`."""
        if self.backend != AUTO:
            return self
        posed = all(v.K is not None and v.world_from_cam_prior is not None for v in views)
        no_depth = bool(views) and all(v.depth is None for v in views)
        return replace(self, backend="stereo" if no_depth and posed else "depth")
