"""Settings of the mask back ends."""

from __future__ import annotations

from dataclasses import dataclass

from wildseg3d_ros.core.plugins import BackendSection, Registry


@dataclass(frozen=True, init=False)
class MaskConfig(BackendSection):
    """The mask back end, and a group of settings for each one that is installed."""

    registry = Registry("wildseg3d.masks")
    backend: str = registry.setting("geometric", "mask back end")
