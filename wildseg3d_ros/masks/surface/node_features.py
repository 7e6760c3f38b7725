"""What the learned score of a node looks at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.affinities import REACHES
from wildseg3d_ros.masks.learned.network import LIMIT
from wildseg3d_ros.masks.surface.features import NOTHING
from wildseg3d_ros.masks.surface.merge_tree import MergeTree

NODE_FEATURES = (
    "merge", "weakest_merge", "merge_above", "best_neighbour", "mean_neighbour",
    "sibling_size", "balance", "sibling_support", "area", "extent", "outline_in_contact",
    "support", "height", "at_border", "curvature", "thickness", "width", "length",
    "colour_deviation", "base", "height_range", "normals",
    "on_object", *(f"inside_{k}" for k in range(REACHES)),
    *(f"outside_{k}" for k in range(REACHES)),
)  # fmt: skip


def node_features(tree: MergeTree, layers: float, voxel_size: float) -> NDArray[np.float32]:
    """(T, len(NODE_FEATURES)) of the nodes of a merge tree.

    Args:
        tree: of the graph that has the ``layers`` and the ``voxel_size``.
    """
    shapes, children = tree.shapes, tree.children
    inner = np.arange(tree.patches, len(tree))
    above = np.where(tree.parent >= 0, tree.log_odds[tree.parent], -NOTHING)
    weakest, sibling = tree.log_odds.copy(), np.full(len(tree), -1)
    for node, (one, other) in zip(inner.tolist(), children.tolist(), strict=True):
        weakest[node] = min(weakest[node], weakest[one], weakest[other])
    sibling[children] = children[:, ::-1]
    alone = sibling < 0
    balance = np.ones(len(tree))
    balance[inner] = shapes.voxels[children].min(axis=1) / shapes.voxels[inner]
    size = shapes.high - shapes.low
    outline = 3.5 * np.sqrt(shapes.voxels / layers)
    columns = [
        *(
            np.clip(values, -NOTHING, NOTHING)
            for values in (tree.log_odds, weakest, above, tree.best_neighbour, tree.mean_neighbour)
        ),
        np.log(np.where(alone, 1.0, shapes.voxels[sibling]) / shapes.voxels),
        balance,
        np.where(alone, 0.0, shapes.support[sibling]),
        np.log(shapes.voxels * voxel_size**2 / layers + 1e-6),
        np.log(np.linalg.norm(size[:, :3], axis=1) + 1e-3),
        shapes.contact / (3.0 * layers**2) / outline,
        shapes.support,
        shapes.height,
        shapes.border,
        10.0 * shapes.curvature,
        *np.log(shapes.extents.T + 1e-3),
        np.sqrt(shapes.variance.sum(axis=1)) / 10.0,
        np.clip(shapes.low[:, 3] / 0.02, -2.0, 6.0),
        np.clip(size[:, 3] / 0.05, 0.0, 8.0),
        np.linalg.norm(shapes.normal, axis=1),
        shapes.on_object,
    ]
    for sums in (tree.inside, tree.outside):
        # Few pixels say little: one pair of no word is added.
        mean = sums[:, :REACHES] / (np.maximum(sums[:, REACHES:], 0.0) + 1.0)
        columns += list(np.clip(mean, -LIMIT, LIMIT).T)
    return np.stack(columns, axis=1).astype(np.float32)
