"""Settings of the mask back ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wildseg3d_ros.core.settings import setting
from wildseg3d_ros.masks.geometric.config import GeometricMaskConfig
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig


@dataclass(frozen=True)
class MaskConfig:
    """The mask back end."""

    backend: Literal["geometric", "sam2"] = setting("geometric", "mask back end")
    geometric: GeometricMaskConfig = GeometricMaskConfig()
    sam2: Sam2MaskConfig = Sam2MaskConfig()
