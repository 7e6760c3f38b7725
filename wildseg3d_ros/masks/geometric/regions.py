"""Regions of the fused surface that hold some of its patches and not others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.geometric.objects import LARGEST_EXTENT
from wildseg3d_ros.masks.geometric.surface import Surface

BIASES = (0.0, -0.4, 0.4, -0.8, 0.8, -1.2)
"""Log-odds by which regions are made smaller or larger than the evidence has them."""


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the surface.

    Attributes:
        voxels: (V,) bool.
        bias: log-odds by which the evidence was moved to get it.
        of_support: whether it is part of what seemed to be a support.
    """

    voxels: NDArray[np.bool_]
    bias: float
    of_support: bool

    @property
    def quality(self) -> float:
        """1 where the evidence was taken as it is, less the more it was moved."""
        return float(np.exp(-abs(self.bias)))


def regions_about(
    surface: Surface, on: NDArray[np.intp], off: NDArray[np.intp]
) -> Iterator[Region]:
    """Regions that hold the patches ``on`` and none of ``off``, the likeliest first.

    Patches merge best first while the evidence is positive, as all of the surface does; those off
    the region never merge with it, so that a border arises between the two where the evidence is
    least. What rises from a support is not part of it; but a support that holds one of ``on`` is
    taken for a thing. Nothing larger than an object to pick up is a region.

    Args:
        on: (n,) patches, one or more.
        off: (m,) patches, none of which is in ``on``.
    """
    planes = [
        dataclasses.replace(plane, evidence=min(plane.evidence, 0.0))
        if plane.patches[on].any()
        else plane
        for plane in surface.planes
    ]
    released = any(p.evidence > 0 and p.patches[on].any() for p in surface.planes)
    known: list[NDArray[np.bool_]] = []
    for bias in BIASES:
        if bias == 0.0 and not released and len(set(surface.clusters[on].tolist())) == 1:
            clusters = surface.clusters
            if np.isin(clusters[off], clusters[on]).any():
                clusters = surface.cluster(planes, on, off, bias)
        else:
            clusters = surface.cluster(planes, on, off, bias)
        patches = clusters == clusters[on[0]]
        voxels = patches[surface.patches.of_voxel]
        extent = np.linalg.norm(np.ptp(surface.cloud.points[voxels], axis=0))
        if extent > LARGEST_EXTENT * surface.metre:
            continue
        if not any(np.array_equal(patches, other) for other in known):
            known.append(patches)
            yield Region(voxels, bias, released)
