"""Segments of the surface: a node of the tree of masks, or the nodes of an object."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.core.types.tree import MIN_SCORE, SAME
from wildseg3d_ros.scene.scene import Scene


class Segment(NamedTuple):
    """A segment of the surface.

    Attributes:
        nodes: of the tree, disjoint and sorted.
        object_id: of the object that it is, 0 = none.
        score: expected IoU with what a click on it means, in [0, 1].
    """

    nodes: tuple[int, ...]
    object_id: int
    score: float


def object_segment(scene: Scene, object_id: int) -> Segment:
    """An object of any level.

    Raises:
        PromptError: the scene has no such object (UNKNOWN_OBJECT).
    """
    nodes = scene.object_tree.nodes.get(int(object_id))
    if nodes is None:
        known = scene.index.ids
        listed = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
        raise PromptError(
            f"the scene {scene.scene_id} has no object {object_id}; its objects are "
            f"{listed or 'none'}. A build gives new ids",
            ErrorCode.UNKNOWN_OBJECT,
        )
    said = [each.score for each in scene.masks.objects if each.object_id == object_id]
    score = said[0] if said and said[0] == said[0] else _mean_score(scene, nodes)
    return Segment(nodes, int(object_id), score)


def nodes_segment(scene: Scene, nodes: Collection[int]) -> Segment:
    """Nodes, which may be an object."""
    key = tuple(nodes)
    object_id = scene.object_tree.id_of_nodes.get(key, 0)
    if object_id:
        return object_segment(scene, object_id)
    return Segment(key, 0, _mean_score(scene, key))


def _mean_score(scene: Scene, nodes: Collection[int]) -> float:
    score = scene.object_tree.tree.score
    return sum(float(score[node]) for node in nodes) / max(1, len(nodes))


def holds(scene: Scene, segment: Segment, leaf: int) -> bool:
    """Whether a segment has a leaf."""
    tree = scene.object_tree.tree
    return any(tree.start[node] <= leaf < tree.stop[node] for node in segment.nodes)


def best_segment(
    scene: Scene, on: Collection[int], off: Iterable[int], floor: float
) -> Segment | None:
    """The node or object of the highest score that holds the leaves ``on``, one or more, and none
    of ``off``; the larger one of two that are as good. None where no score reaches the floor."""
    first = next(iter(on))
    nodes = [nodes_segment(scene, [node]) for node in scene.object_tree.tree.path(first)]
    objects = [object_segment(scene, i) for i in scene.object_tree.several]
    off, best = list(off), None
    for each in (*nodes, *objects):
        fits = all(holds(scene, each, leaf) for leaf in on)
        if not fits or each.score < max(floor, best.score if best else 0.0):
            continue
        if not any(holds(scene, each, leaf) for leaf in off):
            best = each
    return best


def finer_segment(scene: Scene, segment: Segment, leaf: int, steps: int) -> Segment:
    """The part of a segment that holds a leaf, and the part of that: so many steps down, or as far
    as there are any. It is the best node on the leaf's way up that is another thing than the
    segment: what has nearly all of its points is the segment once more."""
    counts = node_counts(scene)
    for _ in range(steps):
        most = SAME * int(counts[list(segment.nodes)].sum())
        inner = [
            nodes_segment(scene, [node])
            for node in scene.object_tree.tree.path(leaf)
            if 0 < counts[node] < most
        ]
        best = max(reversed(inner), key=lambda each: each.score, default=None)
        if best is None or best.score < MIN_SCORE:
            break
        segment = best
    return segment


def node_counts(scene: Scene) -> NDArray[np.int64]:
    """(T,) number of points of each node."""
    tree, offsets = scene.object_tree.tree, scene.index.leaf_offsets
    return offsets[tree.stop] - offsets[tree.start]


def segment_at(
    scene: Scene, view: int, row: int, column: int, level: int
) -> tuple[Segment, int] | None:
    """What a pixel shows at a level (0 = whole) or at the next coarser one that has something, and
    the pixel's leaf; None where there is background.

    That is the object whose label the pixel has, or the best node that holds its leaf, and of
    these, where the back end knows a tree and no finer object is there, the part by the tree.
    """
    leaf = int(scene.object_tree.tree.leaves[view][row, column])
    label, found = _label_at(scene, view, row, column, level)
    if label:
        segment = object_segment(scene, label)
    else:
        if leaf < 0:
            return None
        tree = scene.object_tree.tree
        segment, found = nodes_segment(scene, [int(tree.best_above[leaf])]), 0
        if segment.score < MIN_SCORE:
            return None
    if found < level and leaf >= 0 and not scene.object_tree.derived:
        segment = finer_segment(scene, segment, leaf, level - found)
    return segment, leaf


def _label_at(scene: Scene, view: int, row: int, column: int, level: int) -> tuple[int, int]:
    """Object of a pixel at the level, or at the next coarser one that has any, and its level; 0 =
    none.

    Where the view has a mask of a finer level alone, it is what that is a part of, at the level
    if there is one.
    """
    maps = scene.masks.maps
    for k in reversed(range(min(level + 1, len(maps)))):
        if label := int(maps[k][view][row, column]):
            return label, k
    for labels in maps[level + 1 :]:
        found = int(labels[view][row, column])
        while found:
            record = scene.masks.record(found)
            if LEVELS.index(record.level) <= level or not record.parent:
                return found, LEVELS.index(record.level)
            found = record.parent
    return 0, 0
