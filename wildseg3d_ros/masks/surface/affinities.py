"""Log-odds that two touching supervoxels belong to one object, from several weak cues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.observations import colour_distance
from wildseg3d_ros.masks.surface.supervoxels import Supervoxels
from wildseg3d_ros.masks.surface.supports import Plane


def edge_log_odds(
    patches: Supervoxels, planes: Sequence[Plane], tolerance: float
) -> NDArray[np.float64]:
    """(E,) log-odds per supervoxel edge.

    The weights of the cues were set on several recordings at once: a shelf, a simulated table and
    single views of real tables.

    Args:
        planes: what rises from a support does not belong to it.
        tolerance: distance from a plane within which a patch can be part of it, scene units.
    """
    angle = _crease_angle(patches)
    # Convex and flat surface holds together, a concave crease is where bodies meet; one of 10
    # degrees is no evidence, one of 33 or more has all that a crease can have against one object.
    shape = np.clip(1.0 + np.minimum(angle, 0.0) / np.deg2rad(10.0), -2.3, 1.0)
    # From 1 for to 1 against; half a vote of either kind is added, so that no view is no evidence.
    vote = 2.0 * ((patches.same + 0.5) / (patches.both + 1.0) - 0.5)
    appearance = _colour(patches, patches.edges) + vote
    # A convex edge between bodies is rare, a step in shading across one is not. From 40 degrees an
    # edge is clear: it has 0.5 for one object, and takes 60 % off what appearance has against.
    folded = np.clip(angle / np.deg2rad(40.0), 0.0, 1.0)
    appearance *= np.where(appearance < 0, 1.0 - 0.6 * folded, 1.0)
    return shape + 0.5 * folded + appearance + _rise_over_supports(patches, planes, tolerance)


def gap_log_odds(patches: Supervoxels, gaps: NDArray[np.int32]) -> NDArray[np.float64]:
    """(G,) log-odds of patches that only meet in an image, inside one region."""
    # One region on both sides of a gap is weak evidence: a contact of flat surface has 1.
    return 0.2 + _colour(patches, gaps)


def _colour(patches: Supervoxels, pairs: NDArray[np.int32]) -> NDArray[np.float64]:
    """(n,) log-odds by colour: none at a distance of 12 in Lab, which shading makes on one object;
    0.35 for equal colours, and at most three times that against."""
    step = colour_distance(patches.lab[pairs[:, 0]] - patches.lab[pairs[:, 1]])
    return 0.35 * np.clip(1.0 - step / 12.0, -3.0, 1.0)


def _crease_angle(patches: Supervoxels) -> NDArray[np.float64]:
    """(E,) angle of the crease at each contact [rad], negative where it is concave.

    It is the angle between the surfaces on both sides, each the patch at the contact together with
    the patches behind it, less the curvature of these sides themselves: a bowl is concave all
    over and has no crease.
    """
    edges = patches.edges
    count = len(edges)
    # Every edge twice, once for each side: the side's patch and the patch across the contact.
    side = np.concatenate([edges[:, 0], edges[:, 1]])
    across = np.concatenate([edges[:, 1], edges[:, 0]])
    order = np.argsort(side, kind="stable")
    degree = np.bincount(side, minlength=len(patches))
    first = np.concatenate([[0], np.cumsum(degree)[:-1]])
    repeat = degree[side]
    which = np.repeat(np.arange(2 * count), repeat)
    step = np.arange(len(which)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    behind = across[order[first[side[which]] + step]]
    forward = _unit(patches.centres[side] - patches.centres[across])
    onward = _unit(patches.centres[behind] - patches.centres[side[which]])
    # The patch behind must continue the side, not lie beyond a crease of its own: both cosines
    # are above 0.5, 60 degrees.
    weight = np.maximum((onward * forward[which]).sum(axis=1) - 0.5, 0.0) * patches.count[behind]
    weight *= (patches.normals[behind] * patches.normals[side[which]]).sum(axis=1) > 0.5
    total = np.bincount(which, weight, 2 * count)

    def rear(values: NDArray) -> NDArray[np.float64]:
        sums = [np.bincount(which, weight * values[behind, k], 2 * count) for k in range(3)]
        return np.stack(sums, axis=1).astype(np.float64)

    rear_normal, rear_centre = rear(patches.normals), rear(patches.centres)
    mass = patches.count[side, None]
    normal = _unit(patches.normals[side] * mass + rear_normal)
    centre = (patches.centres[side] * mass + rear_centre) / (mass + total[:, None])
    angle = _signed_angle(normal[:count], centre[:count], normal[count:], centre[count:])
    known = total > 0
    curvature = np.zeros(2 * count)
    curvature[known] = _signed_angle(
        patches.normals[side[known]],
        patches.centres[side[known]],
        _unit(rear_normal[known]),
        rear_centre[known] / total[known, None],
    )
    curvature = np.minimum(curvature, 0.0)
    own = curvature[:count] + curvature[count:]
    return np.where(angle < 0, np.minimum(angle - own, 0.0), angle)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _signed_angle(
    normal_a: NDArray, centre_a: NDArray, normal_b: NDArray, centre_b: NDArray
) -> NDArray[np.float64]:
    """(M,) angles between the normals [rad], negative where the surface between is concave."""
    opening = ((normal_a - normal_b) * (centre_a - centre_b)).sum(axis=1)
    cosine = (normal_a * normal_b).sum(axis=1)
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
        # Nothing goes through a support: what seems to is a mirror image in it.
        through = (height[a] > 0) != (height[b] > 0)
        through &= ~plane.patches[a] & ~plane.patches[b]
        odds[through] -= 2.0 * min(plane.evidence, 2.0)
        for one, other in ((a, b), (b, a)):
            leaves = plane.patches[one] & ~plane.patches[other]
            # In tolerances: from two on a patch stands clear of the plane. Below it lies noise,
            # which gains a quarter of that at most.
            rise = np.clip(height[other[leaves]], -0.5, 2.0)
            odds[leaves] -= rise * min(plane.evidence, 2.0)
    return odds
