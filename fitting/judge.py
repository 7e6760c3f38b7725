"""How good a tree and a selection are, at the patches, before any image sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fitting.scenes import TrueGraph
from wildseg3d_ros.masks.surface.fused import scored_tree
from wildseg3d_ros.masks.surface.merge_tree import MergeTree
from wildseg3d_ros.masks.surface.model import ScoreModel
from wildseg3d_ros.masks.surface.selection import node_of_patch

MIN_VOXELS = 60
"""Smallest object that counts."""


def node_counts(tree: MergeTree, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, K + 1) voxels of each node by object, from those (P, K + 1) of the patches."""
    total = np.concatenate([counts, np.zeros((len(tree) - len(counts), counts.shape[1]))])
    for node, (one, other) in enumerate(tree.children.tolist(), start=tree.patches):
        total[node] = total[one] + total[other]
    return total


def node_ious(counts: NDArray[np.float64], patches: int) -> NDArray[np.float64]:
    """(T, K + 1) IoU of each node with each object, given ``node_counts``."""
    objects, nodes = counts[:patches].sum(axis=0), counts.sum(axis=1)
    return counts / np.maximum(nodes[:, None] + objects - counts, 1.0)


def expected_ious(counts: NDArray[np.float64], patches: int) -> NDArray[np.float64]:
    """(T,) mean over a node's voxels of its IoU with the object of each; 0 for background."""
    iou = node_ious(counts, patches)
    return (counts[:, 1:] * iou[:, 1:]).sum(axis=1) / np.maximum(counts.sum(axis=1), 1.0)


@dataclass(frozen=True, eq=False)
class Judgement:
    """Of one scene; per object that is large enough.

    Attributes:
        random_click: (K,) mean IoU of the answers to clicks all over each object.
        best_click: (K,) IoU of the node that holds most of it.
        best_node: (K,) IoU of the best node of the tree.
        scores: (n, 2) score of each selected node, and its IoU with the object that it shows most
            of; 0 for background.
    """

    random_click: NDArray[np.float64]
    best_click: NDArray[np.float64]
    best_node: NDArray[np.float64]
    scores: NDArray[np.float64]


def judge(scene: TrueGraph, model: ScoreModel) -> Judgement:
    """Merges, scores and selects as a build does, and compares with the truth."""
    tree, score, selection = scored_tree(scene.graph, model)
    nodes = selection.nodes
    counts = node_counts(tree, scene.counts)
    iou, chosen = node_ious(counts, tree.patches), node_of_patch(tree, nodes)
    size = scene.counts.sum(axis=0)
    large = np.flatnonzero(size > MIN_VOXELS)
    large = large[large > 0]
    shown = nodes[counts[nodes].sum(axis=1) > MIN_VOXELS]
    majority = counts[shown].argmax(axis=1)
    agreed = np.where(majority > 0, iou[shown, majority], 0.0)
    held = scene.counts[:, large]
    by_node = np.zeros((len(tree), len(large)))
    np.add.at(by_node, chosen, held)
    return Judgement(
        random_click=(held * iou[chosen][:, large]).sum(axis=0) / size[large],
        best_click=iou[by_node.argmax(axis=0), large],
        best_node=iou.max(axis=0)[large],
        scores=np.stack([score[shown], agreed], axis=1),
    )


def summarise(judgements: list[Judgement]) -> dict[str, float]:
    """Means over all objects of all scenes, and whether scores hold."""
    means = {
        name: float(np.concatenate([getattr(each, name) for each in judgements]).mean())
        for name in ("random_click", "best_click", "best_node")
    }
    score, iou = np.concatenate([each.scores for each in judgements]).T
    sure = score >= 0.8
    means["share_of_scores_from_0.8"] = float(sure.mean())
    means["of_these_iou_from_0.75"] = float((iou[sure] >= 0.75).mean()) if sure.any() else np.nan
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        there = (score >= low) & (score < low + 0.2 + 1e-9 * (low == 0.8))
        if there.any():
            means[f"iou_of_scores_from_{low:g}"] = float(iou[there].mean())
    return means
