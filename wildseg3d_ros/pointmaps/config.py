"""Settings of the pointmap back ends."""

from __future__ import annotations

from dataclasses import dataclass

from wildseg3d_ros.core.plugins import BackendSection, Registry


@dataclass(frozen=True, init=False)
class PointmapConfig(BackendSection):
    """The pointmap back end, and a group of settings for each one that is installed."""

    registry = Registry("wildseg3d.pointmaps")
    backend: str = registry.setting("depth", "pointmap back end")
