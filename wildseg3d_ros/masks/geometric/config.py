"""Settings of the geometric masks."""

from __future__ import annotations

from dataclasses import dataclass

from wildseg3d_ros.core.settings import setting


@dataclass(frozen=True)
class GeometricMaskConfig:
    """Weight-free object masks from the fused cloud."""

    voxel_size: float = setting(
        0.0, "edge of the voxels that are segmented [m]; 0 = from the images' resolution", 0.0, 0.1
    )
