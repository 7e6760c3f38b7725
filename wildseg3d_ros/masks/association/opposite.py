"""Masks that share no visible surface: two sides of one body, seen by opposite cameras."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import Overlap, Samples

UNSEEN = 0.1
"""Amount of overlap evidence below which two masks share no surface."""
BEHIND = 0.7
"""Share of either mask that the other must hide."""
SEAM = 0.12
"""Width of the unseen band between two sides of a body, as a share of its size."""
CLOSED = 0.5
"""Share of the outline along which the two sides must meet."""
WORTH = 0.3
"""Evidence of a closed seam: half of a clear overlap."""


def opposite_weights(
    nodes: MaskNodes,
    samples: Samples,
    overlap: Overlap,
    amount: NDArray[np.float32],
    visibility: Visibility,
) -> NDArray[np.float32]:
    """(M, M) evidence for pairs of masks that are front and back of one body, else 0.

    Two masks are that when each hides the other in its own view, each is the only one that does,
    and their surfaces meet along most of their outline. One body behind another passes the first
    two tests and fails the third; two that touch at a point or a side fail it as well.

    Args:
        amount: (M, M) of ``overlap_weights``.
    """
    hides = _hidden_by(nodes, samples, visibility)
    share = hides / np.maximum(overlap.count, 1)[:, None]
    mutual = (share >= BEHIND) & (share.T >= BEHIND) & (amount < UNSEEN)
    weight = np.zeros(amount.shape, np.float32)
    ends = np.append(np.cumsum(overlap.count), 0)
    starts = ends[:-1] - overlap.count
    for i, j in np.argwhere(np.triu(mutual, 1)):
        one = samples.points[starts[i] : ends[i]]
        other = samples.points[starts[j] : ends[j]]
        if min(len(one), len(other)) < 16:
            continue
        if _closes(one, other, visibility.centres[nodes.view[i]]) and _closes(
            other, one, visibility.centres[nodes.view[j]]
        ):
            weight[i, j] = weight[j, i] = WORTH
    return weight


def _hidden_by(nodes: MaskNodes, samples: Samples, visibility: Visibility) -> NDArray[np.float32]:
    """(M, M) samples of the row's mask that lie behind the column's mask in its view."""
    behind = np.zeros((len(nodes), len(nodes)), np.float32)
    for b in range(nodes.views):
        row, z, pixel = visibility.look(b, samples.points, samples.view)
        front = visibility.depth[b].ravel()[pixel]
        hidden = (front > 0) & (front < z - samples.tolerance(visibility, b, z))
        node, pixel = samples.node[row[hidden]], pixel[hidden]
        for sheet in nodes.sheets(b):
            target = nodes.maps[sheet].ravel()[pixel]
            key = node[target >= 0] * len(nodes) + target[target >= 0]
            behind += np.bincount(key, minlength=len(nodes) ** 2).reshape(behind.shape)
    return behind


def _closes(
    surface: NDArray[np.float32], other: NDArray[np.float32], eye: NDArray[np.float64]
) -> bool:
    """Whether the outline of a surface, as its camera sees it, meets the other one all around."""
    middle = surface.mean(axis=0)
    forward = (middle - eye) / np.linalg.norm(middle - eye)
    across = surface - middle
    across = across - (across @ forward)[:, None] * forward
    # Directions about the line of sight: the outermost sample of each is the outline.
    right = np.linalg.svd(across, full_matrices=False)[2][0]
    up = np.cross(forward, right)
    angle = np.arctan2(across @ up, across @ right)
    radius = np.linalg.norm(across, axis=1)
    sectors = 24
    sector = np.floor((angle / (2 * np.pi) + 0.5) * sectors).astype(int) % sectors
    order = np.lexsort((radius, sector))
    outline = order[np.append(np.flatnonzero(np.diff(sector[order])), len(order) - 1)]
    size = 2.0 * float(np.quantile(radius, 0.95))
    gap, _ = KDTree(other).query(surface[outline])
    return float((gap < SEAM * size).mean()) >= CLOSED
