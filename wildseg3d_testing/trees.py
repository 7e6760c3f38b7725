"""Trees of masks of constructed scenes, whose nodes and scores are the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import MaskCache, MaskTree
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_testing.scenes import ConstructedScene


class TrueTree(NamedTuple):
    """A tree, and its node of each thing by label; label 0 is the background's."""

    tree: MaskTree
    node_of: dict[int, int]


def true_tree(
    truth: ConstructedScene,
    edge: float = 0.03,
    seed: int = 0,
    joined: Collection[tuple[int, int]] = (),
) -> TrueTree:
    """A random binary tree over the patches of each thing, and over the things up to one root.

    Patches are what is of one thing in a cube, of which one is about the origin. A node's score is
    its IoU, in pixels of all views, with the thing that has most of its pixels; that of background
    is 0.

    Args:
        truth: the constructed scene.
        edge: of the cubes [m]; background has cubes of ten times that.
        seed: of the merges.
        joined: labels whose patches are not told apart where they share a cube.
    """
    rng = np.random.default_rng(seed)
    same = {other: one for one, other in joined}
    patches, label_of_patch = _patches(truth, edge, same)
    parent = [-1] * len(label_of_patch)
    groups = {
        label: np.flatnonzero(label_of_patch == label).tolist()
        for label in np.unique(label_of_patch).tolist()
    }

    def merged(nodes: list[int]) -> int:
        while len(nodes) > 1:
            a, b = (nodes.pop(int(rng.integers(len(nodes)))) for _ in range(2))
            parent[a] = parent[b] = len(parent)
            parent.append(-1)
            nodes.append(len(parent) - 1)
        return nodes[0]

    node_of = {label: merged(nodes) for label, nodes in groups.items()}
    background = node_of.pop(0)
    merged([merged(list(node_of.values())), background])
    node_of[0] = background
    score = np.zeros(len(parent), np.float32)
    tree, number = MaskTree.of_parents(patches, np.array(parent), score)
    tree = dataclasses.replace(tree, score=_true_scores(tree, truth))
    return TrueTree(tree, {label: int(number[node]) for label, node in node_of.items()})


def treed_cache(
    truth: ConstructedScene, made: TrueTree, object_ids: Collection[int] | None = None
) -> MaskCache:
    """The true labels of some of the things, by default all that are seen, as nodes of a tree."""
    known = set(made.node_of) - {0} if object_ids is None else set(object_ids)
    labels = tuple(
        np.where(np.isin(m, sorted(known)), m, 0).astype(np.int32) for m in truth.labels
    )
    scores = tuple((m > 0).astype(np.float32) for m in labels)
    records = tuple(
        dataclasses.replace(each, nodes=(made.node_of[each.object_id],))
        for each in describe_objects([labels], scores)
    )
    ids = tuple(each.object_id for each in records)
    return MaskCache(labels, scores, ids, objects=records, tree=made.tree)


def merged_cache(
    truth: ConstructedScene, made: TrueTree, objects: Mapping[int, Sequence[int]]
) -> MaskCache:
    """A cache with a tree; ``objects``: the labels of the true things that each object is, by its
    id."""
    cache = treed_cache(truth, made, objects)
    tree = made.tree
    nodes = {
        i: tree.cover(tree.leaves_of([made.node_of[k] for k in labels if k in made.node_of]))
        for i, labels in objects.items()
    }
    maps = []
    for labels in truth.labels:
        merged = np.zeros_like(labels)
        for object_id, of_object in objects.items():
            merged[np.isin(labels, of_object)] = object_id
        maps.append(merged)
    records = tuple(
        dataclasses.replace(each, nodes=nodes[each.object_id])
        for each in describe_objects([tuple(maps)], cache.scores)
    )
    return cache.with_masks([tuple(maps)], cache.scores, records, tree)


def _patches(
    truth: ConstructedScene, edge: float, same: dict[int, int]
) -> tuple[list[NDArray[np.int32]], NDArray[np.int32]]:
    """Per view (H, W) int32 patch of each pixel, -1 = none, and (P,) label of each patch."""
    keys = []
    for labels, points in zip(truth.labels, truth.points, strict=True):
        label = np.array([same.get(k, k) for k in range(int(labels.max()) + 1)])[labels]
        size = np.where(label > 0, edge, 10 * edge)[..., None]
        with np.errstate(invalid="ignore"):
            cube = np.floor(points / size + 0.5)
        keys.append(np.concatenate([label[..., None], cube], axis=2))
    every = np.concatenate([key.reshape(-1, 4) for key in keys])
    there = np.isfinite(every).all(axis=1)
    cubes, place = np.unique(every[there], axis=0, return_inverse=True)
    of_pixel = np.full(len(every), -1, np.int32)
    of_pixel[there] = place.ravel()
    sizes = np.cumsum([labels.size for labels in truth.labels])[:-1]
    maps = zip(np.split(of_pixel, sizes), truth.labels, strict=True)
    return [each.reshape(m.shape) for each, m in maps], cubes[:, 0].astype(np.int32)


def _true_scores(tree: MaskTree, truth: ConstructedScene) -> NDArray[np.float32]:
    """(T,) IoU of each node with the thing that has most of it."""
    labels = np.concatenate([m.ravel() for m in truth.labels])
    leaves = np.concatenate([m.ravel() for m in tree.leaves])
    count = int(labels.max()) + 1
    table = np.zeros((tree.leaf_count, count), np.int64)
    np.add.at(table, (leaves[leaves >= 0], labels[leaves >= 0]), 1)
    areas = np.stack([tree.sums(column) for column in table.T], axis=1)
    best = areas.argmax(axis=1)
    both = areas[np.arange(len(tree)), best]
    either = areas.sum(axis=1) + np.bincount(labels, minlength=count)[best] - both
    return np.where(best > 0, both / np.maximum(either, 1), 0).astype(np.float32)
