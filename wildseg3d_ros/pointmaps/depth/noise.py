"""The confidence of each pixel of a depth image: a noise model of depth cameras.

The axial noise follows Nguyen, Izadi and Lovell, "Modeling Kinect sensor noise for improved 3D
reconstruction and tracking", 3DIMPVT 2012, eq. 4: a constant, a term with the square of the range
(triangulation turns a constant disparity error into one that grows with z^2; structured light,
active stereo and, roughly, time of flight), and a term that diverges at grazing incidence. Where
the depth is rougher than the model says (shiny or dark surfaces, other sensors), the measured
roughness counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.core.geometry.surface import LocalPlanes, local_planes
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA, edge_quality


@dataclass(frozen=True)
class DepthNoise:
    """Axial noise of a depth camera, ``constant + quadratic * (z - 0.4)^2`` at frontal incidence.

    Attributes:
        constant: metres, noise at close range.
        quadratic: 1 / metre, growth with the square of the range.
    """

    constant: float = 0.0012
    quadratic: float = 0.0019

    def sigma(self, depth: NDArray, incidence: NDArray | float = 0.0) -> NDArray[np.float32]:
        """Standard deviation [m] along the optical axis at depths [m] of any shape, seen at an
        angle of incidence [rad] in [0, pi/2)."""
        depth = np.asarray(depth, dtype=np.float32)
        frontal = self.constant + self.quadratic * np.maximum(depth - 0.4, 0.0) ** 2
        from_grazing = np.maximum(np.pi / 2 - incidence, 1e-3)
        angular = 1e-4 / np.sqrt(np.maximum(depth, 0.05)) * (incidence / from_grazing) ** 2
        return (frontal + angular).astype(np.float32)


def depth_confidence(
    depth: NDArray[np.float32], K: NDArray, noise: DepthNoise
) -> tuple[NDArray[np.float32], LocalPlanes]:
    """Confidence (H, W), see :mod:`wildseg3d_ros.pointmaps.confidence`, and local planes.

    It is lowered next to depth edges, and 0 where there is no depth and at flying pixels.

    Args:
        depth: (H, W) metres, 0 = none.
    """
    frontal = noise.sigma(depth)
    radius = max(2, round(max(depth.shape) / 160))
    planes = local_planes(depth, K, frontal, radius)
    ray = rays(K, *depth.shape)
    cosine = -np.einsum("hwi,hwi->hw", planes.normals, ray) / np.linalg.norm(ray, axis=-1)
    has_normal = np.isfinite(planes.roughness)
    # Without a normal the surface is rough, thin or far from its neighbours: 60 degrees.
    incidence = np.where(has_normal, np.arccos(np.clip(cosine, 0.0, 1.0)), np.pi / 3)
    excess = np.where(has_normal, planes.roughness, 2.0 * frontal)
    sigma = np.hypot(noise.sigma(depth, incidence), np.maximum(excess - frontal, 0.0))
    sigma = np.hypot(sigma, np.maximum(np.abs(planes.offset) - 2.0 * frontal, 0.0))
    confidence = UNIT_SIGMA / sigma * edge_quality(depth, K, frontal)
    confidence[depth <= 0] = 0.0
    return confidence.astype(np.float32), planes
