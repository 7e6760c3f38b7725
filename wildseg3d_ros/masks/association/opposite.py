"""Masks that share no visible surface: two sides of one body, seen by opposite cameras."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.geometry.visibility import Visibility
from wildseg3d_ros.masks.association.evidence import Evidence, values_at
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.overlap import Overlap, Samples, meeting_pairs

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


def add_opposite_sides(
    nodes: MaskNodes,
    samples: Samples,
    overlap: Overlap,
    evidence: Evidence,
    visibility: Visibility,
) -> Evidence:
    """The evidence, with that for pairs of masks that are front and back of one body.

    Two masks are that when each hides the other in its own view, each is the only one that does,
    and their surfaces meet along most of their outline. One body behind another passes the first
    two tests and fails the third; two that touch at a point or a side fail it as well.

    Args:
        evidence: of ``overlap_evidence``.
    """
    i, j = meeting_pairs(overlap.hidden)
    mutual = evidence.amounts(i, j) < UNSEEN
    for one, other in ((i, j), (j, i)):
        hidden = values_at(overlap.hidden, one, other)
        mutual &= hidden >= BEHIND * np.maximum(overlap.count[one], 1)
    ends = np.append(np.cumsum(overlap.count), 0)
    starts = ends[:-1] - overlap.count
    closed = []
    for a, b in zip(i[mutual], j[mutual], strict=True):
        one = samples.points[starts[a] : ends[a]]
        other = samples.points[starts[b] : ends[b]]
        closed.append(
            min(len(one), len(other)) >= 16
            and _closes(one, other, visibility.centres[nodes.view[a]])
            and _closes(other, one, visibility.centres[nodes.view[b]])
        )
    i, j = i[mutual][np.array(closed, np.bool_)], j[mutual][np.array(closed, np.bool_)]
    worth = np.full(len(i), WORTH)
    looked = np.zeros_like(evidence.looked)
    return evidence + Evidence.of_pairs(looked, nodes.sheet, i, j, worth, worth)


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
