"""Log-odds that two touching supervoxels belong to one object, from several weak cues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.geometric.supervoxels import Supervoxels
from wildseg3d_ros.masks.geometric.supports import Plane

CONCAVE_ANGLE = np.deg2rad(15.0)
"""A crease this concave says neither that the sides belong together nor that they do not."""
COLOUR_STEP = 12.0
"""Distance in Lab at which colour turns from evidence for into evidence against one object."""


def edge_log_odds(
    patches: Supervoxels,
    same_region: NDArray[np.float64],
    in_view: NDArray[np.float64],
    planes: Sequence[Plane],
    tolerance: float,
) -> NDArray[np.float64]:
    """(E,) log-odds per supervoxel edge.

    Args:
        same_region, in_view: votes of the images as `region_votes` counts them.
        planes: what rises from a support does not belong to it.
        tolerance: distance from a plane within which a patch can be part of it, scene units.
    """
    turn = _signed_angle(patches)
    # Convex and flat surface holds together, a concave crease is where bodies meet.
    shape = np.where(turn < 0, np.clip(1.0 + turn / CONCAVE_ANGLE, -3.0, 1.0), 1.0)
    a, b = patches.edges.T
    # Lightness counts less than hue: shading changes it on one object.
    step = np.linalg.norm((patches.lab[a] - patches.lab[b]) * [0.7, 1.0, 1.0], axis=1)
    colour = np.clip(0.5 * (1.0 - step / COLOUR_STEP), -1.5, 0.5)
    vote = 3.0 * ((same_region + 0.5) / (in_view + 1.0) - 0.5)
    # A convex edge between bodies is rare, a step in shading across one is not.
    folded = np.clip(turn / np.deg2rad(40.0), 0.0, 1.0)
    appearance = (colour + vote) * np.where(colour + vote < 0, 1.0 - 0.6 * folded, 1.0)
    return shape + 0.5 * folded + appearance + _rise_over_supports(patches, planes, tolerance)


def _signed_angle(patches: Supervoxels) -> NDArray[np.float64]:
    """(E,) angle between the normals [rad], negative where the crease is concave."""
    a, b = patches.edges.T
    apart = patches.centres[a] - patches.centres[b]
    opening = ((patches.normals[a] - patches.normals[b]) * apart).sum(axis=1)
    cosine = (patches.normals[a] * patches.normals[b]).sum(axis=1)
    return np.arccos(np.clip(cosine, -1.0, 1.0)) * np.where(opening < 0, -1.0, 1.0)


def _rise_over_supports(
    patches: Supervoxels, planes: Sequence[Plane], tolerance: float
) -> NDArray[np.float64]:
    a, b = patches.edges.T
    odds = np.zeros(len(patches.edges))
    for plane in planes:
        if plane.evidence <= 0:
            continue
        height = (patches.centres @ plane.normal - plane.offset) / tolerance
        for one, other in ((a, b), (b, a)):
            leaves = plane.patches[one] & ~plane.patches[other]
            rise = np.clip(height[other[leaves]], -0.5, 2.0)
            odds[leaves] -= rise * min(plane.evidence, 2.0)
    return odds
