"""Weight-free object masks from the fused RGB-D cloud."""

from wildseg3d_ros.masks.geometric.backend import GeometricMasks

__all__ = ["GeometricMasks"]
