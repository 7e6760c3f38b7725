"""Angles of the creases between touching patches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.surface.supervoxels import Supervoxels


def crease_angles(patches: Supervoxels) -> NDArray[np.float64]:
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
