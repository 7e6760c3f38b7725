"""Which selected nodes are objects; the rest is background, or too small to say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components
from wildseg3d_ros.masks.surface.fused import Surface
from wildseg3d_ros.masks.surface.selection import node_of_patch

UNKNOWN = -1
"""Label of surface that is neither an object nor large enough to be background for certain."""
MIN_SCORE = 0.3
"""Expected IoU from which a node is taken for an object: below it lies background, as simulated
scenes show."""
FRAGMENT = 40
"""Voxels below which connected surface that is of no object may be part of its neighbour."""


def objects_of(surface: Surface) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The nodes (K,) that are objects, from large to small, and the label (V,) of each voxel: 0
    background, k + 1 the k-th object, or UNKNOWN."""
    nodes, voxels = surface.nodes, surface.tree.shapes.voxels
    patch_of, edges = surface.fused.patches.of_voxel, surface.fused.cloud.edges
    found = nodes[(surface.score[nodes] >= MIN_SCORE) & ~_mirrored(surface)[nodes]]
    found = found[np.argsort(-voxels[found], kind="stable")]
    of_node = np.zeros(len(surface.tree), np.int32)
    of_node[found] = np.arange(1, len(found) + 1)
    label = of_node[node_of_patch(surface.tree, nodes)[patch_of]]
    group = components(len(label), edges[(label[edges] == 0).all(axis=1)])
    label[(label == 0) & (np.bincount(group, minlength=len(label))[group] < FRAGMENT)] = UNKNOWN
    return found, label


def _mirrored(surface: Surface) -> NDArray[np.bool_]:
    """(T,) nodes that lie behind a support without depth: what a shiny floor mirrors."""
    fused, tree = surface.fused, surface.tree
    behind = np.zeros(len(tree))
    behind[: tree.patches] = fused.behind_supports()
    for node, (one, other) in enumerate(tree.children.tolist(), start=tree.patches):
        behind[node] = behind[one] + behind[other]
    return behind > 0.8 * tree.shapes.voxels
