"""Supports without depth: a shiny floor shows the sensor the objects mirrored in it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from wildseg3d_ros.masks.surface.supervoxels import Supervoxels
from wildseg3d_ros.masks.surface.supports import Plane, plane_tolerance
from wildseg3d_ros.masks.surface.votes import Votes
from wildseg3d_ros.masks.surface.voxels import VoxelCloud

CLEAR_DIP = 0.3
"""At a support, the votes of one object or more drop by this share of an object's usual votes."""
FAINT_DIP = 0.2
"""At the same height, those of a second object drop by this share: one alone may be a print."""


def find_hidden_support(
    cloud: VoxelCloud,
    patches: Supervoxels,
    votes: Votes,
    walls: Sequence[Plane],
    clusters: NDArray[np.int64],
    cameras: NDArray[np.float64],
) -> Plane | None:
    """The plane, without patches, square to two walls on which several objects end in the images;
    None without one.

    In depth an object and its mirror image are one body. In the images there is a border between
    them, and it lies at one height for all objects that stand on the support. A border at the same
    height on two bodies is no print.

    Args:
        walls: planes that are background.
        clusters: (P,) bodies, as far as they are known without the support.
        cameras: (N, 3) positions; all are on the side that the plane's normal points to.
    """
    tolerance = plane_tolerance(cloud)
    inside = np.ones(len(cloud), np.bool_)
    for wall in walls:
        inside &= ~wall.patches[patches.of_voxel]
        inside &= cloud.points @ wall.normal - wall.offset > -tolerance
    body = clusters[patches.of_voxel]
    a, b = cloud.edges.T
    within = inside[a] & inside[b] & (body[a] == body[b]) & (votes.both > 0)
    a, b = a[within], b[within]
    same, both = votes.same[within], votes.both[within]
    best, plane = 0.0, None
    for normal in _free_directions(walls):
        height = cloud.points @ normal
        # Edges within 53 degrees of the normal: others hardly cross a border at one height.
        steep = np.abs(height[a] - height[b]) > 0.6 * np.linalg.norm(
            cloud.points[a] - cloud.points[b], axis=1
        )
        if not steep.any():
            continue
        middle = (height[a[steep]] + height[b[steep]]) / 2
        votes_here = body[a[steep]], same[steep], both[steep]
        highest = float((cameras @ normal).min())
        offset, score = _common_border(middle, *votes_here, cloud.size, highest)
        if score > best:
            nothing = np.zeros(len(patches), np.bool_)
            best, plane = score, Plane(normal, offset, nothing, evidence=2.0)  # all that counts
    return plane


def _free_directions(walls: Sequence[Plane]) -> list[NDArray[np.float64]]:
    """Directions square to two walls in which no support is known, both signs.

    Walls at less than 53 degrees (sine 0.8) fix none; within 18 degrees two are one (cosine 0.95),
    and within 26 of a wall's normal (0.9) the support is known.
    """
    directions: list[NDArray[np.float64]] = []
    for one, other in itertools.combinations(walls, 2):
        across = np.cross(one.normal, other.normal)
        length = np.linalg.norm(across)
        if length < 0.8:
            continue
        for normal in (across / length, -across / length):
            if all(normal @ known < 0.95 for known in directions) and all(
                normal @ wall.normal < 0.9 for wall in walls
            ):
                directions.append(normal)
    return directions


def _common_border(
    middle: NDArray[np.float64],
    body: NDArray[np.int64],
    same: NDArray[np.float32],
    both: NDArray[np.float32],
    step: float,
    highest: float,
) -> tuple[float, float]:
    """Height at which the votes of two or more bodies drop together, and how clear the drop is, 0
    without one.

    Args:
        middle: (M,) heights of steep voxel edges inside bodies.
        body: (M,) which body.
        same, both: (M,) votes.
        step: resolution of the search.
        highest: the border lies below this height.
    """
    low = float(middle.min())
    bins = int((middle.max() - low) / step) + 1
    slot = np.minimum(((middle - low) / step).astype(np.int64), bins - 1)
    names, index = np.unique(body, return_inverse=True)
    flat = index.reshape(-1) * bins + slot

    def profile(values: NDArray | None) -> NDArray[np.float64]:
        counts = np.bincount(flat, values, len(names) * bins)
        return counts.reshape(len(names), bins).astype(np.float64)

    agreed, asked, length = profile(same), profile(both), profile(None)
    share = agreed / np.maximum(asked, 1.0)
    total = length.sum(axis=1, keepdims=True)
    below = np.cumsum(length, axis=1) / np.maximum(total, 1.0)
    # A body counts where it is cut in two, not where it ends (3 %) or in its upper part (60 %:
    # images are smaller than their bodies); neither do fragments (2 %), nor fewer than 30 votes.
    cut = (asked >= 30) & (below > 0.03) & (below < 0.6) & (total > 0.02 * total.sum())
    dip = np.zeros_like(share)
    for k in range(len(names)):
        usual = np.median(share[k, asked[k] >= 30]) if (asked[k] >= 30).any() else 0.0
        if usual > 0:
            dip[k] = np.clip(1.0 - share[k] / usual, 0.0, 1.0)
    dip *= cut
    # Two walls give the direction to a degree or two: over a shelf, heights agree to a few voxels.
    near_dip = maximum_filter1d(dip, 5, axis=1)
    clear = (near_dip > CLEAR_DIP).any(axis=0) & ((near_dip > FAINT_DIP).sum(axis=0) >= 2)
    # Bodies that pass through this height without a border speak against a support.
    weight = np.sqrt(length) * cut
    score = (weight * (near_dip - FAINT_DIP)).sum(axis=0)
    score[~clear] = 0.0
    score[low + step * np.arange(bins) > highest] = 0.0
    # Mirror images are fainter and fewer than what they are images of: two fifths at most.
    score[np.cumsum(length.sum(axis=0)) > 0.4 * total.sum()] = 0.0
    if score.max(initial=0.0) <= 0:
        return 0.0, 0.0
    peak = int(score.argmax())
    near = np.arange(max(0, peak - 3), min(bins, peak + 4))
    drop = (weight * dip)[:, near].sum(axis=0)
    centre = float((near * drop).sum() / drop.sum())
    return low + (centre + 0.5) * step, float(score[peak])
