"""Regions of the fused surface that a prompt may mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.sources import IN_BOX
from wildseg3d_ros.masks.surface.affinities import edge_log_odds
from wildseg3d_ros.masks.surface.fused import Surface, cluster_patches
from wildseg3d_ros.masks.surface.objects import LARGEST_EXTENT
from wildseg3d_ros.masks.surface.supports import plane_tolerance

NO_BORDER = 1.0
"""Log-odds of a border from which it is none, but surface cut in two: flat surface of one colour
has as much."""
MIN_FILL = 0.5
"""Share of a box that the extent of the thing in it fills."""


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the surface.

    Attributes:
        voxels: (V,) bool.
        quality: in (0, 1], 1 where the evidence was taken as it is.
        of_support: whether it is part of what seemed to be a support.
        border: mean log-odds, over the contact with what is to be off the region, that the two
            are one thing.
    """

    voxels: NDArray[np.bool_]
    quality: float
    of_support: bool = False
    border: float = -np.inf


def regions_about(
    surface: Surface, on: NDArray[np.intp], off: NDArray[np.intp]
) -> Iterator[Region]:
    """Regions that hold the patches ``on`` and none of ``off``, the likeliest first.

    Patches merge best first while the evidence is positive, as those of the whole surface do. What
    is off the region never merges with it, so the border between the two is where the evidence is
    lowest. What rises from a support is no part of it, but a support that holds one of ``on`` is
    taken for a thing. Nothing larger than an object to pick up is a region.

    Args:
        on: (n,) patches, one or more.
        off: (m,) patches, none of which is in ``on``.
    """
    supports = [p for p in surface.planes if p.evidence > 0 and p.patches[on].any()]
    planes = [
        dataclasses.replace(plane, evidence=0.0) if plane in supports else plane
        for plane in surface.planes
    ]
    names = surface.clusters[on]
    agreed = not supports and (names == names[0]).all() and names[0] not in surface.clusters[off]
    known: list[NDArray[np.bool_]] = []
    # Log-odds by which regions are made smaller or larger than the evidence has them.
    for bias in (0.0, -0.4, 0.4, -0.8, 0.8, -1.2):
        clusters = surface.clusters
        if bias or not agreed:
            clusters = cluster_patches(surface, planes, on, off, bias)
        patches = clusters == clusters[on[0]]
        voxels = patches[surface.patches.of_voxel]
        extent = np.linalg.norm(np.ptp(surface.cloud.points[voxels], axis=0))
        if extent > LARGEST_EXTENT * surface.metric_scale:
            continue
        if any(np.array_equal(patches, other) for other in known):
            continue
        known.append(patches)
        others = np.isin(clusters, clusters[off])
        a, b = surface.patches.edges.T
        meet = (patches[a] & others[b]) | (patches[b] & others[a])
        border = -np.inf
        if meet.any():
            odds = edge_log_odds(surface.patches, planes, plane_tolerance(surface.cloud))[meet]
            border = float(np.average(odds, weights=surface.patches.contacts[meet]))
        yield Region(voxels, float(np.exp(-abs(bias))), bool(supports), border)


def regions_in_box(
    surface: Surface,
    shown: NDArray[np.int32],
    box: tuple[slice, slice],
    off: NDArray[np.intp],
) -> Iterator[Region]:
    """Regions that fill a box in a view and end in it, the likeliest first.

    That is the thing which fills the box best, and then what remains of the thing in its middle
    when all that the view shows outside the box is no part of it.

    Args:
        shown: (h, w) patch of each pixel, -1 = none.
        box: rows and columns of its pixels.
        off: (m,) patches that are not part of the thing.
    """
    support = np.zeros(len(surface.patches), np.bool_)
    for plane in surface.planes:
        support |= plane.patches & (plane.evidence > 0)
    visible = shown[box][shown[box] >= 0]
    inside = visible[~support[visible] & ~np.isin(visible, off)]
    if not len(inside):
        return
    cluster_of_pixel = np.where(shown >= 0, surface.clusters[shown], -1)
    names = np.setdiff1d(surface.clusters[inside], surface.clusters[off])
    shares = [fills_box(cluster_of_pixel == name, box) for name in names]
    if max(shares, default=0.0) > 0.0:
        best = names[int(np.argmax(shares))]
        yield Region((surface.clusters == best)[surface.patches.of_voxel], 1.0)
    within = np.bincount(visible, minlength=len(support))
    everywhere = np.bincount(shown[shown >= 0], minlength=len(support))
    beyond = np.flatnonzero(everywhere > 2 * within)
    middle = int(np.bincount(inside).argmax())
    if middle not in beyond:
        yield from regions_about(surface, np.array([middle]), np.union1d(beyond, off))


def fills_box(mask: NDArray[np.bool_], box: tuple[slice, slice]) -> float:
    """Share of a box that the extent of a mask (h, w) fills; 0 where it is too little for the mask
    to be meant, or the mask goes on beyond the box."""
    inside = mask[box]
    if not inside.any() or inside.sum() < IN_BOX * mask.sum():
        return 0.0
    rows, columns = np.nonzero(inside)
    share = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / inside.size
    return float(share) if share >= MIN_FILL else 0.0
